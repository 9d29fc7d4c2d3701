/// Typed access to configuration keys. Every failure is `.format`, names the key in
/// the message and as the subject. A key that is absent or null is "missing"; the
/// optional forms return nil for it.
extension JSONObject {
  func int(_ key: String) throws -> Int { try required(key, optionalInt(key)) }
  func double(_ key: String) throws -> Double { try required(key, optionalDouble(key)) }
  func bool(_ key: String) throws -> Bool { try required(key, optionalBool(key)) }
  func string(_ key: String) throws -> String { try required(key, optionalString(key)) }
  func array(_ key: String) throws -> [JSONValue] { try required(key, optionalArray(key)) }
  func object(_ key: String) throws -> JSONObject { try required(key, optionalObject(key)) }
  func strings(_ key: String) throws -> [String] { try required(key, optionalStrings(key)) }
  func ints(_ key: String) throws -> [Int] { try required(key, optionalInts(key)) }

  /// An integer literal; 8.0 is refused, as a float where an integer is due.
  func optionalInt(_ key: String) throws -> Int? {
    try optional(key, "an integer") { if case .integer(let value) = $0 { Int(value) } else { nil } }
  }

  /// Any number; an integer becomes the nearest double.
  func optionalDouble(_ key: String) throws -> Double? {
    try optional(key, "a number") {
      switch $0 {
      case .number(let value): value
      case .integer(let value): Double(value)
      default: nil
      }
    }
  }

  func optionalBool(_ key: String) throws -> Bool? {
    try optional(key, "true or false") { if case .bool(let value) = $0 { value } else { nil } }
  }

  func optionalString(_ key: String) throws -> String? {
    try optional(key, "a string") { if case .string(let value) = $0 { value } else { nil } }
  }

  func optionalArray(_ key: String) throws -> [JSONValue]? {
    try optional(key, "an array") { if case .array(let value) = $0 { value } else { nil } }
  }

  func optionalObject(_ key: String) throws -> JSONObject? {
    try optional(key, "an object") { if case .object(let value) = $0 { value } else { nil } }
  }

  func optionalStrings(_ key: String) throws -> [String]? {
    try optionalArray(key)?.map {
      guard case .string(let value) = $0 else { throw mistyped(key, "an array of strings", $0) }
      return value
    }
  }

  func optionalInts(_ key: String) throws -> [Int]? {
    try optionalArray(key)?.map {
      guard case .integer(let value) = $0 else { throw mistyped(key, "an array of integers", $0) }
      return Int(value)
    }
  }

  /// An integer within bounds: what sizes and counts of a configuration are read with.
  func int(_ key: String, in range: ClosedRange<Int>) throws -> Int {
    let value = try int(key)
    guard range.contains(value) else { throw outside(key, value, range) }
    return value
  }

  func optionalInt(_ key: String, in range: ClosedRange<Int>) throws -> Int? {
    guard let value = try optionalInt(key) else { return nil }
    guard range.contains(value) else { throw outside(key, value, range) }
    return value
  }

  private func required<Value>(_ key: String, _ value: Value?) throws -> Value {
    guard let value else {
      throw LorascError(.format, "the key \(quoted(key)) is missing", subject: key)
    }
    return value
  }

  private func optional<Value>(
    _ key: String, _ expected: String, _ convert: (JSONValue) -> Value?
  ) throws -> Value? {
    guard let value = self[key], value != .null else { return nil }
    guard let converted = convert(value) else { throw mistyped(key, expected, value) }
    return converted
  }

  private func mistyped(_ key: String, _ expected: String, _ value: JSONValue) -> LorascError {
    LorascError(
      .format, "the key \(quoted(key)) must be \(expected), it holds \(value.kind)", subject: key)
  }

  private func outside(_ key: String, _ value: Int, _ range: ClosedRange<Int>) -> LorascError {
    LorascError(
      .format,
      "the key \(quoted(key)) is \(value), outside \(range.lowerBound)...\(range.upperBound)",
      subject: key)
  }
}

extension JSONValue {
  /// Reads and parses a small file; every error names it.
  static func read(path: String, limits: JSONLimits = JSONLimits()) throws -> JSONValue {
    let content = try MappedFile.readAll(path: path, limit: limits.bytes)
    return try namingFile(path) { try content.withUnsafeBytes { try parse($0, limits: limits) } }
  }
}

extension JSONObject {
  /// Reads a file whose outermost value is an object.
  static func read(path: String, limits: JSONLimits = JSONLimits()) throws -> JSONObject {
    let value = try JSONValue.read(path: path, limits: limits)
    guard case .object(let object) = value else {
      throw LorascError(.format, "\(path): holds \(value.kind), not an object", subject: path)
    }
    return object
  }
}
