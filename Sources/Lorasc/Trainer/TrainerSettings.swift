/// The options of scope "trainer", read once and checked against each other.
struct TrainerSettings: Sendable {
  enum CascadeUnit: Sendable, Equatable {
    case epochs(Int)
    case steps(Int)
    case list([Int])
    /// As the host says, or never.
    case none
  }
  enum OptimizerKind: String, Sendable { case adamw, sgd }

  let threads: Int
  let seed: UInt64
  let epochs: Int
  let maxSteps: Int
  let batchSize: Int
  let accumulationSteps: Int
  let maxBatchTokens: Int
  let computeType: PackedProducts.ElementType
  private let packing: String
  let shuffle: Bool

  let labelSmoothing: Double
  let classWeights: [Double]
  /// MiB; 0: none
  let memoryLimit: Int
  let similarityScale: Float
  let recompute: Recompute
  let embeddingsDropout: Float
  let hiddenDropout: Float
  let attentionDropout: Float
  let classifierDropout: Float

  let optimizer: OptimizerKind
  let learningRate: Double
  let weightDecay: Double
  let beta1: Double
  let beta2: Double
  let epsilon: Double
  let momentum: Double
  let maxGradNorm: Double
  let loraPlusRatio: Double
  let loraPlusEmbeddingRate: Double
  let trainsA: Bool
  let projectsLoRAFA: Bool
  let schedule: Schedule

  let cascadeUnit: CascadeUnit
  let slowRule: SlowRule
  let slowRates: SlowRates
  let noise: Noise
  let reinitialization: Reinitialization
  let boundaryOptimizer: BoundaryOptimizer
  let rewarmupRatio: Double
  let rewarmupSteps: Int
  let slowHead: Bool

  init(_ options: Options, _ model: Model, _ adapter: AdapterSettings) throws {
    let head = adapter.head
    threads = try options.integer("threads")
    seed = UInt64(try options.integer("seed"))
    epochs = try options.integer("epochs")
    maxSteps = try options.integer("max_steps")
    batchSize = try options.integer("batch_size")
    accumulationSteps = try options.integer("gradient_accumulation_steps")
    maxBatchTokens = try options.integer("max_batch_tokens")
    shuffle = try options.boolean("shuffle")
    computeType = try options.text("compute_dtype") == "bfloat16" ? .bfloat16 : .float32
    packing = try options.text("pack_weights")
    guard computeType == .float32 || model.products == .onednn else {
      throw LorascError(
        .unsupported,
        "compute_dtype bfloat16 needs oneDNN's products; this model's are \(model.products.rawValue)",
        subject: "compute_dtype")
    }

    labelSmoothing = try options.number("label_smoothing")
    classWeights = try options.numbers("class_weights")
    guard classWeights.isEmpty || classWeights.count == head.labels else {
      throw LorascError(
        .option, "option class_weights: \(classWeights.count) weights for \(head.labels) labels",
        subject: "class_weights")
    }
    guard classWeights.allSatisfy({ $0 >= 0 }),
      classWeights.isEmpty || classWeights.contains(where: { $0 > 0 })
    else {
      throw LorascError(
        .option, "option class_weights: weights are >= 0 and not all 0", subject: "class_weights")
    }
    let smooths = [.classification, .nextToken].contains(head.problem)
    let weighs = head.problem == .classification
    for (key, isRefused) in [
      ("class_weights", !weighs && !classWeights.isEmpty),
      ("label_smoothing", !smooths && labelSmoothing > 0),
    ] where isRefused {
      throw LorascError(
        .option, "option \(key): not with \(head.problem.rawValue)", subject: key)
    }
    memoryLimit = try options.integer("memory_limit")
    similarityScale = Float(try options.number("similarity_scale"))
    recompute = Recompute(rawValue: try options.text("recompute")) ?? .none
    let config = model.backbone.dropout
    func dropout(_ key: String, _ ofConfig: Float) throws -> Float {
      try options.text(key) == "from_config" ? ofConfig : Float(try options.number(key))
    }
    embeddingsDropout = try dropout("hidden_dropout", config.embeddings ?? config.hidden)
    hiddenDropout = try dropout("hidden_dropout", config.hidden)
    attentionDropout = try dropout("attention_dropout", config.attention)
    classifierDropout = try dropout("classifier_dropout", config.classifier)

    optimizer = OptimizerKind(rawValue: try options.text("optimizer")) ?? .adamw
    learningRate = try options.number("learning_rate")
    weightDecay = try options.number("weight_decay")
    beta1 = try options.number("beta1")
    beta2 = try options.number("beta2")
    epsilon = try options.number("eps")
    guard Float(epsilon) > 0 else {
      throw Options.bad("eps", epsilon.shortText, "is not positive in float32")
    }
    momentum = try options.number("momentum")
    maxGradNorm = try options.number("max_grad_norm")
    loraPlusRatio = try options.number("loraplus_lr_ratio")
    loraPlusEmbeddingRate = try options.number("loraplus_lr_embedding")
    trainsA = try options.boolean("train_a")
    projectsLoRAFA = try options.boolean("lorafa_project")
    schedule = try Schedule(options)

    cascadeUnit = try Self.cascadeUnit(options)
    slowRule = try SlowRule(options)
    slowRates = try SlowRates(options)
    noise = try Noise(options)
    reinitialization = try Reinitialization(options)
    switch try options.text("boundary_optimizer") {
    case "prune": boundaryOptimizer = .prune(try options.number("prune_ratio"))
    case "keep": boundaryOptimizer = .keep
    default: boundaryOptimizer = .reset
    }
    rewarmupRatio = try options.number("rewarmup_ratio")
    rewarmupSteps = try options.integer("rewarmup_steps")
    slowHead = try options.boolean("slow_head")
    try checkCombination(adapter)
    if slowRule == .emaFactors, reinitialization != .sameA, cascadeUnit != .none {
      Log.send(
        .warning,
        "slow_rule ema_factors averages factors that start from different A: set reinit=same_a")
    }
  }

