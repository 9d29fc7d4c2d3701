import CSupport
import Synchronization

/// Figures of what was accumulated, or of a step.
public struct StepStats: Sendable {
  /// From 1.
  public var cascade = 1
  /// Optimizer steps done.
  public var step = 0
  public var rows = 0
  public var tokens = 0
  /// Weighted mean.
  public var loss = 0.0
  public var lossWeight = 0.0
  /// Before clipping; 0 from `accumulate`.
  public var gradientNorm = 0.0
  public var learningRate = 0.0
}

/// Loss and accuracy over a dataset.
public struct Evaluation: Sendable {
  /// That carry a loss.
  public var rows = 0
  public var loss = 0.0
  public var lossWeight = 0.0
  /// NaN for regression.
  public var accuracy = Double.nan
}

/// Trains one adapter: gradients, optimizer, schedule, cascades.
///
/// Either the host's own loop (`accumulate`, `apply`, `endCascade`) or `run`. One call at a
/// time; `interrupt` from any thread.
///
/// ```swift
/// let trainer = try Trainer(model: model, adapter: adapter, options: options)
/// try trainer.run(dataset)
/// try adapter.merge(to: "my-model")
/// ```
public final class Trainer: @unchecked Sendable {
  public let model: Model
  public let adapter: Adapter
  let options: Options
  let settings: TrainerSettings
  let plan: Plan
  let weights: WorkingWeights
  let optimizer: Optimizer
  let gradient: FloatBuffer
  let use = ExclusiveUse("trainer")
  private let interruption: Interruption

  var baseLearningRate: Double
  var state = TrainerState()
  /// What was accumulated since the last step.
  var sums = LossSums()
  var pendingRows = 0
  var pendingTokens = 0
  /// Linear modules with noise, and their standard deviations in this cascade.
  let noisy: [Int]
  private var deviations: [Int: Double] = [:]
  private var deviationsOf = 0

  /// Bytes of the plan's buffers.
  public var planBytes: Int { plan.arena.bytes }
  public var threads: Int { plan.compute.threads }

  /// Where the trainer stands: cascade from 1; optimizer steps done, in all and in the
  /// cascade, and of the whole run (0 while unknown).
  public func position() throws -> (cascade: Int, step: Int, cascadeStep: Int, totalSteps: Int) {
    try use(fromCallbackToo: true) {
      (adapter.cascade.index, state.step, state.cascadeStep, state.totalSteps)
    }
  }

  /// - Parameter interruption: what `interrupt` sets; one may be shared with a signal handler.
  /// - Throws: `.option`, `.busy` where another trainer holds the adapter, `.mismatch`,
  ///   `.outOfMemory`
  public init(
    model: Model, adapter: Adapter, options: Options = Options(),
    interruption: Interruption = Interruption()
  ) throws {
    guard adapter.model === model else {
      throw LorascError(.mismatch, "the adapter was made for another model", subject: "adapter")
    }
    guard
      adapter.hasTrainer.compareExchange(
        expected: false, desired: true, ordering: .acquiringAndReleasing
      ).exchanged
    else { throw LorascError(.busy, "another trainer holds the adapter", subject: "adapter") }
    var isComplete = false
    defer { if !isComplete { adapter.hasTrainer.store(false, ordering: .releasing) } }

    self.model = model
    self.adapter = adapter
    self.options = options
    self.interruption = interruption
    settings = try TrainerSettings(options, model: model, head: adapter.head)
    baseLearningRate = settings.learningRate
    state.totalSteps = settings.maxSteps
    let adapted = adapter.targets.map(\.linear)
    noisy =
      !settings.noise.isOn
      ? []
      : settings.noise.onAllMatrices
        ? model.linears.indices.filter { model.isBackboneLinear($0, adapter.head) } : adapted
    plan = try Plan(
      model, head: adapter.head, tokenCapacity: settings.maxBatchTokens, training: true,
      threads: settings.threads)
    weights = try WorkingWeights(adapter, plan, noisy: noisy)
    optimizer = try Optimizer(settings, count: adapter.parameters.bufferCount)
    gradient = try FloatBuffer(count: adapter.parameters.bufferCount, what: "gradients")
    try bind()
    try adapter.use {
      adapter.cascade.rule = settings.slowRule
      adapter.cascade.rate = settings.slowRates.rate(cascade: adapter.cascade.index, of: nil)
    }
    isComplete = true
  }

