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
  /// e^loss of a language model, NaN for other heads.
  public var perplexity = Double.nan
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
  let bindings: Bindings
  let use = ExclusiveUse("trainer")
  private let interruption: Interruption

  var baseLearningRate: Double
  var state = TrainerState()
  /// What was accumulated since the last step.
  var sums = LossSums()
  var pendingRows = 0
  var pendingTokens = 0
  /// In place of the built-in loss.
  var hostLoss: HostLoss?
  /// Matrices with noise, and their standard deviations in this cascade.
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
    try adapter.require(model)
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
    settings = try TrainerSettings(options, model, adapter.settings)
    if settings.memoryLimit > 0 {
      try Estimate(model, adapter.settings, settings).check(limit: settings.memoryLimit)
    }
    baseLearningRate = settings.learningRate
    state.totalSteps = settings.maxSteps
    noisy = settings.noisyMatrices(model, adapter.head, adapted: adapter.targets.map(\.matrix))
    plan = try Plan(
      model, settings.plan(model, adapter.settings, adapter.targets, adapter.fullParameters))
    weights = try WorkingWeights(
      adapter, plan, noisy: noisy, isPersistent: settings.noise.persists)
    let frozen = settings.frozenParameters(adapter)
    optimizer = try Optimizer(
      settings, count: adapter.parameters.bufferCount, frozen: frozen)
    gradient = try FloatBuffer(count: adapter.parameters.bufferCount, what: "gradients")
    bindings = try Bindings(
      adapter, plan, gradient: gradient, tokens: settings.maxBatchTokens, frozen: frozen)
    try adapter.use {
      adapter.cascade.rule = settings.slowRule
      adapter.cascade.rate = settings.slowRates.rate(cascade: adapter.cascade.index, of: nil)
    }
    isComplete = true
  }

  deinit { adapter.hasTrainer.store(false, ordering: .releasing) }

  // MARK: The host's own loop

  /// Forward and backward of one batch; gradients are added up.
  ///
  /// - Throws: `.limit`, `.shape`, `.token`, `.label`, `.noLoss`, `.nonFinite`, `.interrupted`,
  ///   `.busy`; nothing was added then.
  @discardableResult
  public func accumulate(_ batch: Batch) throws -> StepStats {
    try model.requireForward()
    return try exclusively {
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
      guard sums.rows == 0 else { throw Self.somethingAccumulated }
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

  /// The merged view of a matrix ("<module>.weight"), in its file's layout, or of a head tensor.
  public func merged(_ name: String) throws -> [Float] {
    try exclusively(fromCallbackToo: true) {
      if let full = adapter.fullParameters.first(where: {
        adapter.parameters.list[$0.parameter].name == name
      }) {
        let out = try FloatBuffer(
          count: adapter.parameters.list[full.parameter].count, what: name)
        adapter.fullValue(full.parameter, .merged, into: out.pointer)
        return out.values
      }
      guard let matrix = model.matrices.firstIndex(where: { $0.name + ".weight" == name }) else {
        throw LorascError(
          .notFound, "\(name) is neither a matrix of the model nor trained in full", subject: name)
      }
      let out = try FloatBuffer(count: model.matrices[matrix].count, what: name)
      try adapter.storedWeight(ofMatrix: matrix, .merged, into: out, plan.compute)
      return out.values
    }
  }
}

// MARK: One step, inside an exclusive call

extension Trainer {
  static let nothingAccumulated = LorascError(.state, "nothing is accumulated")
  static let somethingAccumulated = LorascError(
    .state, "gradients are accumulated: apply or discard them first")

  /// This trainer and its adapter are this call's alone, and OpenBLAS works on one thread.
  func exclusively<Result>(fromCallbackToo: Bool = false, _ body: () throws -> Result) throws
    -> Result
  {
    try use(fromCallbackToo: fromCallbackToo) {
      try adapter.use(fromCallbackToo: fromCallbackToo) {
        try model.requireUnmerged()
        return try BLASThreads.withSingleThread(body)
      }
    }
  }

  func checkInterruption() throws {
    if interruption.take() {
      throw LorascError(.interrupted, "interrupted by lorasc_trainer_interrupt")
    }
  }

  var cascadeNoise: CascadeNoise {
    CascadeNoise(
      settings.noise, deviations: deviations, cascade: adapter.cascade.index, done: state.step)
  }

  /// Makes the cascade's weights ready; the first time in a cascade this starts it.
  func showTraining() throws {
    let number = adapter.cascade.index
    let noise = settings.noise
    guard deviationsOf != number else {
      try weights.showTraining(cascadeNoise)
      return
    }
    try adapter.rememberStart(settings.reinitialization, slowHead: settings.slowHead)
    deviations = [:]
    if noise.isOn, noise.lifetime != .persist || state.noisedCascade != number {
      for matrix in noisy {
        let count = model.matrices[matrix].count
        deviations[matrix] = try adapter.clean(matrix).withFloats(count) {
          Noise.deviation($0, count: count, plan.compute.kernels)
        }
      }
      if noise.lifetime == .persist { try persistNoise(number) }
    }
    adapter.cascade.noise =
      noise.isOn && noise.lifetime == .removed
      ? BackboneNoise(noise: noise, deviations: deviations) : nil
    try weights.showTraining(cascadeNoise)
    if noise.isOn, noise.lifetime != .perStep { try measureNoisyMagnitudes() }
    deviationsOf = number
  }

  /// DoRA: a fresh expert's m is ‖W̃‖ by rows, so that it changes nothing yet.
  private func measureNoisyMagnitudes() throws {
    for target in adapter.targets {
      guard let magnitude = target.magnitude,
        adapter.parameters.buffer(target.b).allSatisfy({ $0 == 0 })
      else { continue }
      let module = model.matrices[target.matrix]
      try plan.layers[target.matrix].weight.withFloats(module.count) {
        adapter.setMagnitude(magnitude, to: $0, module, plan.compute.kernels)
      }
    }
  }

  /// Noise that stays: it goes into the clean weights at the cascade's start.
  private func persistNoise(_ number: Int) throws {
    for matrix in noisy { _ = try adapter.makeMaster(matrix) }
    for matrix in noisy {
      guard let master = adapter.masters[matrix], let deviation = deviations[matrix] else {
        continue
      }
      let module = model.matrices[matrix]
      MatrixNoise(
        settings.noise, deviation: deviation, module, cascade: number, step: 0,
        plan.compute.kernels
      ).add(to: .float32(master.pointer), module, into: master.pointer, plan.compute)
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
    plan.packWeights()
    let dropout = settings.dropout(draw: state.draw, ofAdapter: adapter.settings.dropout)
    let states = plan.stack.forward(batch, dropout: dropout)
    let isStackTrained = plan.stack.isTrained
    let added: LossSums
    do {
      added = try head.train(
        states, dHidden: isStackTrained ? plan.stack.outputGradient : nil, batch, loss,
        dropout: dropout, plan.compute)
    } catch {
      if head.addsGradientsInParts { clearGradients() }
      throw error
    }
    guard added.weight > 0 else {
      if allowsNoLoss { return }
      throw LorascError(.noLoss, "nothing in the batch carries a loss", subject: "labels")
    }
    guard added.loss.isFinite else {
      throw LorascError(.nonFinite, "the loss is \(added.loss)", subject: "loss")
    }
    if isStackTrained { plan.stack.backward(batch, dropout: dropout) }
    state.draw += 1
    sums += added
    pendingRows += batch.rows
    pendingTokens += batch.tokenCount
  }

  func applyAccumulated() throws -> StepStats {
    guard sums.weight > 0 else { throw Self.nothingAccumulated }
    let rates = StepRates(
      base: try nextLearningRate(), schedule: try learningRateFactor())
    let norm = try gradientNorm()
    var scale = 1 / sums.weight
    let clip = settings.maxGradNorm > 0 ? min(1, settings.maxGradNorm / (norm + 1e-6)) : 1
    scale *= clip
    var stepNorm = norm
    if settings.projectsLoRAFA {
      try projectGradients()
      stepNorm = try gradientNorm()
    }
    guard
      !optimizer.couldOverflow(
        adapter.parameters, norm: stepNorm * clip, rates, plan.compute.kernels)
    else {
      clearGradients()
      throw LorascError(
        .nonFinite, "a step at learning rate \(rates.base) would leave float32's range",
        subject: "learning_rate")
    }
    optimizer.step(
      adapter.parameters, gradient: gradient.pointer, gradientScale: scale, rates,
      plan.compute.kernels)
    var result = stats(learningRate: rates.base)
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
  func nextLearningRate() throws -> Double { baseLearningRate * (try learningRateFactor()) }

  private func learningRateFactor() throws -> Double {
    let schedule = settings.schedule
    if schedule.spansCascade {
      let length = state.cascadeLength(adapter.cascade.index, settings.cascadeUnit)
      guard length > 0 || !schedule.needsTotal else {
        throw LorascError(
          .option, "option schedule_span: the cascade's length is not known",
          subject: "schedule_span")
      }
      return schedule.factor(step: state.cascadeStep, total: length)
    }
    guard state.totalSteps > 0 || !schedule.needsTotal else {
      throw LorascError(
        .option,
        "option max_steps: a schedule other than constant needs the number of all steps",
        subject: "max_steps")
    }
    return schedule.factor(
      step: state.step, total: state.totalSteps, cascadeStep: state.cascadeStep,
      rewarmup: rewarmupSteps)
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
      nextRate: next, seed: settings.seed, settings.reinitialization, plan.compute)
    bindings.bindExperts()
    optimizer.crossBoundary(adapter.parameters)
    state.lastCascadeSteps = state.cascadeStep
    state.cascadeStep = 0
    weights.invalidate()
  }
}
