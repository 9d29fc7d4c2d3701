/// Numbers and strings.
extension JSONParser {
  mutating func number() throws -> JSONValue {
    let start = position
    var isInteger = true
    if next == UInt8(ascii: "-") { position += 1 }
    let leading = next
    let whole = skipDigits()
    guard whole > 0 else { throw bad("no digit in a number") }
    guard whole == 1 || leading != UInt8(ascii: "0") else { throw bad("a number with leading 0") }
    if next == UInt8(ascii: ".") {
      isInteger = false
      position += 1
      guard skipDigits() > 0 else { throw bad("no digit after the decimal point") }
    }
    if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
      isInteger = false
      position += 1
      if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { position += 1 }
      guard skipDigits() > 0 else { throw bad("no digit in an exponent") }
    }
    // Safe: because start <= position <= bytes.count; the bytes are ASCII.
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    if isInteger {
      guard let value = Int64(text) else { throw bad("an integer beyond 64 bits") }
      return .integer(value)
    }
    guard let value = Double(text), value.isFinite else { throw bad("a number beyond Double") }
    return .number(value)
  }

  private mutating func skipDigits() -> Int {
    let start = position
    while let byte = next, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") { position += 1 }
    return position - start
  }

  mutating func string() throws -> String {
    position += 1
    let start = position
    while let byte = next {
      switch byte {
      case UInt8(ascii: "\""):
        // Safe: because start <= position < bytes.count.
        let text = String(validating: bytes[start..<position], as: UTF8.self)
        guard let text else { throw bad("a string that is not UTF-8") }
        position += 1
        return text
      case UInt8(ascii: "\\"):
        return try escapedString(start: start)
      case 0..<0x20:
        throw bad("a control character in a string")
      default:
        position += 1
      }
    }
    throw bad("the end inside a string")
  }

  /// The slow path: from the first backslash on, the text is put together anew.
  private mutating func escapedString(start: Int) throws -> String {
    // Safe: because start <= position < bytes.count.
    var units = Array(bytes[start..<position])
    while let byte = next {
      position += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard let text = String(validating: units, as: UTF8.self) else {
          throw bad("a string that is not UTF-8")
        }
        return text
      case UInt8(ascii: "\\"):
        try escape(into: &units)
      case 0..<0x20:
        throw bad("a control character in a string")
      default:
        units.append(byte)
      }
    }
    throw bad("the end inside a string")
  }

  private mutating func escape(into units: inout [UInt8]) throws {
    guard let byte = next else { throw bad("the end inside a string") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): units.append(byte)
    case UInt8(ascii: "b"): units.append(0x08)
    case UInt8(ascii: "f"): units.append(0x0C)
    case UInt8(ascii: "n"): units.append(0x0A)
    case UInt8(ascii: "r"): units.append(0x0D)
    case UInt8(ascii: "t"): units.append(0x09)
    case UInt8(ascii: "u"): units.append(contentsOf: String(try scalar()).utf8)
    default: throw bad("an unknown escape")
    }
  }

  /// The scalar of `\uXXXX` or of a pair of surrogates.
  private mutating func scalar() throws -> Character {
    let first = try fourHexDigits()
    var code = first
    if 0xD800...0xDBFF ~= first {
      guard next == UInt8(ascii: "\\") else { throw bad("a lone surrogate") }
      position += 1
      guard next == UInt8(ascii: "u") else { throw bad("a lone surrogate") }
      position += 1
      let second = try fourHexDigits()
      guard 0xDC00...0xDFFF ~= second else { throw bad("a lone surrogate") }
      code = 0x10000 + (first - 0xD800) << 10 + (second - 0xDC00)
    }
    guard let scalar = Unicode.Scalar(code) else { throw bad("a lone surrogate") }
    return Character(scalar)
  }

  private mutating func fourHexDigits() throws -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = next else { throw bad("the end inside a string") }
      let digit: UInt32
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = UInt32(byte - UInt8(ascii: "0"))
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = UInt32(byte - UInt8(ascii: "a")) + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = UInt32(byte - UInt8(ascii: "A")) + 10
      default: throw bad("no hexadecimal digit in an escape")
      }
      code = code << 4 | digit
      position += 1
    }
    return code
  }
}