  deinit { adapter.hasTrainer.store(false, ordering: .releasing) }

  /// Points the plan's layers at the adapter's parameters and the gradients.
  private func bind() throws {
    let parameters = adapter.parameters
    let rank = adapter.targets.map(\.rank).max() ?? 0
    let tokens = settings.maxBatchTokens
    let scratch = try plan.arena.matrix(tokens, rank, "plan.gradient.projected")
    for target in adapter.targets {
      plan.linears[target.linear].expert = LowRankBinding(
        rank: target.rank, scale: target.scale, a: parameters.pointer(target.a),
        b: parameters.pointer(target.b),
        gradientA: gradient.pointer + parameters.list[target.a].offset,
        gradientB: gradient.pointer + parameters.list[target.b].offset,
        projected: try plan.arena.matrix(tokens, target.rank, "plan.projected"), scratch: scratch)
    }
    for module in adapter.fullModules {
      weights.layer(of: module)?.full = FullBinding(
        gradientWeight: gradient.pointer + parameters.list[module.weight].offset,
        gradientBias: module.bias.map { gradient.pointer + parameters.list[$0].offset })
    }
  }

  // MARK: The host's own loop

  /// Forward and backward of one batch; gradients are added up.
  ///
  /// - Throws: `.limit`, `.shape`, `.token`, `.label`, `.noLoss`, `.nonFinite`, `.interrupted`,
  ///   `.busy`; nothing was added then.
  @discardableResult
  public func accumulate(_ batch: Batch) throws -> StepStats {
    try exclusively {
      try checkInterruption()
      let rate = try nextLearningRate()
      try plan.batch.load(batch, withLoss: true)
      try accumulateStaged()
      return stats(learningRate: rate)
    }
  }

  /// Divides the gradient by the total weight, clips, steps.
  ///
  /// - Throws: `.state` where nothing was accumulated; `.nonFinite` names the tensor, drops
  ///   the gradient and leaves the weights.
  @discardableResult
  public func apply() throws -> StepStats {
    try exclusively { try applyAccumulated() }
  }

  public func discardGradients() throws {
    try exclusively { clearGradients() }
  }

  /// Gradient of a trainable tensor so far, divided by the total weight.
  public func gradient(of name: String) throws -> [Float] {
    try exclusively {
      let parameter = adapter.parameters.list[try adapter.parameters.index(of: name)]
      guard sums.weight > 0 else { throw Self.nothingAccumulated }
      let values = UnsafeBufferPointer(
        start: gradient.pointer + parameter.offset, count: parameter.count)
      let scale = Float(1 / sums.weight)
      return values.map { $0 * scale }
    }
  }

  /// Ends the cascade as the host says.
  @discardableResult
  public func endCascade() throws -> StepStats {
    try exclusively {
      guard sums.rows == 0 else {
        throw LorascError(.state, "gradients are accumulated: apply or discard them first")
      }
      try advanceCascade()
      return stats(learningRate: try nextLearningRate())
    }
  }

  public func learningRate() throws -> Double {
    try use(fromCallbackToo: true) { baseLearningRate }
  }

  public func setLearningRate(_ rate: Double) throws {
    guard rate.isFinite, rate >= 0 else {
      throw LorascError(
        .argument, "the learning rate \(rate) is not finite and >= 0", subject: "rate")
    }
    try use(fromCallbackToo: true) { baseLearningRate = rate }
  }

  /// Stops the current or else the next run, accumulate or evaluate with `.interrupted`.
  public func interrupt() { interruption.set() }

