/// What training takes, before anything is allocated.
public struct Estimate: Sendable {
  /// Frozen tensors, those that stay memory mapped too.
  public let backboneBytes: Int
  /// Trainable tensors, their gradients, and what the optimizer keeps of them.
  public let adapterBytes: Int
  public let gradientBytes: Int
  public let optimizerBytes: Int
  /// The plan's buffers for `max_batch_tokens` tokens: activations, their gradients, logits.
  public let activationBytes: Int
  /// Copies of changed matrices: noisy or merged views, and from the second cascade on what the
  /// finished ones have merged.
  public let weightBytes: Int
  /// Of matrix products over `max_batch_tokens` tokens, in rows as long as the model takes:
  /// forward, and forward with backward. What runs once a row, not once a token, is left out.
  public let forwardFLOPs: Double
  public let stepFLOPs: Double

  public var totalBytes: Int {
    [adapterBytes, gradientBytes, optimizerBytes, activationBytes, weightBytes]
      .reduce(backboneBytes) { $0.addingReportingOverflow($1).overflow ? Int.max : $0 + $1 }
  }

  /// - Parameter options: of an adapter and its trainer
  /// - Throws: as making these
  public init(model: Model, options: Options) throws {
    let adapter = try AdapterSettings(options, model: model)
    try self.init(model, adapter, try TrainerSettings(options, model, adapter))
  }

  init(_ model: Model, _ adapter: AdapterSettings, _ settings: TrainerSettings) throws {
    let layout = try AdapterLayout(model, adapter)
    // Far from overflow; memory refuses the rest.
    let parameterBytes = 4 * min(layout.parameters.end, Int.max / 64)
    backboneBytes = model.backboneBytes
    adapterBytes = parameterBytes
    gradientBytes = parameterBytes
    optimizerBytes = parameterBytes * settings.optimizerCopies

    let tokens = settings.maxBatchTokens
    let activations = Arena(measuring: true)
    let plan = try Plan(
      model, settings.plan(model, adapter, layout.targets, layout.fullParameters), activations)
    let adapted = layout.targets.map(\.matrix)
    _ = try ExpertMemory(
      adapted.map { model.matrices[$0] }, adapter, tokens: tokens, lanes: plan.compute.threads,
      plan.type, activations)
    activationBytes = activations.bytes

    let weights = Arena(measuring: true)
    let noisy = settings.noisyMatrices(model, adapter.head, adapted: adapted)
    let copied = Set(adapted).union(noisy).filter {
      settings.noise.persists || !adapter.keepsFactors(model.matrices[$0])
    }
    _ = try WorkingWeights.allocate(
      model, matrices: copied, layout.fullParameters, layout.parameters.list, weights)
    let masters = copied.reduce(0) { $0 + 4 * model.matrices[$1].count }
    weightBytes = weights.bytes + (settings.cascadeUnit == .none ? 0 : masters)

    let cost = StepCost(model, adapter, layout)
    forwardFLOPs = Double(tokens) * cost.forward(tokens)
    stepFLOPs = Double(tokens) * (cost.forward(tokens) + cost.backward(tokens))
  }

  /// - Throws: `.limit` where the total is over `limit` MiB
  func check(limit: Int) throws {
    guard totalBytes / (1 << 20) >= limit else { return }
    func mebibytes(_ bytes: Int) -> Int { bytes / (1 << 20) }
    throw LorascError(
      .limit,
      "training would take \(mebibytes(totalBytes)) MiB (backbone \(mebibytes(backboneBytes)), "
        + "activations \(mebibytes(activationBytes)), changed weights \(mebibytes(weightBytes))) "
        + "for a memory_limit of \(limit)", subject: "memory_limit")
  }
}

/// Floating-point operations a token, 2 for each multiplication and addition of a product.
private struct StepCost {
  private let model: Model
  private let linear: Double
  private let expert: Double
  private let isBackboneTrained: Bool
  /// Blocks whose queries all run.
  private let layers: Int

  init(_ model: Model, _ adapter: AdapterSettings, _ layout: AdapterLayout) {
    self.model = model
    let selects = model.classifier(adapter.head.kind)?.selection.place != nil
    let rare = selects ? Set(model.backbone.blocks.last?.modulesOfOutputs ?? []) : []
    layers = selects ? max(0, model.layerCount - 1) : model.layerCount
    var elements = model.matrices.indices
      .filter { model.matrices[$0].isLinear && $0 != model.backbone.pooler && !rare.contains($0) }
      .filter { model.isBackbone($0, adapter.head) }
      .reduce(0.0) { $0 + Double(model.matrices[$1].count) }
    if adapter.head.kind == .language, model.backbone.output?.isTied == true {
      elements += Double(model.hiddenSize) * Double(model.vocabularySize)
    }
    linear = 2 * elements
    expert = layout.targets.reduce(0.0) {
      let module = model.matrices[$1.matrix]
      return $0 + 2 * Double($1.rank) * Double(module.inFeatures + module.outFeatures)
    }
    isBackboneTrained =
      !layout.targets.isEmpty || layout.fullParameters.contains { !$0.place.isHead }
  }

  /// Q Kᵀ and P V; of causal attention half.
  private func attention(_ tokens: Int) -> Double {
    let sizes = model.backbone.sizes
    let length = Double(min(tokens, sizes.positions))
    let seen = model.backbone.attention.isCausal ? length / 2 : length
    return 4 * seen * Double(sizes.attentionWidth) * Double(layers)
  }

  func forward(_ tokens: Int) -> Double { linear + expert + attention(tokens) }

  /// Gradients of inputs; of the factors and their inputs; five products of attention.
  func backward(_ tokens: Int) -> Double {
    isBackboneTrained ? linear + 2 * expert + 2.5 * attention(tokens) : 0
  }
}

extension Model {
  /// Of all frozen tensors that the backbone uses.
  var backboneBytes: Int {
    let matrixBytes = matrices.reduce(0) { $0 + $1.weight.bytes + 4 * ($1.bias?.count ?? 0) }
    let normBytes = norms.reduce(0) { $0 + 4 * ($1.gamma.count + ($1.beta?.count ?? 0)) }
    guard case .pixels(let inputs) = backbone.inputs else { return matrixBytes + normBytes }
    return matrixBytes + normBytes + 4 * (inputs.projection.count + inputs.positions.count)
  }
}
