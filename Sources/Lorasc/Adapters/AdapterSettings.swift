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

  /// How an adapter holds W_{t-1} of the matrices that finished cascades changed.
  private enum MasterWeights: String {
    /// Factors beside a quantised W0, else a float32 copy.
    case auto
    case float32, factors
  }

  /// How the rules see modules.
  let names: ModuleName
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
  private let masterWeights: MasterWeights
  /// As the adapter was made; a file of it says them again.
  let options: Options
  /// The configuration of the file it came from, whose unknown keys go along into the next one.
  let foreignConfig: JSONObject

  /// - Parameter names: nil: all spellings
  init(
    _ options: Options, model: Model, foreignConfig: JSONObject = JSONObject(),
    names: ModuleName? = nil
  ) throws {
    let names = names ?? ModuleName(form: model.form)
    self.names = names
    self.options = options
    self.foreignConfig = foreignConfig
    ranks = try AdapterRanks(options, names)
    usesDoRA = try options.boolean("use_dora")
    isNormExact = try options.text("dora_norm") == "exact"
    dropout = Float(try options.number("lora_dropout"))
    initialization = Initialization(rawValue: try options.text("init_lora_weights")) ?? .uniform
    let wanted = try options.text("target_modules")
    targets = wanted == "auto" ? model.form.defaultTargets : wanted
    exclude = try options.text("exclude_modules")
    layers = try LayerSelection(options, names)
    allowNoMatch = try options.boolean("allow_no_match")
    modulesToSave = try options.list("modules_to_save")
    bias = Bias(rawValue: try options.text("bias")) ?? .none
    seed = UInt64(try options.integer("adapter_seed"))
    head = try Self.head(options, model)
    masterWeights = MasterWeights(rawValue: try options.text("master_weights")) ?? .auto
  }

  /// Whether a matrix's change stays a sum of low-rank terms beside W0. DoRA's has full rank.
  func keepsFactors(_ module: MatrixModule) -> Bool {
    guard !usesDoRA else { return false }
    return switch masterWeights {
    case .auto: module.weight.isQuantized
    case .float32: false
    case .factors: true
    }
  }

  private static func head(_ options: Options, _ model: Model) throws -> HeadDescription {
    if model.isOfHost { return HeadDescription(kind: .host, labels: 0, problem: .host) }
    let own = model.headDescription
    let kind = HeadKind(rawValue: try options.text("head")) ?? model.defaultHead
    var labels = try options.integer("num_labels")
    let problem = try options.text("problem_type")
    switch kind {
    case .language, .embedding:
      guard labels == 0 else { throw refuse("num_labels", kind, "has outputs of its own") }
      guard problem == "auto" else { throw refuse("problem_type", kind, "has one of its own") }
    case .classifier, .token, .meanLinear, .host: break
    }
    if kind == .language {
      guard model.backbone.output != nil else {
        throw refuse("head", kind, "needs an output layer, and \(model.path) has none")
      }
      return HeadDescription(kind: kind, labels: model.vocabularySize, problem: .nextToken)
    }
    if kind == .embedding {
      return HeadDescription(
        kind: kind, labels: model.hiddenSize, problem: .contrastive,
        rowsOfExample: try options.integer("contrastive_rows"))
    }
    guard model.classifier(kind) != nil else {
      throw refuse(
        "head", kind,
        kind == .classifier && model.architecture == "bert"
          ? "needs a pooler, and \(model.path) has none"
          : "is not offered for \(model.architecture)")
    }
    if labels == 0 { labels = own?.kind == kind ? own?.labels ?? 2 : 2 }
    let known: [ProblemType] = [.classification, .multiLabel, .regression]
    let chosen =
      known.first { $0.rawValue == problem }
      ?? (own?.labels == labels && own?.kind == kind ? own?.problem : nil)
      ?? (labels == 1 && kind != .token ? .regression : .classification)
    guard kind != .token || chosen == .classification else {
      throw refuse("problem_type", kind, "classifies")
    }
    var names = try options.list("id2label")
    if names.isEmpty, let own, own.labels == labels { names = own.labelNames }
    guard names.isEmpty || names.count == labels else {
      throw LorascError(
        .option, "option id2label: \(names.count) names for \(labels) labels", subject: "id2label")
    }
    return HeadDescription(kind: kind, labels: labels, problem: chosen, labelNames: names)
  }

  private static func refuse(_ option: String, _ kind: HeadKind, _ why: String) -> LorascError {
    LorascError(.option, "option \(option): head \(kind.rawValue) \(why)", subject: option)
  }
}

extension Model {
  /// The folder's own; else what the architecture is for.
  var defaultHead: HeadKind {
    if let own = headDescription { return own.kind }
    if backbone.output != nil { return .language }
    if case .pixels = backbone.inputs { return .classifier }
    return .meanLinear
  }
}