  /// The merged view of a matrix ("<module>.weight") or head tensor.
  public func merged(_ name: String) throws -> [Float] {
    try exclusively(fromCallbackToo: true) {
      for (position, target) in adapter.targets.enumerated()
      where model.linears[target.linear].name + ".weight" == name {
        let out = try FloatBuffer(count: model.linears[target.linear].count, what: name)
        try adapter.weight(position, .merged, into: out.pointer, plan.compute)
        return out.values
      }
      if let linear = model.linears.firstIndex(where: { $0.name + ".weight" == name }),
        !adapter.fullModules.contains(where: { $0.linear == linear })
      {
        return Array(
          UnsafeBufferPointer(start: adapter.clean(linear), count: model.linears[linear].count))
      }
      let parameter = try adapter.parameters.index(of: name)
      guard !adapter.parameters.list[parameter].kind.isFactor else {
        throw LorascError(
          .notFound, "\(name) is a factor, not a matrix of the model", subject: name)
      }
      let out = try FloatBuffer(count: adapter.parameters.list[parameter].count, what: name)
      adapter.fullValue(parameter, .merged, into: out.pointer)
      return out.values
    }
  }
}

// MARK: One step, inside an exclusive call

extension Trainer {
  static let nothingAccumulated = LorascError(.state, "nothing is accumulated")

  /// This trainer and its adapter are this call's alone, and OpenBLAS works on one thread.
  func exclusively<Result>(fromCallbackToo: Bool = false, _ body: () throws -> Result) throws
    -> Result
  {
    try use(fromCallbackToo: fromCallbackToo) {
      try adapter.use(fromCallbackToo: fromCallbackToo) {
        try BLASThreads.withSingleThread(body)
      }
    }
  }

  func checkInterruption() throws {
    if interruption.take() {
      throw LorascError(.interrupted, "interrupted by lorasc_trainer_interrupt")
    }
  }

  var loss: Loss {
    Loss(
      problem: adapter.head.problem, labels: adapter.head.labels,
      smoothing: settings.labelSmoothing, classWeights: settings.classWeights)
  }

  /// Makes the cascade's weights ready; the first time in a cascade this starts it.
  private func showTraining() throws {
    let number = adapter.cascade.index
    if deviationsOf != number {
      try adapter.rememberStart(sameA: settings.sameA, slowHead: settings.slowHead)
      deviations = [:]
      let noise = settings.noise
      if noise.isOn, noise.lifetime == .removed || state.noisedCascade != number {
        for linear in noisy {
          deviations[linear] = Noise.deviation(
            adapter.clean(linear), count: model.linears[linear].count, plan.compute.kernels)
        }
        if noise.lifetime == .persist { try persistNoise(number) }
      }
      deviationsOf = number
    }
    weights.showTraining(settings.noise, noisy: noisy, deviations: deviations)
  }

  /// Noise that stays: it goes into the clean weights at the cascade's start.
  private func persistNoise(_ number: Int) throws {
    for linear in noisy { _ = try adapter.makeMaster(linear) }
    for linear in noisy {
      guard let master = adapter.masters[linear], let deviation = deviations[linear] else {
        continue
      }
      settings.noise.add(
        to: master.pointer, deviation: deviation, model.linears[linear], cascade: number,
        into: master.pointer, plan.compute)
    }
    adapter.cascade.isFullRank = true
    state.noisedCascade = number
    weights.invalidate()
  }

  /// The clean weights are others now: nothing derived from them holds.
  func forgetCascade() {
    deviationsOf = 0
    weights.invalidate()
  }

  /// Forward and backward of what is staged in the plan.
  /// - Parameter allowsNoLoss: a part without a loss adds nothing, instead of an error.
  func accumulateStaged(allowsNoLoss: Bool = false) throws {
    let batch = plan.batch
    guard let head = plan.head else { return }
    try showTraining()
    let dropout = settings.dropout(draw: state.draw)
    let states = plan.encoder.forward(batch, dropout: dropout)
    head.forward(states, batch, dropout: dropout, plan.compute)
    let added = loss(logits: head.logits, gradient: head.dLogits, batch)
    guard added.weight > 0 else {
      if allowsNoLoss { return }
      throw LorascError(.noLoss, "no row of the batch carries a loss", subject: "labels")
    }
    guard added.loss.isFinite else {
      throw LorascError(.nonFinite, "the loss is \(added.loss)", subject: "loss")
    }
    let isEncoderTrained = plan.encoder.isTrained
    head.backward(
      dHidden: isEncoderTrained ? plan.encoder.outputGradient : nil, batch, dropout: dropout,
      plan.compute)
    if isEncoderTrained { plan.encoder.backward(batch, dropout: dropout) }
    state.draw += 1
    sums += added
    pendingRows += batch.rows
    pendingTokens += batch.tokenCount
  }

