/// The options of scope "adapter", read once.
struct AdapterSettings: Sendable {
  enum Bias: String, Sendable {
    case none, all
    case loraOnly = "lora_only"
  }
  enum Initialization: String, Sendable {
    case uniform = "default"
    case gaussian, pissa
  }

  let ranks: AdapterRanks
  let usesDoRA: Bool
  let isNormExact: Bool
  let dropout: Float
  let initialization: Initialization
  let targets: String
  let exclude: String
  let layers: LayerSelection?
  let allowNoMatch: Bool
  let modulesToSave: [String]
  let bias: Bias
  let seed: UInt64
  let head: HeadDescription
  /// As the adapter was made; a file of it says them again.
  let options: Options
  /// The configuration of the file it came from, whose unknown keys go along into the next one.
  let foreignConfig: JSONObject

  init(_ options: Options, model: Model, foreignConfig: JSONObject = JSONObject()) throws {
    self.options = options
    self.foreignConfig = foreignConfig
    ranks = try AdapterRanks(options)
    usesDoRA = try options.boolean("use_dora")
    isNormExact = try options.text("dora_norm") == "exact"
    dropout = Float(try options.number("lora_dropout"))
    initialization = Initialization(rawValue: try options.text("init_lora_weights")) ?? .uniform
    targets = try options.text("target_modules")
    exclude = try options.text("exclude_modules")
    layers = try LayerSelection(options)
    allowNoMatch = try options.boolean("allow_no_match")
    modulesToSave = try options.list("modules_to_save")
    bias = Bias(rawValue: try options.text("bias")) ?? .none
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
