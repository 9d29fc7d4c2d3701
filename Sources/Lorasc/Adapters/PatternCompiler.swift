/// Turns the text of a pattern into a program, in one pass.
///
/// There is no syntax tree and no recursion: open groups are kept on an array, and since all
/// jumps are relative, a repetition copies the instructions of what it repeats.
struct PatternCompiler {
  let input: [Unicode.Scalar]
  var position = 0
  private var program: [Pattern.Instruction] = []
  private var sets: [PatternSet] = []
  private var groups = [Group(start: 0)]
  private var names: Set<[Unicode.Scalar]> = []
  private var last = Last.nothing

  /// A group whose parenthesis is still open; the first one is the whole pattern.
  private struct Group {
    /// Where its first instruction is.
    let start: Int
    /// Where its last alternative begins.
    var branchStart: Int
    /// The jumps from the ends of earlier alternatives to the end of the group.
    var jumps: [Int] = []

    init(start: Int) {
      self.start = start
      branchStart = start
    }
  }

  /// What a quantifier at this place would repeat.
  private enum Last {
    case nothing
    /// All instructions from here on.
    case atom(start: Int)
    case repetition
  }

  init(_ text: String) { input = Array(text.unicodeScalars) }

  mutating func compile() throws(PatternSyntaxError) -> ([Pattern.Instruction], [PatternSet]) {
    guard input.count <= Pattern.maximumLength else {
      throw PatternSyntaxError("is longer than \(Pattern.maximumLength) characters")
    }
    while let scalar = take() {
      try compileItem(scalar)
      guard program.count < Pattern.maximumInstructions else { throw Self.tooLarge }
    }
    guard groups.count == 1 else { throw PatternSyntaxError("lacks a closing parenthesis") }
    endAlternatives(of: groups[0])
    program.append(.accept)
    return (program, sets)
  }

  private mutating func compileItem(_ scalar: Unicode.Scalar) throws(PatternSyntaxError) {
    switch scalar {
    case "(": try openGroup()
    case ")": try closeGroup()
    case "|": beginAlternative()
    case "*": try repeatLast(from: 0, to: nil)
    case "+": try repeatLast(from: 1, to: nil)
    case "?": try repeatLast(from: 0, to: 1)
    case "{":
      if let (low, high) = takeBounds() {
        try repeatLast(from: low, to: high)
      } else {
        add(.scalar("{"))
      }
    case "^": add(.start)
    case "$": add(.endOrLastNewline)
    case ".": add(.anyButNewline)
    case "[": add(try takeSet())
    case "\\": try compileEscape()
    default: add(.scalar(scalar))
    }
  }

  private mutating func compileEscape() throws(PatternSyntaxError) {
    switch peek() {
    case "A": addEscaped(.start)
    case "Z": addEscaped(.end)
    case "b": addEscaped(.wordBoundary)
    case "B": addEscaped(.notWordBoundary)
    default:
      switch try takeEscape() {
      case .scalar(let scalar): add(.scalar(scalar))
      case .category(let category, let negated):
        add(PatternSet(members: [.category(category, negated: negated)]))
      }
    }
  }

  // MARK: - Emission

  private mutating func add(_ instruction: Pattern.Instruction) {
    last = .atom(start: program.count)
    program.append(instruction)
  }

  private mutating func add(_ set: PatternSet) {
    add(.set(sets.count))
    sets.append(set)
  }

  /// An assertion is nothing that Python would repeat.
  private mutating func add(_ assertion: Pattern.Assertion) {
    program.append(.assert(assertion))
    last = .nothing
  }

  private mutating func addEscaped(_ assertion: Pattern.Assertion) {
    position += 1
    add(assertion)
  }

  // MARK: - Groups and alternatives

  private mutating func openGroup() throws(PatternSyntaxError) {
    if peek() == "?" {
      position += 1
      try takeGroupKind()
    }
    groups.append(Group(start: program.count))
    last = .nothing
  }

