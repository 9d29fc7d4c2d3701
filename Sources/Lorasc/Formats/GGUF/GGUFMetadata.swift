/// The keys and values of a GGUF file, in the file's order.
struct GGUFMetadata: Sendable {
  private(set) var members: [(key: String, value: GGUFValue)] = []
  private var positions: [String: Int] = [:]

  subscript(key: String) -> GGUFValue? { positions[key].map { members[$0].value } }

  /// Adds a member at the end; false and no change when the key is there already.
  mutating func append(_ key: String, _ value: GGUFValue) -> Bool {
    guard positions[key] == nil else { return false }
    positions[key] = members.count
    members.append((key, value))
    return true
  }

  /// Setting a present key keeps its place, a new one goes to the end.
  mutating func set(_ key: String, _ value: GGUFValue) {
    if let position = positions[key] {
      members[position].value = value
    } else {
      _ = append(key, value)
    }
  }
}

/// Typed access. Every failure is `.format`, names the key in the message and as the subject;
/// the optional forms return nil for a key that is absent.
extension GGUFMetadata {
  func int(_ key: String) throws -> Int { try required(key, optionalInt(key)) }
  func double(_ key: String) throws -> Double { try required(key, optionalDouble(key)) }
  func bool(_ key: String) throws -> Bool { try required(key, optionalBool(key)) }
  func string(_ key: String) throws -> String { try required(key, optionalString(key)) }
  func ints(_ key: String) throws -> [Int] { try required(key, optionalInts(key)) }
  func doubles(_ key: String) throws -> [Double] { try required(key, optionalDoubles(key)) }
  func strings(_ key: String) throws -> [String] { try required(key, optionalStrings(key)) }

  func optionalInt(_ key: String) throws -> Int? {
    try optional(key, "an integer", \.integer)
  }

  func optionalDouble(_ key: String) throws -> Double? {
    try optional(key, "a number", \.number)
  }

  func optionalBool(_ key: String) throws -> Bool? {
    try optional(key, "true or false", \.flag)
  }

  func optionalString(_ key: String) throws -> String? {
    try optional(key, "a string", \.text)
  }

  func optionalInts(_ key: String) throws -> [Int]? {
    try optionalArray(key, "integers", \.integer)
  }

  func optionalDoubles(_ key: String) throws -> [Double]? {
    try optionalArray(key, "numbers", \.number)
  }

  func optionalStrings(_ key: String) throws -> [String]? {
    try optionalArray(key, "strings", \.text)
  }

  private func required<Value>(_ key: String, _ value: Value?) throws -> Value {
    guard let value else {
      throw LorascError(.format, "the key \(quoted(key)) is missing", subject: key)
    }
    return value
  }

  private func optional<Value>(
    _ key: String, _ expected: String, _ convert: (GGUFValue) -> Value?
  ) throws -> Value? {
    guard let value = self[key] else { return nil }
    guard let converted = convert(value) else { throw mistyped(key, expected, value) }
    return converted
  }

  private func optionalArray<Element>(
    _ key: String, _ expected: String, _ convert: (GGUFValue) -> Element?
  ) throws -> [Element]? {
    guard let value = self[key] else { return nil }
    func bad() -> LorascError { mistyped(key, "an array of " + expected, value) }
    guard case .array(let array) = value else { throw bad() }
    return try namingKey(key) { try array.values() }.map {
      guard let element = convert($0) else { throw bad() }
      return element
    }
  }

  private func mistyped(_ key: String, _ expected: String, _ value: GGUFValue) -> LorascError {
    LorascError(
      .format, "the key \(quoted(key)) must be \(expected), it holds \(value.kind)", subject: key)
  }
}

/// Runs `body`; an error of this engine gets the key's name in front and as its subject.
func namingKey<Result>(_ key: String, _ body: () throws -> Result) throws -> Result {
  do { return try body() } catch let error as LorascError {
    throw LorascError(error.status, "the key \(quoted(key)): \(error.message)", subject: key)
  }
}
