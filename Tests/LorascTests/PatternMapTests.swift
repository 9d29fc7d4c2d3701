import Testing

@testable import Lorasc

@Suite struct PatternMapTests {
  private let name = "encoder.layer.3.attention.self.query"

  /// Expected values as `re.match(rf"(.*\.)?({key})$", name)` in Python gives them.
  @Test(arguments: [
    ("query", true), ("self.query", true), ("uery", false), ("self", false),
    ("encoder.layer.3.attention.self.query", true), ("^encoder.*", true), ("^query", false),
    ("layer.3.*", true), ("layer.4.*", false), (#"\d\.attention\.self\.(query|value)"#, true),
    ("key|query", true), ("key|value", false), (".*", true), ("", false), ("query$", true),
  ])
  func matchesTheEndOfAName(_ key: String, _ expected: Bool) throws {
    let map = try PatternMap([(key: key, value: 4)], option: "rank_pattern")
    #expect(map.value(for: name) == (expected ? 4 : nil))
  }

  @Test func firstHitWins() throws {
    let map = try PatternMap(
      [(key: "layer.9.*", value: 1.0), (key: "query", value: 2.0), (key: ".*query", value: 3.0)],
      option: "alpha_pattern")
    #expect(map.value(for: name) == 2)
    #expect(map.value(for: "encoder.layer.9.output.dense") == 1)
    #expect(map.value(for: "pooler.dense") == nil)
    #expect(map.unmatchedKeys(in: [name]) == ["layer.9.*"])
  }

  @Test func emptyMap() throws {
    let map = try PatternMap<Int>([], option: "rank_pattern")
    #expect(map.isEmpty)
    #expect(map.value(for: name) == nil)
  }

  @Test(arguments: ["a)(b", "(", "(?=a)", "*", "a\\"])
  func refusesBadKeys(_ key: String) {
    let error = #expect(throws: LorascError.self) {
      try PatternMap([(key: key, value: 1)], option: "rank_pattern")
    }
    #expect(error?.status == .option)
    #expect(error?.subject == key)
  }
}
