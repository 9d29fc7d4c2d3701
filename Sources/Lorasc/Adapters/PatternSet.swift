/// A set of Unicode scalars: what `[…]`, `\d`, `\w` or `\s` matches.
struct PatternSet: Sendable {
  /// Python's classes on `str`, which are wider than ASCII.
  enum Category: Sendable {
    case digit, space, word
  }

  enum Member: Sendable {
    /// Code points rather than scalars, so that a range may span the surrogates.
    case range(ClosedRange<UInt32>)
    case category(Category, negated: Bool)
  }

  var members: [Member] = []
  var negated = false

  func contains(_ scalar: Unicode.Scalar) -> Bool {
    for member in members {
      switch member {
      case .range(let range):
        if range.contains(scalar.value) { return !negated }
      case .category(let category, let outside):
        if category.contains(scalar) != outside { return !negated }
      }
    }
    return negated
  }
}

extension PatternSet.Category {
  func contains(_ scalar: Unicode.Scalar) -> Bool {
    switch self {
    case .digit:
      if scalar.isASCII { return ("0"..."9").contains(scalar) }
      return scalar.properties.generalCategory == .decimalNumber
    case .space:
      // `str.isspace` counts the four ASCII separators in; Unicode's White_Space does not.
      return (0x1C...0x1F).contains(scalar.value) || scalar.properties.isWhitespace
    case .word:
      return Self.isWord(scalar)
    }
  }

  /// `str.isalnum` or an underscore.
  static func isWord(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.isASCII {
      switch scalar {
      case "a"..."z", "A"..."Z", "0"..."9", "_": return true
      default: return false
      }
    }
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter,
      .decimalNumber:
      return true
    default:
      return scalar.properties.numericType != nil
    }
  }
}
