import Testing

@testable import Lorasc

/// Patterns made to exhaust time, memory or stack.
@Suite struct PatternLimitsTests {
  @Test(
    .timeLimit(.minutes(1)),
    arguments: ["(a+)+$", "(a|a)*$", "(a*)*$", "(.*)*$", "(a|aa)+$", "(.*a){20}$"])
  func staysLinear(_ text: String) throws {
    let pattern = try Pattern(text, option: "x")
    let hostile = String(repeating: "a", count: 20_000)
    #expect(pattern.matchesWhole(hostile))
    #expect(pattern.matchesWhole(hostile + "!\n") == false)
  }

  @Test(arguments: [
    "a{1,1000000}", "a{10001}", "a{99999999999999999999999}", "(){1000000}",
    "(a{1000}){1000}", "((a{100}){100}){100}", "((((a{9}){9}){9}){9}){9}", "(a?){9999}",
    "a{5000}b{5000}", "(((((){9999}|a){99}){99}){99}){99}",
  ])
  func refusesLargePrograms(_ text: String) {
    expectRefused(text)
  }

  @Test func refusesLongTexts() {
    expectRefused(String(repeating: "(", count: 100_000) + String(repeating: ")", count: 100_000))
    expectRefused(String(repeating: "a", count: Pattern.maximumLength + 1))
    expectRefused(String(repeating: "a|", count: 4_000))
  }

  /// Nothing recurses, so depth is bounded by the length alone, on any thread's stack.
  @Test(.timeLimit(.minutes(1)), arguments: ["", "?", "*", "{1}", "|"])
  func acceptsDeepNesting(_ suffix: String) throws {
    let depth = 1_200
    let text =
      String(repeating: "(", count: depth) + "a" + String(repeating: ")" + suffix, count: depth)
    let balanced =
      suffix == "|"
      ? String(repeating: "(|", count: depth) + "a" + String(repeating: ")", count: depth) : text
    let pattern = try Pattern(balanced, option: "x")
    #expect(pattern.matchesWhole("a"))
    #expect(!pattern.matchesWhole("b"))
  }

  @Test func acceptsUpToTheCap() throws {
    let pattern = try Pattern("a{9000}", option: "x")
    #expect(pattern.matchesWhole(String(repeating: "a", count: 9_000)))
    #expect(!pattern.matchesWhole(String(repeating: "a", count: 8_999)))
  }

  /// Every sequence of a few significant pieces either compiles or is refused: nothing traps.
  @Test func survivesEverySmallPattern() {
    let pieces = [
      "(", ")", "|", "*", "?", "{2}", "{,1}", "[", "]", "^", "-", "\\", "a", "(?:", "{",
    ]
    var compiled = 0
    for code in 0..<(pieces.count * pieces.count * pieces.count * pieces.count) {
      var rest = code
      var text = ""
      for _ in 0..<4 {
        text += pieces[rest % pieces.count]
        rest /= pieces.count
      }
      guard let pattern = try? Pattern(text, option: "x") else { continue }
      _ = pattern.matchesWhole("aa-")
      _ = pattern.matchesPrefix("")
      compiled += 1
    }
    #expect(compiled > 0)
  }

  private func expectRefused(_ text: String) {
    let error = #expect(throws: LorascError.self) { try Pattern(text, option: "x") }
    #expect(error?.status == .option)
    #expect((error?.message.utf8.count ?? 0) < 400)
  }
}
