/// The lexical half of the compiler: escapes, sets and bounds.
extension PatternCompiler {
  /// What an escape stands for, in a set or outside.
  enum Escape {
    case scalar(Unicode.Scalar)
    case category(PatternSet.Category, negated: Bool)
  }

  func peek() -> Unicode.Scalar? { position < input.count ? input[position] : nil }

  mutating func take() -> Unicode.Scalar? {
    guard let scalar = peek() else { return nil }
    position += 1
    return scalar
  }

  /// The bounds of `{m}`, `{m,}`, `{,n}` or `{m,n}` after the brace; nil, with nothing taken,
  /// where Python would read the brace as a literal.
  mutating func takeBounds() -> (low: Int, high: Int?)? {
    let start = position
    if peek() == "}" { return nil }
    let low = takeNumber()
    var high = low
    if peek() == "," {
      position += 1
      high = takeNumber()
    }
    guard take() == "}" else {
      position = start
      return nil
    }
    return (low ?? 0, high)
  }

  /// Saturates far above `Pattern.maximumRepeat` instead of overflowing.
  private mutating func takeNumber() -> Int? {
    var number: Int?
    while let scalar = peek(), ("0"..."9").contains(scalar) {
      number = min((number ?? 0) * 10 + Int(scalar.value - 48), 1_000_000_000)
      position += 1
    }
    return number
  }

  /// The escape after a backslash.
  mutating func takeEscape() throws(PatternSyntaxError) -> Escape {
    guard let scalar = take() else { throw PatternSyntaxError("ends in a backslash") }
    switch scalar {
    case "d": return .category(.digit, negated: false)
    case "D": return .category(.digit, negated: true)
    case "s": return .category(.space, negated: false)
    case "S": return .category(.space, negated: true)
    case "w": return .category(.word, negated: false)
    case "W": return .category(.word, negated: true)
    case "n": return .scalar("\n")
    case "t": return .scalar("\t")
    case "r": return .scalar("\r")
    case "f": return .scalar("\u{0C}")
    case "v": return .scalar("\u{0B}")
    case "a": return .scalar("\u{07}")
    case "x": return .scalar(try takeHexadecimal(digits: 2))
    case "u": return .scalar(try takeHexadecimal(digits: 4))
    case "U": return .scalar(try takeHexadecimal(digits: 8))
    case "0"..."9": throw unsupported("a backreference or octal escape")
    case "a"..."z", "A"..."Z":
      throw PatternSyntaxError("has the unknown escape '\\\(scalar)' at character \(position)")
    default: return .scalar(scalar)
    }
  }

  private mutating func takeHexadecimal(
    digits: Int
  ) throws(PatternSyntaxError) -> Unicode.Scalar {
    var value: UInt32 = 0
    for _ in 0..<digits {
      guard let scalar = take(), scalar.isASCII, let digit = Character(scalar).hexDigitValue else {
        throw PatternSyntaxError("has an incomplete escape at character \(position)")
      }
      value = value << 4 | UInt32(digit)
    }
    guard let scalar = Unicode.Scalar(value) else {
      throw PatternSyntaxError("has an escape for no Unicode scalar at character \(position)")
    }
    return scalar
  }

  /// The set after an opening bracket. A `]` in first place, and a `-` in first or last place,
  /// stand for themselves.
  mutating func takeSet() throws(PatternSyntaxError) -> PatternSet {
    var set = PatternSet()
    if peek() == "^" {
      set.negated = true
      position += 1
    }
    while true {
      if peek() == "]", !set.members.isEmpty {
        position += 1
        return set
      }
      let lower = try takeSetItem()
      guard peek() == "-", position + 1 < input.count, input[position + 1] != "]" else {
        set.members.append(Self.member(lower))
        continue
      }
      position += 1
      guard case .scalar(let first) = lower, case .scalar(let last) = try takeSetItem(),
        first <= last
      else {
        throw PatternSyntaxError("has a bad range in a set, before character \(position + 1)")
      }
      set.members.append(.range(first.value...last.value))
    }
  }

  private mutating func takeSetItem() throws(PatternSyntaxError) -> Escape {
    guard let scalar = take() else { throw PatternSyntaxError("lacks a closing bracket") }
    guard scalar == "\\" else { return .scalar(scalar) }
    if peek() == "b" {
      position += 1
      return .scalar("\u{08}")
    }
    return try takeEscape()
  }

  private static func member(_ item: Escape) -> PatternSet.Member {
    switch item {
    case .scalar(let scalar): .range(scalar.value...scalar.value)
    case .category(let category, let negated): .category(category, negated: negated)
    }
  }
}
