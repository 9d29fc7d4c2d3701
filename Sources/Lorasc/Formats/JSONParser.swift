/// Caps on a document from outside. Depth bounds the parser's stack, `values` the
/// memory: 100 MB of `[0,0,…]` would otherwise become gigabytes.
struct JSONLimits: Sendable {
  var depth = 128
  var bytes = 100_000_000
  var values = 4_000_000
}

extension JSONValue {
  /// Parses one strict JSON document (RFC 8259) and nothing after it.
  ///
  /// Refused with `.format`: bytes that are not UTF-8, a byte order mark, a key given
  /// twice, integers beyond Int64, numbers beyond Double, NaN and Infinity, lone
  /// surrogates; with `.limit`: what is beyond `limits`.
  static func parse(
    _ bytes: UnsafeRawBufferPointer, limits: JSONLimits = JSONLimits()
  ) throws -> JSONValue {
    guard bytes.count <= limits.bytes else {
      throw LorascError(.limit, "JSON: longer than \(limits.bytes) bytes")
    }
    var parser = JSONParser(bytes: bytes, limits: limits)
    return try parser.document()
  }

  static func parse(_ text: String, limits: JSONLimits = JSONLimits()) throws -> JSONValue {
    var text = text
    return try text.withUTF8 { try parse(UnsafeRawBufferPointer($0), limits: limits) }
  }
}

/// Recursive descent over bytes; the depth cap bounds the recursion.
struct JSONParser {
  /// Above this a thread with a small stack could run out of it.
  private static let deepest = 512

  let bytes: UnsafeRawBufferPointer
  let depthLimit: Int
  let valueLimit: Int
  var position = 0
  private var depth = 0
  private var values = 0
  /// Read last, for messages.
  private var key: String?

  init(bytes: UnsafeRawBufferPointer, limits: JSONLimits) {
    self.bytes = bytes
    depthLimit = min(limits.depth, Self.deepest)
    valueLimit = limits.values
  }

  /// The byte at the position, nil at the end.
  var next: UInt8? {
    // Safe: because the index is checked here; positions never become negative.
    position < bytes.count ? bytes[position] : nil
  }

  mutating func document() throws -> JSONValue {
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { throw bad("a byte order mark") }
    let result = try value()
    skipSpace()
    guard position == bytes.count else { throw bad("something after the end of the document") }
    return result
  }

  private mutating func value() throws -> JSONValue {
    skipSpace()
    values += 1
    guard values <= valueLimit else {
      throw LorascError(.limit, "JSON: more than \(valueLimit) values")
    }
    switch next {
    case UInt8(ascii: "{"): return .object(try object())
    case UInt8(ascii: "["): return .array(try array())
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try literal("true", .bool(true))
    case UInt8(ascii: "f"): return try literal("false", .bool(false))
    case UInt8(ascii: "n"): return try literal("null", .null)
    case UInt8(ascii: "-"), (UInt8(ascii: "0")...UInt8(ascii: "9"))?: return try number()
    case nil: throw bad("the end where a value is due")
    default: throw bad("a byte that starts no value")
    }
  }

  private mutating func object() throws -> JSONObject {
    try enter()
    var object = JSONObject()
    if close(UInt8(ascii: "}")) { return object }
    while true {
      skipSpace()
      guard next == UInt8(ascii: "\"") else { throw bad("no string where a key is due") }
      let key = try string()
      self.key = key
      skipSpace()
      try expect(UInt8(ascii: ":"), "no ':' after a key")
      let member = try value()
      guard object.append(key, member) else {
        throw bad("the key \(quoted(key)) twice", subject: key)
      }
      if close(UInt8(ascii: "}")) { return object }
      try expect(UInt8(ascii: ","), "neither ',' nor '}' after a member")
    }
  }

  private mutating func array() throws -> [JSONValue] {
    try enter()
    var elements: [JSONValue] = []
    if close(UInt8(ascii: "]")) { return elements }
    while true {
      elements.append(try value())
      if close(UInt8(ascii: "]")) { return elements }
      try expect(UInt8(ascii: ","), "neither ',' nor ']' after an element")
    }
  }

  private mutating func enter() throws {
    position += 1
    depth += 1
    guard depth <= depthLimit else {
      throw LorascError(.limit, "JSON: nested deeper than \(depthLimit) levels")
    }
  }

  /// Takes the closing bracket if it is the next thing.
  private mutating func close(_ bracket: UInt8) -> Bool {
    skipSpace()
    guard next == bracket else { return false }
    position += 1
    depth -= 1
    return true
  }

  private mutating func literal(_ word: StaticString, _ value: JSONValue) throws -> JSONValue {
    let end = position + word.utf8CodeUnitCount
    guard end <= bytes.count else { throw bad("an unknown word") }
    for index in 0..<word.utf8CodeUnitCount {
      // Safe: because position + index < end <= bytes.count.
      guard bytes[position + index] == word.utf8Start[index] else { throw bad("an unknown word") }
    }
    position = end
    return value
  }

  mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 {
      position += 1
    }
  }

  mutating func expect(_ byte: UInt8, _ complaint: String) throws {
    guard next == byte else { throw bad(complaint) }
    position += 1
  }

  /// The error for the current position.
  func bad(_ what: String, subject: String = "") -> LorascError {
    var line = 1
    var lineStart = 0
    for index in 0..<min(position, bytes.count) where bytes[index] == 0x0A {
      line += 1
      lineStart = index + 1
    }
    let after = key.map { ", after the key \(quoted($0))" } ?? ""
    return LorascError(
      .format, "JSON: \(what), line \(line), column \(position - lineStart + 1)\(after)",
      subject: subject)
  }
}
