/// The options of scope "adapter", read once.
struct AdapterSettings: Sendable {
  let method: Method
  let rank: Int
  let alpha: Double
  let useRSLoRA: Bool
  let targets: String
  let exclude: String
  let allowNoMatch: Bool
  let modulesToSave: [String]
  let seed: UInt64
  let head: HeadDescription

  /// s = alpha / r, or alpha / √r.
  func scale(rank: Int) -> Float {
    Float(alpha / (useRSLoRA ? Double(rank).squareRoot() : Double(rank)))
  }

  init(_ options: Options, model: Model) throws {
    method = Method(rawValue: try options.text("method")) ?? .lorasc
    rank = try options.integer("r")
    alpha = try options.number("lora_alpha")
    guard alpha > 0 else { throw Options.bad("lora_alpha", String(alpha), "is not positive") }
    useRSLoRA = try options.boolean("use_rslora")
    targets = try options.text("target_modules")
    exclude = try options.text("exclude_modules")
    allowNoMatch = try options.boolean("allow_no_match")
    modulesToSave = try options.list("modules_to_save")
    seed = UInt64(try options.integer("adapter_seed"))
    head = try Self.head(options, model)
  }

  private static func head(_ options: Options, _ model: Model) throws -> HeadDescription {
    let own = model.headDescription
    let wanted = try options.text("head")
    let kind = HeadKind(rawValue: wanted) ?? own?.kind ?? .meanLinear
    if kind == .classifier, model.bert.pooler == nil {
      throw LorascError(
        .option, "option head: classifier needs a pooler, and \(model.path) has none",
        subject: "head")
    }
    var labels = try options.integer("num_labels")
    if labels == 0 { labels = own?.labels ?? 2 }
    let problem =
      ProblemType(rawValue: try options.text("problem_type"))
      ?? (own?.labels == labels ? own?.problem : nil)
      ?? (labels == 1 ? .regression : .classification)
    var names = try options.list("id2label")
    if names.isEmpty, let own, own.labels == labels { names = own.labelNames }
    guard names.isEmpty || names.count == labels else {
      throw LorascError(
        .option, "option id2label: \(names.count) names for \(labels) labels", subject: "id2label")
    }
    return HeadDescription(kind: kind, labels: labels, problem: problem, labelNames: names)
  }
}

/// The presets: what `method` sets where the options don't.
public enum Method: String, Sendable {
  case lora
  case cola
  case lorasc
}
