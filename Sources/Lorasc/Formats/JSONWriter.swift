/// How a document is laid out.
struct JSONFormat: Sendable {
  /// Spaces a level; nil puts everything on one line without spaces.
  var indent: Int?
  /// Non-ASCII characters as `\uXXXX`, as Python's json does by default.
  var asciiOnly: Bool
  /// Members in the order of their keys' UTF-8 bytes instead of their own.
  var sortsKeys = false

  /// As serde writes safetensors headers.
  static let compact = JSONFormat(indent: nil, asciiOnly: false)
  /// As Python's `json.dumps(value, indent=2)`, so that files look like transformers'.
  static let pretty = JSONFormat(indent: 2, asciiOnly: true)
  /// As `json.dumps(value, indent=2, sort_keys=True)`, which is what PEFT writes.
  static let prettySorted = JSONFormat(indent: 2, asciiOnly: true, sortsKeys: true)
}

extension JSONValue {
  /// The document as text, without a newline at the end.
  ///
  /// Doubles are written with the fewest digits that read back to the same value and
  /// keep a fraction or exponent, so that they stay doubles.
  /// - Throws: `.nonFinite` for NaN and infinities, which JSON can't express.
  func text(_ format: JSONFormat = .pretty) throws -> String {
    var writer = JSONWriter(format: format)
    try writer.write(self, depth: 0)
    return String(decoding: writer.output, as: UTF8.self)
  }
}

extension JSONObject {
  func text(_ format: JSONFormat = .pretty) throws -> String {
    try JSONValue.object(self).text(format)
  }
}

/// Builds a document's text part by part.
struct JSONWriter {
  let format: JSONFormat
  private(set) var output: [UInt8] = []

  init(format: JSONFormat) { self.format = format }

  mutating func write(_ value: JSONValue, depth: Int) throws {
    guard depth <= 512 else { throw LorascError(.limit, "JSON: nested deeper than 512 levels") }
    switch value {
    case .null: append("null")
    case .bool(let value): append(value ? "true" : "false")
    case .integer(let value): append(String(value))
    case .number(let value):
      guard value.isFinite else { throw LorascError(.nonFinite, "JSON can't express \(value)") }
      append(value.description)
    case .string(let text): write(text)
    case .array(let elements):
      try write(elements, "[", "]", depth) { try $0.write($1, depth: depth + 1) }
    case .object(let object):
      var members = object.members
      if format.sortsKeys {
        members.sort { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
      }
      try write(members, "{", "}", depth) { try $0.write($1, depth: depth + 1) }
    }
  }

  /// A key and its value.
  mutating func write(_ member: JSONObject.Member, depth: Int) throws {
    try namingKey(member.key) {
      write(member.key)
      append(format.indent == nil ? ":" : ": ")
      try write(member.value, depth: depth)
    }
  }

  /// Elements between two brackets.
  mutating func write<Element>(
    _ elements: [Element], _ open: String, _ close: String, _ depth: Int,
    each: (inout JSONWriter, Element) throws -> Void
  ) throws {
    append(open)
    for (index, element) in elements.enumerated() {
      if index > 0 { append(",") }
      newLine(depth + 1)
      try each(&self, element)
    }
    if !elements.isEmpty { newLine(depth) }
    append(close)
  }

  private mutating func newLine(_ depth: Int) {
    guard let indent = format.indent else { return }
    output.append(0x0A)
    output.append(contentsOf: repeatElement(0x20, count: depth * indent))
  }

  /// Text as it is.
  mutating func append(_ text: String) { output.append(contentsOf: text.utf8) }

  /// A string, quoted.
  mutating func write(_ text: String) {
    append("\"")
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": append("\\\"")
      case "\\": append("\\\\")
      case "\u{08}": append("\\b")
      case "\u{0C}": append("\\f")
      case "\n": append("\\n")
      case "\r": append("\\r")
      case "\t": append("\\t")
      case _ where scalar.value < 0x20 || scalar.value == 0x7F: escape(UInt16(scalar.value))
      case _ where format.asciiOnly && !scalar.isASCII:
        for unit in String(scalar).utf16 { escape(unit) }
      case _ where scalar.isASCII: output.append(UInt8(truncatingIfNeeded: scalar.value))
      default: append(String(scalar))
      }
    }
    append("\"")
  }

  private mutating func escape(_ unit: UInt16) {
    let digits = String(unit, radix: 16)
    append("\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits)
  }
}

/// The innermost key that holds what can't be written becomes the error's subject.
private func namingKey(_ key: String, _ body: () throws -> Void) throws {
  do { try body() } catch let error as LorascError where error.subject.isEmpty {
    throw LorascError(
      error.status, "\(error.message), in the key \(quoted(key))", subject: key)
  }
}
