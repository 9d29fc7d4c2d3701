/// Rank and scale of each module's expert in each cascade: `r`, `lora_alpha`, `use_rslora`,
/// `rank_pattern`, `alpha_pattern`, `ranks`.
struct AdapterRanks: Sendable {
  static let largest = 65536

  private enum Steps: Sendable {
    case constant
    /// Halved from cascade to cascade, down to 1 (COLA).
    case halved
    case list([Int])
  }

  private let rank: Int
  private let alpha: Double
  let usesRSLoRA: Bool
  private let rankPattern: PatternMap<Int>
  private let alphaPattern: PatternMap<Double>
  private let steps: Steps

  var isConstant: Bool { if case .constant = steps { true } else { false } }

  init(_ options: Options, _ names: ModuleName) throws {
    rank = try options.integer("r")
    alpha = try Self.positive(try options.number("lora_alpha"), "lora_alpha")
    usesRSLoRA = try options.boolean("use_rslora")
    rankPattern = try PatternMap(
      try Self.members(options, "rank_pattern").map { key, value in
        guard case .integer(let number) = value, let rank = Int(exactly: number),
          (1...Self.largest).contains(rank)
        else {
          throw LorascError(
            .option, "option rank_pattern: the rank of '\(key)' is not in 1 ... \(Self.largest)",
            subject: "rank_pattern")
        }
        return (key, rank)
      }, option: "rank_pattern", names)
    alphaPattern = try PatternMap(
      try Self.members(options, "alpha_pattern").map { key, value in
        switch value {
        case .integer(let number): (key, try Self.positive(Double(number), "alpha_pattern"))
        case .number(let number): (key, try Self.positive(number, "alpha_pattern"))
        default:
          throw LorascError(
            .option, "option alpha_pattern: the value of '\(key)' is no number",
            subject: "alpha_pattern")
        }
      }, option: "alpha_pattern", names)
    steps = try Self.steps(options)
    if case .list = steps, !rankPattern.isEmpty {
      throw LorascError(
        .option, "option ranks: a list of ranks and rank_pattern exclude each other",
        subject: "ranks")
    }
  }

  private static func positive(_ value: Double, _ key: String) throws -> Double {
    guard value > 0, value.isFinite else {
      throw Options.bad(key, value.shortText, "is not positive")
    }
    return value
  }

  private static func members(_ options: Options, _ key: String) throws -> [(String, JSONValue)] {
    let text = try options.text(key)
    if text.allSatisfy(\.isWhitespace) { return [] }
    guard case .object(let object)? = try? JSONValue.parse(text) else {
      throw LorascError(
        .option, "option \(key): is no JSON object of module names and numbers", subject: key)
    }
    return object.members.map { ($0.key, $0.value) }
  }

  private static func steps(_ options: Options) throws -> Steps {
    let items = try options.list("ranks")
    if items.isEmpty { return .constant }
    if items == ["step_down"] { return .halved }
    return .list(
      try items.map { item in
        guard let rank = Int(item), (1...largest).contains(rank) else {
          throw Options.bad("ranks", item, "is no rank in 1 ... \(largest)")
        }
        return rank
      })
  }

  /// - Parameter cascade: from 1
  func rank(_ module: String, cascade: Int) -> Int {
    let first = rankPattern.value(for: module) ?? rank
    switch steps {
    case .constant: return first
    case .halved: return max(1, first >> min(max(cascade, 1) - 1, 62))
    case .list(let ranks): return ranks[min(max(cascade, 1), ranks.count) - 1]
    }
  }

  /// Of all cascades.
  func largestRank(_ module: String) -> Int {
    if case .list(let ranks) = steps { return ranks.max() ?? rank }
    return rank(module, cascade: 1)
  }

  func alpha(_ module: String) -> Double { alphaPattern.value(for: module) ?? alpha }

  /// s = alpha / r, or alpha / √r.
  func scale(_ module: String, rank: Int) -> Float {
    Float(alpha(module) / (usesRSLoRA ? Double(rank).squareRoot() : Double(rank)))
  }

  /// The patterns' keys that match none of these modules.
  func unmatchedKeys(in names: [String]) -> [String] {
    rankPattern.unmatchedKeys(in: names) + alphaPattern.unmatchedKeys(in: names)
  }
}
