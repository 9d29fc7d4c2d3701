import Testing

@testable import Lorasc

@Suite struct TargetRulesTests {
  private static let names = [
    "encoder.layer.0.attention.self.query",
    "encoder.layer.0.attention.self.key",
    "encoder.layer.0.attention.self.value",
    "encoder.layer.0.output.dense",
    "encoder.layer.1.attention.self.query",
    "pooler.dense",
    "classifier",
  ]

  private func matched(_ rules: TargetRules) -> [Int] {
    Self.names.indices.filter {
      rules.matches(Self.names[$0], isOutputLayer: Self.names[$0] == "classifier")
    }
  }

  @Test(arguments: [
    ("query,value", [0, 2, 4]),
    (" query , value ", [0, 2, 4]),
    ("query", [0, 4]),
    ("uery", []),
    ("self.query", [0, 4]),
    ("attention.self.query", [0, 4]),
    ("encoder.layer.1.attention.self.query", [4]),
    ("classifier", [6]),
    ("dense", [3, 5]),
    ("pooler", []),
    // A dot is no wildcard in a list.
    ("self.quer.", []),
    // One pattern for the whole name.
    (".*query", [0, 4]),
    ("quer[y]", []),
    (#".*\.(query|value)"#, [0, 2, 4]),
    (#"encoder\.layer\.0\..*"#, [0, 1, 2, 3]),
    (#".*(dense|classifier)$"#, [3, 5, 6]),
    // A comma within a pattern belongs to it.
    (#".*layer\.\d{1,2}.*\.key"#, [1]),
    ("query,.*value", []),
    ("all-linear", [0, 1, 2, 3, 4, 5]),
    ("ALL-Linear", [0, 1, 2, 3, 4, 5]),
    // In a list, the word is a name like any other.
    ("all-linear,query", [0, 4]),
  ])
  func targets(_ text: String, _ expected: [Int]) throws {
    #expect(matched(try TargetRules(targets: text)) == expected)
  }

  @Test(arguments: [
    ("query,value", "encoder.layer.0.attention.self.query", [2, 4]),
    ("query,value", "query", [2]),
    ("all-linear", "dense", [0, 1, 2, 4]),
    ("all-linear", #".*layer\.0\..*"#, [4, 5]),
    ("query", "query", []),
    ("query", "  ", [0, 4]),
  ])
  func exclusionWins(_ targets: String, _ exclude: String, _ expected: [Int]) throws {
    #expect(matched(try TargetRules(targets: targets, exclude: exclude)) == expected)
  }

  /// Of PEFT's own two types: a string without special characters is a pattern there.
  @Test func selectionsOfPEFT() throws {
    let list = TargetRules(targets: .names(["quer[y]", "key"]))
    #expect(matched(list) == [1])
    let string = TargetRules(targets: .pattern(try Pattern("pooler.dense", option: "x")))
    #expect(matched(string) == [5])
  }

  @Test(arguments: [
    ("query,value", []),
    ("query,valeu,dens", ["valeu", "dens"]),
    (".*query", []),
    ("query,.*value", ["query,.*value"]),
    ("all-linear", []),
    ("all-linear,query", ["all-linear"]),
  ])
  func reportsItemsWithoutAModule(_ text: String, _ expected: [String]) throws {
    #expect(try TargetRules(targets: text).unmatchedItems(in: Self.names) == expected)
  }

  @Test func reportsExclusionsApart() throws {
    let rules = try TargetRules(targets: "query", exclude: "query,nothing")
    #expect(rules.unmatchedItems(in: Self.names).isEmpty)
    #expect(rules.unmatchedExclusions(in: Self.names) == ["nothing"])
    #expect(try TargetRules(targets: "query").unmatchedExclusions(in: Self.names).isEmpty)
    #expect(try TargetRules(targets: "all-linear").unmatchedItems(in: []) == ["all-linear"])
  }

  @Test(arguments: [
    ("", "", "target_modules"), ("  ", "", "target_modules"), (",", "", "target_modules"),
    ("query,", "", "target_modules"), ("query,,value", "", "target_modules"),
    ("query", "a,", "exclude_modules"), ("query", "all-linear", "exclude_modules"),
    ("(query", "", "(query"), ("query", "[", "["), ("(?i)query", "", "(?i)query"),
  ])
  func refuses(_ targets: String, _ exclude: String, _ subject: String) {
    let error = #expect(throws: LorascError.self) {
      try TargetRules(targets: targets, exclude: exclude)
    }
    #expect(error?.status == .option)
    #expect(error?.subject == subject)
  }

  @Test func comparesScalars() throws {
    let rules = try TargetRules(targets: "\u{E9}")
    #expect(rules.matches("x.\u{E9}", isOutputLayer: false))
    #expect(!rules.matches("x.e\u{301}", isOutputLayer: false))
  }

  @Test func readsOptions() throws {
    var options = Options()
    try options.set("target_modules", "query,value")
    #expect(matched(try TargetRules(options)) == [0, 2, 4])
    try options.set("target_modules", "all-linear")
    try options.set("exclude_modules", "pooler.dense")
    #expect(matched(try TargetRules(options)) == [0, 1, 2, 3, 4])
  }
}