  private static func cascadeUnit(_ options: Options) throws -> CascadeUnit {
    let length = try options.integer("cascade_length")
    switch try options.text("cascade_unit") {
    case "epoch": return .epochs(length)
    case "step": return .steps(length)
    case "list":
      let items = try options.list("cascade_list")
      let lengths = try items.map { item in
        guard let length = Int(item), length >= 1 else {
          throw Options.bad("cascade_list", item, "is no number of steps")
        }
        return length
      }
      guard !lengths.isEmpty else { throw Options.bad("cascade_list", "", "is empty") }
      return .list(lengths)
    default: return .none
    }
  }

  /// What can't go together.
  private func checkCombination(_ adapter: AdapterSettings) throws {
    if slowRule == .emaFactors, adapter.usesDoRA {
      throw LorascError(
        .option,
        "option slow_rule: ema_factors averages A and B, which are not all of DoRA's expert",
        subject: "slow_rule")
    }
    if !adapter.ranks.isConstant {
      var isReset = false
      if case .reset = boundaryOptimizer { isReset = true }
      let keepsFactors = reinitialization == .sameA || reinitialization == .keepA
      guard isReset, !keepsFactors, slowRule != .emaFactors else {
        throw LorascError(
          .option,
          "option ranks: with ranks that change, boundary_optimizer is reset, reinit draws anew and "
            + "slow_rule is not ema_factors", subject: "ranks")
      }
    }
    if projectsLoRAFA, trainsA {
      throw LorascError(
        .option, "option lorafa_project: A is trained: set train_a=false", subject: "lorafa_project"
      )
    }
  }

  /// Parameters of the adapter that training leaves as they are.
  func frozenParameters(_ adapter: Adapter) -> Set<Int> {
    var frozen: Set<Int> = []
    for target in adapter.targets {
      if reinitialization == .onlyB {
        frozen.insert(adapter.randomFactor(of: target))
      } else if !trainsA, adapter.model.matrices[target.matrix].isLinear {
        frozen.insert(target.a)
      }
    }
    return frozen
  }

  /// What the optimizer keeps, in copies of the parameters.
  var optimizerCopies: Int {
    switch optimizer {
    case .adamw: 2
    case .sgd: momentum > 0 ? 1 : 0
    }
  }

  /// Indices of the matrices that get noise.
  func noisyMatrices(_ model: Model, _ head: HeadDescription, adapted: [Int]) -> [Int] {
    guard noise.isOn else { return [] }
    let adapted = Set(adapted)
    return model.matrices.indices.filter { index in
      adapted.contains(index)
        || noise.onAllMatrices && model.matrices[index].isLinear && model.isBackbone(index, head)
    }
  }

  /// The plan for a trainer with this head.
  func plan(
    _ model: Model, _ adapter: AdapterSettings, _ targets: [AdapterTarget],
    _ fullParameters: [FullParameter]
  ) -> Plan.Settings {
    let matrices = targets.map(\.matrix) + fullParameters.compactMap(\.place.matrixInFull)
    return Plan.Settings(
      head: adapter.head, tokenCapacity: maxBatchTokens,
      training: Plan.Training(recompute: recompute, matrices: Set(matrices)),
      packs: packs(model),
      packsLittleOnly: computeType == .float32 && packing == "auto",
      composes: model.matrices.contains(where: adapter.keepsFactors), threads: threads,
      examples: batchSize)
  }

  /// In float32 the matrices of a host's model stay where they are, in its memory alone.
  private func packs(_ model: Model) -> PackedProducts.ElementType? {
    guard model.products == .onednn else { return nil }
    return computeType == .float32 && (model.isOfHost || packing == "off") ? nil : computeType
  }

  func dropout(draw: Int, ofAdapter expert: Float) -> DropoutPlan {
    DropoutPlan(
      embeddings: embeddingsDropout, hidden: hiddenDropout, attention: attentionDropout,
      classifier: classifierDropout,
      expert: expert, seed: seed, draw: draw)
  }
}
