import Glibc

extension Trainer {
  /// The whole loop: epochs of shuffled batches, cascades, evaluations at epoch ends. A batch
  /// over `max_batch_tokens` is done in parts, which give the same step. After a stop or a
  /// resume the next call goes on where it stopped.
  ///
  /// - Parameters:
  ///   - dataset: of the same number of rows in every call; of a reader a bad row stops the run
  ///     when it is met
  ///   - evaluationSet: evaluated in the merged view at epoch ends, and in the fast view too at
  ///     cascade ends
  ///   - progress: on this thread; `.cancel` stops with `.cancelled`
  /// - Throws: as `accumulate` and `apply`, `.cancelled`, `.interrupted`. The state is that
  ///   after the last whole step.
  public func run(
    _ dataset: Dataset, evaluate evaluationSet: Dataset? = nil,
    progress: ((Progress) throws -> Progress.Answer)? = nil
  ) throws {
    try model.requireForward()
    try use {
      try adapter.use {
        try Run(self, dataset, evaluationSet, progress).go()
      }
    }
  }
}

/// One call of `run`.
private final class Run {
  private let trainer: Trainer
  private let rows: RowReader
  private let evaluationSet: Dataset?
  private let progress: ((Progress) throws -> Progress.Answer)?
  private let started = Run.now()
  private let firstStep: Int
  /// Of the trainer before this call.
  private let unplanned: TrainerState
  private var trainSeconds = 0.0
  private var tokens = 0
  private var last = StepStats()
  /// (examples): the order of epoch `orderOf`; empty where it is not shuffled.
  private let order: AlignedBuffer<Int>
  private var orderOf = -1
  /// The trainer's draws after its last whole step.
  private var draw: Int

  private var settings: TrainerSettings { trainer.settings }
  /// Rows that are learned together: of the contrastive loss several, else one.
  private var rowsOfExample: Int { trainer.adapter.head.rowsOfExample }
  private var examples: Int { rows.dataset.rows / rowsOfExample }

