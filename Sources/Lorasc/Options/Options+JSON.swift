extension Options {
  /// Sets every member of a JSON object: numbers, strings, booleans, lists of these, objects for patterns; null
  /// leaves the default. All or nothing.
  ///
  /// - Throws: `.format` for malformed JSON, `.option` as `set`.
  public mutating func load(json text: String) throws {
    guard case .object(let object) = try JSONValue.parse(text) else {
      throw LorascError(.format, "the options are not a JSON object", subject: "json")
    }
    var changed = self
    for member in object.members where member.value != .null {
      try changed.set(member.key, try Self.text(member.value, member.key))
    }
    self = changed
  }

  private static func text(_ value: JSONValue, _ key: String) throws -> String {
    switch value {
    case .string(let text): return text
    case .bool(let flag): return flag ? "true" : "false"
    case .integer(let number): return String(number)
    case .number(let number): return number.shortText
    case .array(let items):
      return try items.map { item in
        if case .array = item { throw refused(item, key) }
        return try text(item, key)
      }.joined(separator: ",")
    case .object where OptionTable.byKey[key]?.kind == .text:
      return try value.text(.compact)
    case .null, .object:
      throw refused(value, key)
    }
  }

  private static func refused(_ value: JSONValue, _ key: String) -> LorascError {
    LorascError(.option, "option \(key): \(value.kind) is no value", subject: key)
  }
}

extension OptionDescription {
  /// As text, "" where there is none.
  public var minimumText: String { minimum?.shortText ?? "" }
  public var maximumText: String { maximum?.shortText ?? "" }
}