  /// What follows `(?`.
  private mutating func takeGroupKind() throws(PatternSyntaxError) {
    switch take() {
    case ":": return
    case "P":
      switch take() {
      case "<": try takeGroupName()
      case "=": throw unsupported("a backreference")
      default: throw PatternSyntaxError("has an unknown kind of group")
      }
    case "=", "!": throw unsupported("a lookahead")
    case "<": throw unsupported("a lookbehind")
    case ">": throw unsupported("an atomic group")
    case "(": throw unsupported("a conditional group")
    case "#": throw unsupported("a comment")
    default: throw unsupported("an inline flag")
    }
  }

  private mutating func takeGroupName() throws(PatternSyntaxError) {
    var name: [Unicode.Scalar] = []
    while let scalar = take(), scalar != ">" { name.append(scalar) }
    let starts = name.first.map { $0 == "_" || $0.properties.isXIDStart } ?? false
    guard starts, name.allSatisfy(\.properties.isXIDContinue), input[position - 1] == ">" else {
      throw PatternSyntaxError("has a group without a proper name")
    }
    guard names.insert(name).inserted else {
      throw PatternSyntaxError("has two groups of one name")
    }
  }

  private mutating func closeGroup() throws(PatternSyntaxError) {
    guard groups.count > 1, let group = groups.popLast() else {
      throw PatternSyntaxError("has a closing parenthesis too many, at character \(position)")
    }
    endAlternatives(of: group)
    last = .atom(start: group.start)
  }

  /// `A|B` becomes: split to A or B, A, jump to the end, B.
  private mutating func beginAlternative() {
    let index = groups.count - 1
    let start = groups[index].branchStart
    program.insert(.split(1, program.count - start + 2), at: start)
    groups[index].jumps.append(program.count)
    program.append(.jump(0))
    groups[index].branchStart = program.count
    last = .nothing
  }

  private mutating func endAlternatives(of group: Group) {
    for jump in group.jumps { program[jump] = .jump(program.count - jump) }
  }

  // MARK: - Repetitions

  /// - Parameter high: nil when there is no upper bound.
  private mutating func repeatLast(from low: Int, to high: Int?) throws(PatternSyntaxError) {
    let start: Int
    switch last {
    case .nothing:
      throw PatternSyntaxError("has nothing to repeat before character \(position)")
    case .repetition:
      throw PatternSyntaxError("repeats a repetition at character \(position)")
    case .atom(let atom): start = atom
    }
    // Lazy or greedy, the same texts match.
    if peek() == "?" { position += 1 }
    if peek() == "+" { throw unsupported("a possessive quantifier") }
    if let high, high < low { throw PatternSyntaxError("has a repetition {m,n} with m > n") }
    guard max(low, high ?? 0) <= Pattern.maximumRepeat else {
      throw PatternSyntaxError("repeats more than \(Pattern.maximumRepeat) times")
    }
    last = .repetition

    let body = Array(program[start...])
    if body.isEmpty { return }
    let size = body.count * (high ?? max(low, 1)) + (high.map { $0 - low } ?? 2)
    guard start + size < Pattern.maximumInstructions else { throw Self.tooLarge }
    program.removeSubrange(start...)
    for _ in 0..<low { program += body }
    if let high {
      for _ in low..<high {
        program.append(.split(1, body.count + 1))
        program += body
      }
    } else if low > 0 {
      program.append(.split(-body.count, 1))
    } else {
      program.append(.split(1, body.count + 2))
      program += body
      program.append(.jump(-(body.count + 1)))
    }
  }

  static let tooLarge = PatternSyntaxError(
    "is too large: it needs more than \(Pattern.maximumInstructions) instructions")

  func unsupported(_ what: String) -> PatternSyntaxError {
    PatternSyntaxError("has \(what) before character \(position + 1), which is not supported")
  }
}
