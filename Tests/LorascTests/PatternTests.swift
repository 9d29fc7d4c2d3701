import Testing

@testable import Lorasc

@Suite struct PatternTests {
  /// Expected values as Python 3.11's `re.fullmatch` and `re.match` give them.
  struct Case: Sendable, CustomTestStringConvertible {
    let pattern: String
    let text: String
    let whole: Bool
    let prefix: Bool

    init(_ pattern: String, _ text: String, _ whole: Bool, _ prefix: Bool) {
      self.pattern = pattern
      self.text = text
      self.whole = whole
      self.prefix = prefix
    }

    var testDescription: String { "\(pattern) on \(text.debugDescription)" }
  }

  static let cases: [Case] = [
    // Module names.
    .init(#".*\.(query|value)"#, "encoder.layer.0.attention.self.query", true, true),
    .init(#".*\.(query|value)"#, "encoder.layer.0.attention.self.key", false, false),
    .init(#".*\.(query|value)"#, "query", false, false),
    .init(#".*(query|value)$"#, "query", true, true),
    .init(#"encoder\.layer\.[0-5]\..*"#, "encoder.layer.5.output.dense", true, true),
    .init(#"encoder\.layer\.[0-5]\..*"#, "encoder.layer.6.output.dense", false, false),
    .init(#"encoder\.layer\.(\d|1[01])\.dense"#, "encoder.layer.11.dense", true, true),
    .init(#"encoder\.layer\.(\d|1[01])\.dense"#, "encoder.layer.12.dense", false, false),
    .init("encoder.layer.1", "encoderXlayer_1", true, true),
    .init("layer", "layer.1", false, true),
    .init("ayer", "layer", false, false),
    // Alternatives.
    .init("a|ab", "ab", true, true),
    .init("a|b|c", "c", true, true),
    .init("(a|b|)c", "c", true, true),
    .init("(|a)+", "aaa", true, true),
    .init("x(a|b(c|d))y", "xbdy", true, true),
    .init("x(a|b(c|d))y", "xby", false, false),
    .init("a|", "", true, true),
    .init("", "", true, true),
    .init("", "a", false, true),
    // Repetitions.
    .init("a*b+c?", "bb", true, true),
    .init("a*?b", "aaab", true, true),
    .init("a{3}", "aa", false, false),
    .init("a{3}", "aaa", true, true),
    .init("a{3}", "aaaa", false, true),
    .init("a{2,}", "aaaaa", true, true),
    .init("a{,2}", "aaa", false, true),
    .init("a{1,2}?b", "aab", true, true),
    .init("(ab){2,3}", "ababab", true, true),
    .init("(ab){2,3}", "abababab", false, true),
    .init("a{0}b", "b", true, true),
    .init("a{0}b", "ab", false, false),
    .init("(a*)*", "aaa", true, true),
    .init("(a*)+b", "b", true, true),
    .init("(){5}a", "a", true, true),
    .init("((a{2}){2}){2}", "aaaaaaaa", true, true),
    .init("a{,}", "aaa", true, true),
    // Braces that are literals.
    .init("a{", "a{", true, true),
    .init("a{}", "a{}", true, true),
    .init("{x}", "{x}", true, true),
    .init("a{1,x}", "a{1,x}", true, true),
    .init("a{ 2}", "aa", false, false),
    // Sets.
    .init("[a-c_]+", "a_c", true, true),
    .init("[^a-c]", "d", true, true),
    .init("[^a-c]", "b", false, false),
    .init("[]a]+", "]a", true, true),
    .init("[^]]", "]", false, false),
    .init("[a-]+", "a-", true, true),
    .init("[-a]+", "-a", true, true),
    .init(#"[\w.-]+"#, "a.b-c", true, true),
    .init(#"[\d-]+"#, "1-2", true, true),
    .init(#"[^\d\s]"#, "1", false, false),
    .init(#"[\]\\]+"#, #"\]"#, true, true),
    .init("[.*+]", "+", true, true),
    .init("[.*+]", "a", false, false),
    .init(#"[\b]"#, "\u{08}", true, true),
    .init("[^a]", "\n", true, true),
    // Classes and escapes.
    .init(#"\d+"#, "12", true, true),
    .init(#"\d"#, "٣", true, true),
    .init(#"\w+"#, "é_1", true, true),
    .init(#"\w"#, "-", false, false),
    .init(#"\W\D\S"#, "---", true, true),
    .init(#"\s"#, "\u{1C}", true, true),
    .init(#"\t\n\x41\u0042\U00000043"#, "\t\nABC", true, true),
    .init(#"\.\-\/\ \_"#, "a", false, false),
    .init(#"\.\-\/\ \_"#, ".-/ _", true, true),
    .init(".", "\n", false, false),
    .init(".", "é", true, true),
    .init(".", "e\u{301}", false, true),
    .init("..", "\r\n", false, false),
    // Groups.
    .init("(?:ab)+", "abab", true, true),
    .init("(?P<layer>a)(?P<part_2>b)", "ab", true, true),
    // Anchors.
    .init("^ab$", "ab", true, true),
    .init("a$", "a\n", false, true),
    .init("a$", "a\n\n", false, false),
    .init(#"a\Z"#, "a\n", false, false),
    .init(#"\Aa"#, "a", true, true),
    .init("a^b", "ab", false, false),
    .init("(^a|b)+", "ab", true, true),
    .init("(^a|b)+", "ba", false, true),
    .init("a$b", "ab", false, false),
    .init(#"\bab\b"#, "ab", true, true),
    .init(#"a\b\.b"#, "a.b", true, true),
    .init(#"a\bb"#, "ab", false, false),
    .init(#"a\Bb"#, "ab", true, true),
    .init(#"\B"#, "", false, false),
    .init("(?:^)*a", "a", true, true),
  ]

  @Test(arguments: cases) func matchesAsPython(_ example: Case) throws {
    let pattern = try Pattern(example.pattern, option: "target_modules")
    #expect(pattern.matchesWhole(example.text) == example.whole)
    #expect(pattern.matchesPrefix(example.text) == example.prefix)
  }

  @Test(arguments: [
    // Refused by Python, too.
    "(", ")", "(a", "a)", "[", "[a", "[]", "[^]", "[b-a]", #"[\d-z]"#, #"[a-\d]"#, "*", "+a",
    "(*)", "a|*", "a**", "a{2}{3}", "a*??", "^*", "$?", #"\b+"#, "{2}", "a{3,2}", "\\", #"\q"#,
    #"\x4"#, #"\u12"#, "(?P<1>a)", "(?P<>a)", "(?P<a", "(?P<a>b)(?P<a>c)", "(?Pa)",
    "(?", "(?P", "(?P<", #"[\"#, "[a-", "(?<n>a)",
    // Not understood here.
    "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", #"(a)\1"#, "(?P<x>a)(?P=x)", "(?i)a", "(?i:a)",
    "(?#c)a", "(?>a)", "(a)(?(1)b|c)", "a*+", "a{2}+", #"\07"#, #"\N{DIGIT ONE}"#, #"\ud800"#,
  ])
  func refuses(_ text: String) {
    expectOptionError(subject: text) { try Pattern(text, option: "exclude_modules") }
  }

  @Test func tellsOptionPatternAndReason() {
    let error = #expect(throws: LorascError.self) { try Pattern("a(?=b)", option: "rank_pattern") }
    #expect(
      error?.message == "option rank_pattern: the pattern 'a(?=b)' has a lookahead before "
        + "character 5, which is not supported")
  }

  @Test func comparesScalarsNotGraphemes() throws {
    let composed = try Pattern("\u{E9}", option: "x")
    #expect(composed.matchesWhole("\u{E9}"))
    #expect(!composed.matchesWhole("e\u{301}"))
  }

  func expectOptionError(subject: String, _ body: () throws -> Pattern) {
    let error = #expect(throws: LorascError.self) { _ = try body() }
    #expect(error?.status == .option)
    #expect(error?.subject == subject)
  }
}