  func applyAccumulated() throws -> StepStats {
    guard sums.weight > 0 else { throw Self.nothingAccumulated }
    let rate = try nextLearningRate()
    let norm = try gradientNorm()
    var scale = 1 / sums.weight
    let clip = settings.maxGradNorm > 0 ? min(1, settings.maxGradNorm / (norm + 1e-6)) : 1
    scale *= clip
    guard
      !optimizer.couldOverflow(
        adapter.parameters, norm: norm * clip, learningRate: rate, plan.compute.kernels)
    else {
      clearGradients()
      throw LorascError(
        .nonFinite, "a step at learning rate \(rate) would leave float32's range",
        subject: "learning_rate")
    }
    optimizer.step(
      adapter.parameters, gradient: gradient.pointer, gradientScale: scale,
      learningRate: rate, plan.compute.kernels)
    var result = stats(learningRate: rate)
    result.gradientNorm = norm
    state.step += 1
    state.cascadeStep += 1
    result.step = state.step
    clearGradients()
    return result
  }

  /// ‖gradient‖₂ after the division, in float64.
  ///
  /// - Throws: `.nonFinite` with the first offending tensor; the gradient is dropped then.
  private func gradientNorm() throws -> Double {
    var total = 0.0
    for parameter in adapter.parameters.list {
      let values = gradient.pointer + parameter.offset
      let squares = plan.compute.kernels.sum_squared_deviations(values, 0, parameter.count)
      // 1e36: beyond it AdamW's second moment overflows float32.
      let mean = squares / (sums.weight * sums.weight)
      guard mean.isFinite, mean < 1e36 else {
        clearGradients()
        throw LorascError(
          .nonFinite, "the gradient of \(parameter.name) is not finite or overflows",
          subject: parameter.name)
      }
      total += mean
    }
    return total.squareRoot()
  }

  func clearGradients() {
    gradient.buffer.update(repeating: 0)
    sums = LossSums()
    pendingRows = 0
    pendingTokens = 0
  }

  func stats(learningRate: Double) -> StepStats {
    StepStats(
      cascade: adapter.cascade.index, step: state.step, rows: pendingRows, tokens: pendingTokens,
      loss: sums.weight > 0 ? sums.loss / sums.weight : 0, lossWeight: sums.weight,
      gradientNorm: 0, learningRate: learningRate)
  }

  /// Base rate × schedule × re-warm-up of the next step.
  func nextLearningRate() throws -> Double {
    guard state.totalSteps > 0 || !settings.schedule.needsTotal else {
      throw LorascError(
        .option,
        "option max_steps: a schedule other than constant needs the number of all steps",
        subject: "max_steps")
    }
    let factor = settings.schedule.factor(step: state.step, total: state.totalSteps)
    return baseLearningRate * factor
      * Schedule.rewarmup(step: state.cascadeStep, over: rewarmupSteps)
  }

  private var rewarmupSteps: Int {
    guard adapter.cascade.index > 1 else { return 0 }
    if settings.rewarmupSteps > 0 { return settings.rewarmupSteps }
    guard settings.rewarmupRatio > 0 else { return 0 }
    let length = state.cascadeLength(adapter.cascade.index, settings.cascadeUnit)
    return max(1, Int(settings.rewarmupRatio * Double(length)))
  }

  func advanceCascade() throws {
    let next = settings.slowRates.rate(
      cascade: adapter.cascade.index + 1, of: state.totalCascades == 0 ? nil : state.totalCascades)
    // A cascade without a step still begins, so that what later ones need is remembered.
    try showTraining()
    try adapter.endCascade(
      nextRate: next, seed: settings.seed, sameA: settings.sameA, plan.compute)
    if settings.resetsOptimizer { optimizer.resetFactors(adapter.parameters) }
    state.lastCascadeSteps = state.cascadeStep
    state.cascadeStep = 0
    weights.invalidate()
  }
}
