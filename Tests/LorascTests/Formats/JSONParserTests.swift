import Foundation
import Testing

@testable import Lorasc

@Suite struct FormatsJSONParserTests {
  static let documents: [(String, JSONValue)] = [
    ("null", .null), (" true ", true), ("false", false), ("0", 0), ("-0", 0),
    ("9223372036854775807", .integer(.max)), ("-9223372036854775808", .integer(.min)),
    ("1.0", .number(1)), ("1e2", .number(100)), ("1E+2", .number(100)), ("-1.5e-3", -0.0015),
    ("1e-400", .number(0)), ("-0.0", .number(-0.0)), ("1e-12", 1e-12),
    ("123456789012345678901234567890.0", .number(1.2345678901234568e29)),
    ("\"\"", ""), ("\"é😀\"", "é😀"), (#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
    (#""\u00e9\uD83D\uDE00\u0000x""#, "é😀\u{0}x"), (#""a\u00E9b""#, "aéb"),
    ("[]", []), ("[ ]", []), ("[1,[2],{}]", [1, [2], [:]]),
    ("{}", [:]), ("\t{\"a\" : 1 ,\r\n\"b\":[null]}\n", ["a": 1, "b": [nil]]),
  ]

  @Test func accepts() throws {
    for (text, value) in Self.documents { #expect(try JSONValue.parse(text) == value) }
  }

  @Test(arguments: [
    "", " ", "nul", "nulll", "True", "NaN", "Infinity", "-Infinity", "-", "+1", "01", "-01", "00",
    ".5", "1.", "1.e3", "1e", "1e+", "0x10", "1_0", "1 2", "null null", "{} x", "[1]]", "[", "[1",
    "[1,", "[1,]", "[,1]", "[1 2]", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,",
    "{\"a\":1,}", "{a:1}", "{1:1}", "{\"a\" 1}", "{\"a\":1 \"b\":2}", "{,}", "'a'", "\"", "\"a",
    "\"\\\"", "\"\\x\"", "\"\\", "\"\\u\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\u123", "\"a\nb\"",
    "\"\u{1}\"", "\"\\n\u{1}\"", "// c\n1", "[1]/**/", "\u{FEFF}1", "9223372036854775808",
    "-9223372036854775809", "1e400", "-1e400", "1.0e999999999999", "99999999999999999999",
    #""\ud800""#, #""\udc00""#, #""\ud800x""#, #""\ud800\n""#, #""\ud800\ud800""#,
    #""\udc00\ud800""#, #""\ud83d\u0041""#, #"{"a":1,"b":2,"a":3}"#, #"{"a":1,"\u0061":3}"#,
    "\u{0}", "1\u{0}", "\u{A0}1",
  ])
  func refuses(_ text: String) {
    expectFailure(.format, "JSON") { _ = try JSONValue.parse(text) }
  }

  @Test(
    arguments: [
      [0x22, 0xFF, 0x22], [0x22, 0xC3, 0x28, 0x22], [0x22, 0xC0, 0x80, 0x22],
      [0x22, 0xED, 0xA0, 0x80, 0x22], [0x22, 0xF4, 0x90, 0x80, 0x80, 0x22],
      [0x22, 0xE2, 0x82, 0x22],
      [0x22, 0x5C, 0x6E, 0xFF, 0x22], [0xFF], [0xEF, 0xBB, 0xBF, 0x31], [0xFE, 0xFF, 0x00, 0x31],
    ] as [[UInt8]])
  func refusesWhatIsNotUTF8(_ bytes: [UInt8]) {
    expectFailure(.format) { _ = try bytes.withUnsafeBytes { try JSONValue.parse($0) } }
  }

  @Test func limits() throws {
    func nested(_ depth: Int) -> String {
      String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    }
    _ = try JSONValue.parse(nested(128))
    expectFailure(.limit) { _ = try JSONValue.parse(nested(129)) }
    expectFailure(.limit) { _ = try JSONValue.parse(nested(100_000)) }
    expectFailure(.limit) { _ = try JSONValue.parse(String(repeating: "{\"a\":", count: 100_000)) }
    expectFailure(.limit) {
      _ = try JSONValue.parse(nested(100_000), limits: JSONLimits(depth: .max))
    }
    // Depth counts what is open, not what was.
    _ = try JSONValue.parse("[" + repeatElement("[]", count: 500).joined(separator: ",") + "]")
    _ = try JSONValue.parse("[1,2]", limits: JSONLimits(bytes: 5, values: 3))
    expectFailure(.limit) { _ = try JSONValue.parse("[1,2]", limits: JSONLimits(bytes: 4)) }
    expectFailure(.limit) { _ = try JSONValue.parse("[1,2]", limits: JSONLimits(values: 2)) }
  }

  @Test func messagesTellWhere() {
    expectFailure(.format, "line 2, column 7") { _ = try JSONValue.parse("{\n \"a\": x}") }
    expectFailure(.format, "\"r\" twice") { _ = try JSONValue.parse(#"{"r":1,"r":2}"#) }
  }

  /// Foundation as the oracle: what is accepted here is accepted there with the same value.
  private func agrees(_ bytes: [UInt8], _ value: JSONValue) throws -> Bool {
    let oracle = try JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)
    return same(value, oracle)
  }

  private func same(_ value: JSONValue, _ oracle: Any) -> Bool {
    switch value {
    case .null: return oracle is NSNull
    case .bool(let value): return (oracle as? Bool) == value
    case .integer(let value): return (oracle as? NSNumber)?.int64Value == value
    case .number(let value):
      // Foundation goes through decimals and can be a few units of the last place off.
      guard let other = (oracle as? NSNumber)?.doubleValue else { return false }
      return abs(other - value) <= 4 * max(value.ulp, .leastNormalMagnitude)
    case .string(let value):
      return (oracle as? String).map { Array($0.utf8) == Array(value.utf8) }
        ?? false
    case .array(let values):
      guard let oracle = oracle as? [Any], oracle.count == values.count else { return false }
      return zip(values, oracle).allSatisfy { same($0, $1) }
    case .object(let object):
      guard let oracle = oracle as? [String: Any], oracle.count == object.count else {
        return false
      }
      return object.members.allSatisfy { member in
        oracle[member.key].map { same(member.value, $0) } ?? false
      }
    }
  }

  static let seeds = [
    #"{"r": 8, "lora_alpha": 16.0, "target_modules": ["query", "value"], "bias": "none"}"#,
    #"{"hidden_size":768,"eps":1e-12,"id2label":{"0":"LABEL_0"},"x":[true,false,null,-1]}"#,
    #"["\u00e9\ud83d\ude00 é \n\"", 0.1, -0.0, 1e16, 5e-324, 9223372036854775807, {"":{}}]"#,
    #"[[[[[[1.5E+10]]]]],"",{"a":{"b":{"c":[1,2,3,4.25]}}}, 12345678901234567]"#,
  ]

  @Test func seedsAgreeWithFoundation() throws {
    for seed in Self.seeds {
      #expect(try agrees(Array(seed.utf8), JSONValue.parse(seed)), "\(seed)")
    }
  }

  @Test func fuzz() throws {
    var random = FixedRandom(state: 1)
    let seeds = Self.seeds.map { Array($0.utf8) }
    var accepted = 0
    for round in 0..<150_000 {
      let input = mutate(seeds[round % seeds.count], &random)
      guard let value = try? input.withUnsafeBytes({ try JSONValue.parse($0) }) else { continue }
      accepted += 1
      if accepted % 8 == 0 {
        #expect(try agrees(input, value), "\(String(decoding: input, as: UTF8.self))")
      }
      let compact = try value.text(.compact)
      let pretty = try value.text(.pretty)
      let equal = try JSONValue.parse(compact) == value && JSONValue.parse(pretty) == value
      if !equal { Issue.record("round trip of \(compact)") }
    }
    #expect(accepted > 5_000)
  }
}
