/// A regular expression in the syntax of Python's `re`, matched in linear time.
///
/// ```swift
/// let pattern = try Pattern(#"encoder\.layer\.\d+\..*(query|value)"#, option: "target_modules")
/// pattern.matchesWhole("encoder.layer.3.attention.self.query")  // true
/// ```
///
/// Adapters of PEFT name their modules by such expressions, so an expression must mean here
/// what it means there. `Regex` of Swift's standard library would not do: it backtracks, so
/// `(a+)+$` on a hostile name never ends, and its dialect differs (`\d` and `\w` on grapheme
/// clusters).
///
/// **Understood**, over Unicode scalars as Python's `str`: literals, `.` (not a newline),
/// `[…]`, `\d \w \s` and their negations, `\n \t \r \f \v \a \xhh \uhhhh \Uhhhhhhhh`, escaped
/// punctuation, `(…)`, `(?:…)`, `(?P<name>…)`, `|`, `* + ? {m} {m,} {,n} {m,n}` greedy or lazy,
/// `^ $ \A \Z \b \B`. As in Python, a `{` that opens no repetition is a literal, and `$` also
/// matches before a newline at the end.
///
/// **Refused** with `.option` rather than misread: lookaround, backreferences, flags, comments,
/// conditionals, possessive and atomic forms, octal escapes, `\N{…}`; and what Python refuses.
///
/// **Costs**: time is at most program × text. Length and program are capped, and neither the
/// compiler nor the matcher recurses, so no pattern can exhaust the host's stack.
struct Pattern: Sendable {
  /// Most Unicode scalars of a pattern.
  static let maximumLength = 10_000
  /// Most instructions of a program: `a{9000}` passes, `(a{1000}){1000}` does not.
  static let maximumInstructions = 10_000
  /// Most repetitions that a `{m,n}` may ask for.
  static let maximumRepeat = 10_000

  /// One step of the program. Offsets are relative to the instruction itself, so that a part
  /// can be copied for a repetition or moved without change.
  enum Instruction: Sendable {
    case scalar(Unicode.Scalar)
    case anyButNewline
    /// One scalar of `sets[index]`.
    case set(Int)
    case assert(Assertion)
    case split(Int, Int)
    case jump(Int)
    case accept
  }

  /// What a position in the text must be, without consuming anything.
  enum Assertion: Sendable {
    case start, end, endOrLastNewline, wordBoundary, notWordBoundary
  }

  /// The pattern as it was written.
  let text: String
  let program: [Instruction]
  let sets: [PatternSet]

  /// - Parameter option: the option or key that holds the pattern, for the message.
  /// - Throws: `.option` with the pattern as subject.
  init(_ text: String, option: String) throws {
    try self.init(text, before: "", after: "", option: option)
  }

  /// PEFT's rule for keys of `rank_pattern` and `alpha_pattern`, to be used with
  /// `matchesPrefix`: `(.*\.)?(key)$`. The key is put into that text, not matched apart, so
  /// that one which holds `^` means the same as in PEFT.
  init(nameEndingIn key: String, option: String) throws {
    // Alone first: `a)(b` would be well-formed inside the parentheses only.
    try self.init(key, option: option)
    try self.init(key, before: #"(.*\.)?("#, after: ")$", option: option)
  }

  private init(_ text: String, before: String, after: String, option: String) throws {
    self.text = text
    do throws(PatternSyntaxError) {
      var compiler = PatternCompiler(before + text + after)
      (program, sets) = try compiler.compile()
    } catch {
      let shown = Self.shortened(text)
      throw LorascError(
        .option, "option \(option): the pattern '\(shown)' \(error.reason)", subject: shown)
    }
  }

  /// A hostile pattern should not become a hostile message.
  private static func shortened(_ text: String) -> String {
    let limit = 200
    guard text.unicodeScalars.count > limit else { return text }
    return String(String.UnicodeScalarView(text.unicodeScalars.prefix(limit))) + "..."
  }

  /// Whether the whole text matches, as `re.fullmatch`.
  func matchesWhole(_ text: String) -> Bool {
    PatternMatcher(pattern: self, text: text).run(whole: true)
  }

  /// Whether the text's beginning matches, as `re.match`.
  func matchesPrefix(_ text: String) -> Bool {
    PatternMatcher(pattern: self, text: text).run(whole: false)
  }
}

/// Why a pattern is refused, as the end of a sentence that begins with the pattern.
struct PatternSyntaxError: Error {
  let reason: String

  init(_ reason: String) { self.reason = reason }
}
