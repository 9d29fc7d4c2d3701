import Testing

@testable import Lorasc

@Suite struct FormatsJSONTests {
  @Test func objectKeepsOrder() throws {
    var object = try JSONObject.parse("{\"z\":1,\"a\":2,\"unknown\":{\"k\":[]},\"m\":3}")
    object["a"] = "new"
    object["late"] = true
    object.remove("z")
    object["m"] = nil
    object.remove("not there")
    #expect(
      try object.text(.compact) == #"{"a":"new","unknown":{"k":[]},"late":true}"#)
    #expect(object.count == 3 && !object.isEmpty && object["z"] == nil)
  }

  /// Around the size from which keys are hashed.
  @Test func objectOfEachSize() throws {
    var object = JSONObject()
    for number in 0..<40 {
      let key = "key\(number)"
      let (isNew, isNewAgain) = (object.append(key, .integer(Int64(number))), object.append(key, 0))
      #expect(isNew && !isNewAgain)
      for earlier in 0...number { #expect(object["key\(earlier)"] == .integer(Int64(earlier))) }
    }
    for number in 0..<40 where number % 3 != 0 { object.remove("key\(number)") }
    #expect(object.keys == (0..<40).filter { $0 % 3 == 0 }.map { "key\($0)" })
    for number in 0..<40 {
      #expect(object["key\(number)"] == (number % 3 == 0 ? .integer(Int64(number)) : nil))
    }
  }

  @Test func access() throws {
    let object = try JSONObject.parse(
      #"{"i":3,"d":0.5,"b":true,"s":"x","n":null,"a":[1,2],"t":["p","q"],"o":{"k":1},"f":8.0}"#)
    #expect(try object.int("i") == 3)
    #expect(try object.double("i") == 3 && object.double("d") == 0.5)
    #expect(try object.bool("b") && object.string("s") == "x")
    #expect(try object.array("a") == [1, 2] && object.ints("a") == [1, 2])
    #expect(try object.strings("t") == ["p", "q"] && object.object("o").int("k") == 1)
    #expect(try object.optionalInt("n") == nil && object.optionalInt("absent") == nil)
    #expect(try object.int("i", in: 1...3) == 3 && object.optionalInt("n", in: 1...2) == nil)
    expectFailure(.format, "\"absent\"", "missing") { _ = try object.int("absent") }
    expectFailure(.format, "\"n\"", "missing") { _ = try object.string("n") }
    expectFailure(.format, "\"f\"", "an integer", "a number") { _ = try object.int("f") }
    expectFailure(.format, "\"s\"", "an integer", "a string") { _ = try object.optionalInt("s") }
    expectFailure(.format, "\"b\"") { _ = try object.double("b") }
    expectFailure(.format, "\"i\"") { _ = try object.bool("i") }
    expectFailure(.format, "\"a\"") { _ = try object.strings("a") }
    expectFailure(.format, "\"t\"") { _ = try object.ints("t") }
    expectFailure(.format, "\"o\"") { _ = try object.array("o") }
    expectFailure(.format, "\"a\"") { _ = try object.object("a") }
    expectFailure(.format, "\"i\"", "outside 4...9") { _ = try object.int("i", in: 4...9) }
    do { _ = try object.int("absent") } catch let error as LorascError {
      #expect(error.subject == "absent")
    }
  }

  /// The text of Python's json.dumps(value, indent=2) for the same value.
  @Test func prettyAsPython() throws {
    let value: JSONValue = [
      "name": "é😀\"\\\n\u{7f}", "empty": [], "none": [:], "list": [1, 2.5, nil],
      "inner": ["eps": 1e-12, "one": 1.0, "yes": true],
    ]
    #expect(
      try value.text() == #"""
        {
          "name": "\u00e9\ud83d\ude00\"\\\n\u007f",
          "empty": [],
          "none": {},
          "list": [
            1,
            2.5,
            null
          ],
          "inner": {
            "eps": 1e-12,
            "one": 1.0,
            "yes": true
          }
        }
        """#)
    #expect(
      try value.text(.compact)
        == #"{"name":"é😀\"\\\n\u007f","empty":[],"none":{},"list":[1,2.5,null],"#
        + #""inner":{"eps":1e-12,"one":1.0,"yes":true}}"#)
    let sorted: JSONValue = ["b": 1, "a": ["d": 2, "c": 3]]
    #expect(
      try sorted.text(.prettySorted)
        == "{\n  \"a\": {\n    \"c\": 3,\n    \"d\": 2\n  },\n  \"b\": 1\n}")
  }

  @Test func doublesReadBackExactly() throws {
    var random = FixedRandom(state: 2)
    var values: [Double] = [
      0, -0.0, 1e-12, 1e-5, 1e16, 1e22, .leastNonzeroMagnitude, .greatestFiniteMagnitude,
      .leastNormalMagnitude,
    ]
    while values.count < 20_000 {
      let value = Double(bitPattern: random.next())
      if value.isFinite { values.append(value) }
    }
    for value in values {
      guard case .number(let again) = try JSONValue.parse(JSONValue.number(value).text()) else {
        Issue.record("\(value) became an integer")
        continue
      }
      #expect(again.bitPattern == value.bitPattern)
    }
    #expect(try JSONValue.number(1e-12).text() == "1e-12")
  }

  @Test func writerRefuses() throws {
    expectFailure(.nonFinite, "nan", "\"lr\"") {
      _ = try (["inner": ["lr": .number(.nan)]] as JSONValue).text()
    }
    expectFailure(.nonFinite, "inf") { _ = try JSONValue.number(.infinity).text() }
    var deep: JSONValue = []
    for _ in 0..<600 { deep = [deep] }
    expectFailure(.limit) { _ = try deep.text() }
  }

  @Test func readNamesTheFile() throws {
    let scratch = try ScratchFolder()
    try scratch.put("config.json", "{\"a\": 1}\n")
    try scratch.put("bad.json", "{\"a\": }")
    try scratch.put("list.json", "[]")
    try scratch.put("empty.json", "")
    #expect(try JSONObject.read(path: scratch["config.json"]) == ["a": 1])
    expectFailure(.format, "bad.json", "column 7") {
      _ = try JSONObject.read(path: scratch["bad.json"])
    }
    expectFailure(.format, "list.json", "an array") {
      _ = try JSONObject.read(path: scratch["list.json"])
    }
    expectFailure(.format, "empty.json") { _ = try JSONObject.read(path: scratch["empty.json"]) }
    expectFailure(.notFound, "absent.json") {
      _ = try JSONObject.read(path: scratch["absent.json"])
    }
    expectFailure(.limit, "config.json") {
      _ = try JSONObject.read(path: scratch["config.json"], limits: JSONLimits(bytes: 4))
    }
  }
}

extension JSONObject {
  static func parse(_ text: String) throws -> JSONObject {
    guard case .object(let object) = try JSONValue.parse(text) else { return [:] }
    return object
  }
}
