/// Runs a pattern's program over a text, following all of its threads at once.
///
/// Which thread a backtracking engine would prefer does not matter, because only the fact of a
/// match is asked for: a set of program counters is the whole state.
struct PatternMatcher {
  private let program: [Pattern.Instruction]
  private let sets: [PatternSet]
  private let text: [Unicode.Scalar]

  init(pattern: Pattern, text: String) {
    program = pattern.program
    sets = pattern.sets
    self.text = Array(text.unicodeScalars)
  }

  /// - Parameter whole: whether the match must reach the end of the text.
  func run(whole: Bool) -> Bool {
    var current = Threads(capacity: program.count)
    var next = Threads(capacity: program.count)
    follow(from: 0, at: 0, into: &current)
    for (position, scalar) in text.enumerated() {
      if current.accepts && !whole { return true }
      if current.waiting.isEmpty { return false }
      next.clear()
      for counter in current.waiting where consumes(program[counter], scalar) {
        follow(from: counter + 1, at: position + 1, into: &next)
      }
      swap(&current, &next)
    }
    return current.accepts
  }

  private func consumes(_ instruction: Pattern.Instruction, _ scalar: Unicode.Scalar) -> Bool {
    switch instruction {
    case .scalar(let wanted): scalar == wanted
    case .anyButNewline: scalar != "\n"
    case .set(let index): sets[index].contains(scalar)
    case .assert, .split, .jump, .accept: false
    }
  }

  /// Adds every consuming instruction that can be reached without consuming. Each counter is
  /// followed once a position, so loops with an empty body end, too.
  private func follow(from start: Int, at position: Int, into threads: inout Threads) {
    threads.pending.append(start)
    while let counter = threads.pending.popLast() {
      guard threads.visit(counter) else { continue }
      switch program[counter] {
      case .scalar, .anyButNewline, .set:
        threads.waiting.append(counter)
      case .assert(let assertion):
        if holds(assertion, at: position) { threads.pending.append(counter + 1) }
      case .split(let first, let second):
        threads.pending.append(counter + second)
        threads.pending.append(counter + first)
      case .jump(let offset):
        threads.pending.append(counter + offset)
      case .accept:
        threads.accepts = true
      }
    }
  }

  private func holds(_ assertion: Pattern.Assertion, at position: Int) -> Bool {
    switch assertion {
    case .start: position == 0
    case .end: position == text.count
    case .endOrLastNewline:
      position == text.count || (position == text.count - 1 && text[position] == "\n")
    case .wordBoundary: isBoundary(position)
    // Python up to 3.13 finds neither \b nor \B in an empty text.
    case .notWordBoundary: !text.isEmpty && !isBoundary(position)
    }
  }

  private func isBoundary(_ position: Int) -> Bool {
    let before = position > 0 && PatternSet.Category.isWord(text[position - 1])
    let after = position < text.count && PatternSet.Category.isWord(text[position])
    return before != after
  }
}

/// The threads that are alive at one position of the text.
private struct Threads {
  /// Counters of instructions that wait for a scalar.
  var waiting: [Int] = []
  /// Counters yet to be followed.
  var pending: [Int] = []
  var accepts = false
  /// `visited[counter] == round`: seen since the last `clear`, which thus costs nothing.
  private var visited: [Int]
  private var round = 1

  init(capacity: Int) { visited = Array(repeating: 0, count: capacity) }

  mutating func clear() {
    waiting.removeAll(keepingCapacity: true)
    accepts = false
    round += 1
  }

  /// False when the counter was visited before.
  mutating func visit(_ counter: Int) -> Bool {
    if visited[counter] == round { return false }
    visited[counter] = round
    return true
  }
}
