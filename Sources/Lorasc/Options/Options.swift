/// A set of named values, checked against `OptionTable` when they are set. One set
/// serves models, adapters and trainers: each reads the options of its scope.
///
/// ```swift
/// var options = Options()
/// try options.set("r", "16")
/// ```
public struct Options: Sendable, Equatable {
  /// Only what was set by hand; the rest is the preset's or the table's default.
  private(set) var values: [String: String] = [:]

  public init() {}

  /// - Throws: `.option` with the key as subject: unknown key, malformed value, out of range.
  public mutating func set(_ key: String, _ value: String) throws {
    guard let row = OptionTable.byKey[key] else { throw Self.unknown(key) }
    values[key] = try Self.check(row, value)
  }

  /// The value as text: what was set, else what the method presets, else the default.
  public func text(_ key: String) throws -> String {
    guard let row = OptionTable.byKey[key] else { throw Self.unknown(key) }
    return values[key] ?? Presets.value(key, of: method) ?? row.defaultValue
  }

  private var method: String {
    values["method"] ?? OptionTable.byKey["method"]?.defaultValue ?? ""
  }

  public func isSet(_ key: String) -> Bool { values[key] != nil }

  // The typed readers below are for keys of the table, whose values were checked when set.

  func integer(_ key: String) throws -> Int {
    let text = try text(key)
    guard let value = Int(text) else { throw Self.bad(key, text, "is not an integer") }
    return value
  }

  func number(_ key: String) throws -> Double {
    let text = try text(key)
    guard let value = Double(text) else { throw Self.bad(key, text, "is not a number") }
    return value
  }

  func boolean(_ key: String) throws -> Bool { try text(key) == "true" }

  func list(_ key: String) throws -> [String] { Self.split(try text(key)) }

  func numbers(_ key: String) throws -> [Double] {
    try list(key).map { item in
      guard let value = Double(item), value.isFinite else {
        throw Self.bad(key, item, "is not a number")
      }
      return value
    }
  }

  static func split(_ text: String) -> [String] {
    if text.allSatisfy(\.isWhitespace) { return [] }
    return text.split(separator: ",", omittingEmptySubsequences: false).map { part in
      String(part.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
    }
  }

  static func bad(_ key: String, _ value: String, _ why: String) -> LorascError {
    LorascError(.option, "option \(key): '\(value)' \(why)", subject: key)
  }

  private static func unknown(_ key: String) -> LorascError {
    LorascError(.option, "unknown option '\(key)'", subject: key)
  }

  /// The value in its canonical text, or the reason why it is refused.
  private static func check(_ row: OptionDescription, _ value: String) throws -> String {
    switch row.kind {
    case .integer:
      guard let number = Int(value) else { throw bad(row.key, value, "is not an integer") }
      try checkRange(row, Double(number), value)
      return String(number)
    case .number:
      if row.choices.contains(value) { return value }
      // Double reads hexadecimal too, which no other tool does.
      guard let number = Double(value), number.isFinite,
        !value.contains(where: { "xX".contains($0) })
      else {
        throw bad(row.key, value, "is not a finite number")
      }
      try checkRange(row, number, value)
      return String(number)
    case .boolean:
      switch value {
      case "true", "1", "True": return "true"
      case "false", "0", "False": return "false"
      default: throw bad(row.key, value, "is neither true nor false")
      }
    case .choice:
      guard row.choices.contains(value) else {
        throw bad(row.key, value, "is none of \(row.choices.joined(separator: ", "))")
      }
      return value
    case .text, .list:
      return value
    }
  }

  private static func checkRange(_ row: OptionDescription, _ number: Double, _ text: String) throws
  {
    if let minimum = row.minimum, number < minimum {
      throw bad(row.key, text, "is less than \(minimum.shortText)")
    }
    if let maximum = row.maximum, number > maximum {
      throw bad(row.key, text, "is more than \(maximum.shortText)")
    }
  }
}

extension Double {
  /// As Swift prints it, whole numbers without ".0".
  var shortText: String {
    if let whole = Int64(exactly: self), abs(self) < 1e15 { return String(whole) }
    return String(describing: self)
  }
}