  private static func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }

  init(
    _ trainer: Trainer, _ dataset: Dataset, _ evaluationSet: Dataset?,
    _ progress: ((Progress) throws -> Progress.Answer)?
  ) throws {
    guard trainer.sums.rows == 0 else { throw Trainer.somethingAccumulated }
    let state = trainer.state
    guard state.datasetRows == 0 || state.datasetRows == dataset.rows else {
      throw LorascError(
        .mismatch, "the run began on \(state.datasetRows) rows, this dataset has \(dataset.rows)",
        subject: "dataset")
    }
    self.trainer = trainer
    self.evaluationSet = evaluationSet
    self.progress = progress
    firstStep = state.step
    unplanned = state
    draw = state.draw
    rows = try trainer.rowReader(dataset)
    order = try AlignedBuffer(
      count: trainer.settings.shuffle ? dataset.rows / trainer.adapter.head.rowsOfExample : 0,
      what: "the order of rows")
    for reader in [rows, try evaluationSet.map(trainer.rowReader)].compactMap(\.self) {
      try reader.check(maxTokens: trainer.settings.maxBatchTokens)
    }
    try plan()
  }

  /// Steps, epochs and cascades of the whole run.
  private func plan() throws {
    let examples = examples
    let rowsPerStep = settings.batchSize.multipliedReportingOverflow(by: settings.accumulationSteps)
    let perStep = rowsPerStep.overflow ? Int.max : rowsPerStep.partialValue
    let stepsPerEpoch = (examples - 1) / perStep + 1
    let byEpochs = stepsPerEpoch.multipliedReportingOverflow(by: settings.epochs)
    let total = settings.maxSteps > 0 ? settings.maxSteps : byEpochs.partialValue
    guard settings.maxSteps > 0 || !byEpochs.overflow else {
      throw LorascError(.option, "option epochs: too many steps", subject: "epochs")
    }
    trainer.state.datasetRows = rows.dataset.rows
    trainer.state.stepsPerEpoch = stepsPerEpoch
    trainer.state.totalSteps = total
    switch settings.cascadeUnit {
    case .epochs(let length):
      let epochs = (total - 1) / stepsPerEpoch + 1
      trainer.state.totalCascades = (epochs - 1) / length + 1
    case .steps(let length): trainer.state.totalCascades = (total - 1) / length + 1
    case .list(let lengths):
      var left = total
      trainer.state.totalCascades = 0
      for length in lengths where left > 0 {
        left -= length
        trainer.state.totalCascades += 1
      }
    case .none: trainer.state.totalCascades = max(1, trainer.adapter.cascade.index)
    }
    trainer.adapter.cascade.rate = settings.slowRates.rate(
      cascade: trainer.adapter.cascade.index, of: trainer.state.totalCascades)
  }

  func go() throws {
    do {
      while true {
        try settle()
        guard trainer.state.step < trainer.state.totalSteps else { break }
        try step()
      }
    } catch {
      // Whatever a part of a step has added is no part of the state.
      trainer.clearGradients()
      trainer.state.draw = draw
      if trainer.state.step == firstStep, unplanned.datasetRows == 0 { unplan() }
      throw error
    }
    try tell(.end)
  }

  /// A run that fails before its first step leaves the trainer free for other rows.
  private func unplan() {
    trainer.state.datasetRows = 0
    trainer.state.stepsPerEpoch = unplanned.stepsPerEpoch
    trainer.state.totalSteps = unplanned.totalSteps
    trainer.state.totalCascades = unplanned.totalCascades
  }

  /// One optimizer step, of one or more batches of the epoch's order.
  private func step() throws {
    let began = Run.now()
    let state = trainer.state
    arrange(epoch: state.epoch)
    var example = state.rowsDone
    let rowsOfStep = settings.batchSize.multipliedReportingOverflow(by: settings.accumulationSteps)
    let end =
      rowsOfStep.overflow ? examples : min(examples - example, rowsOfStep.partialValue) + example
    let isShuffled = settings.shuffle
    // An evaluation since the last step may have asked the same reader.
    rows.forget()
    try BLASThreads.withSingleThread {
      while example < end {
        try trainer.checkInterruption()
        // A batch ends at batch_size examples, or where the plan is full.
        let batchEnd = min(end, example + settings.batchSize)
        let group = rowsOfExample
        example =
          try rows.stage(in: trainer.plan.batch, from: example * group, upTo: batchEnd * group) {
            isShuffled ? order.pointer[$0 / group] * group + $0 % group : $0
          } / group
        try trainer.accumulateStaged(allowsNoLoss: true)
      }
      guard trainer.sums.weight > 0 else {
        throw LorascError(
          .noLoss, "nothing in a step carries a loss (epoch \(state.epoch + 1))", subject: "labels")
      }
      tokens += trainer.pendingTokens
      last = try trainer.applyAccumulated()
    }
    draw = trainer.state.draw
    trainer.state.rowsDone = end
    if end == examples {
      trainer.state.rowsDone = 0
      trainer.state.epoch += 1
      trainer.state.isEvaluationDue = true
    }
    if isCascadeDone || trainer.state.step == trainer.state.totalSteps {
      trainer.state.isBoundaryDue = true
    }
    trainSeconds += Run.now() - began
    try tell(.step)
  }

  /// The order of an epoch's examples.
  private func arrange(epoch: Int) {
    guard settings.shuffle, orderOf != epoch else { return }
    for example in 0..<order.count { order.pointer[example] = example }
    RandomStream(seed: settings.seed, purpose: .shuffle, cascade: 0, step: epoch, name: "")
      .shuffle(order.buffer)
    orderOf = epoch
  }

  private var isCascadeDone: Bool {
    let state = trainer.state
    switch settings.cascadeUnit {
    case .epochs(let length): return state.rowsDone == 0 && state.epoch % length == 0
    case .steps(let length): return state.cascadeStep >= length
    case .list(let lengths):
      let number = trainer.adapter.cascade.index
      return number <= lengths.count - 1 && state.cascadeStep >= lengths[number - 1]
    case .none: return false
    }
  }

  /// What is owed after a step: an evaluation, a boundary. The run's last cascade ends
  /// without a new expert: the merged view has its share already.
  private func settle() throws {
    guard trainer.state.isEvaluationDue || trainer.state.isBoundaryDue else { return }
    let isBoundary = trainer.state.isBoundaryDue
    var merged: Evaluation?
    var fast: Evaluation?
    if let evaluationSet {
      merged = try evaluate(evaluationSet, .merged)
      if isBoundary {
        fast = trainer.adapter.cascade.viewsAgree ? merged : try evaluate(evaluationSet, .fast)
      }
    }
    if isBoundary || merged != nil {
      try tell(isBoundary ? .cascade : .evaluation, merged, fast)
    }
    if isBoundary, trainer.state.step < trainer.state.totalSteps {
      try BLASThreads.withSingleThread { try trainer.advanceCascade() }
    }
    trainer.state.isEvaluationDue = false
    trainer.state.isBoundaryDue = false
  }

  private func evaluate(_ set: Dataset, _ view: View) throws -> Evaluation {
    try BLASThreads.withSingleThread {
      try trainer.evaluated(set, view) { try tell(.evaluating) }
    }
  }

  private func tell(
    _ event: Progress.Event, _ merged: Evaluation? = nil, _ fast: Evaluation? = nil
  ) throws {
    guard let progress else { return }
    let state = trainer.state
    let done = state.step - firstStep
    let seconds = Run.now() - started
    var report = Progress(
      event: event, step: state.step, totalSteps: state.totalSteps,
      epoch: (max(1, state.step) - 1) / state.stepsPerEpoch + 1,
      totalEpochs: (state.totalSteps - 1) / state.stepsPerEpoch + 1,
      cascade: trainer.adapter.cascade.index, totalCascades: state.totalCascades, loss: last.loss,
      gradientNorm: last.gradientNorm, learningRate: last.learningRate, tokens: tokens,
      seconds: seconds, trainSeconds: trainSeconds,
      secondsLeft: done > 0 ? seconds / Double(done) * Double(state.totalSteps - state.step) : 0)
    if let merged { report.evaluation = merged }
    if let fast { report.fastEvaluation = fast }
    let answer = try BLASThreads.outside {
      try trainer.use.duringCallback {
        try trainer.adapter.use.duringCallback { try progress(report) }
      }
    }
    if answer == .cancel {
      throw LorascError(.cancelled, "the progress callback cancelled the run")
    }
  }
}
