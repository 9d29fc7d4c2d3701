import Glibc

extension Trainer {
  /// The whole loop: epochs of shuffled batches, cascades, evaluations at epoch ends. A batch
  /// over `max_batch_tokens` is done in parts, which give the same step. After a stop or a
  /// resume the next call goes on where it stopped.
  ///
  /// - Parameters:
  ///   - dataset: of the same number of rows in every call
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

  /// Loss and accuracy without dropout, noise and label smoothing, in a view.
  public func evaluate(_ dataset: Dataset, view: View = .merged) throws -> Evaluation {
    try model.requireForward()
    return try exclusively { try evaluated(dataset, view) {} }
  }

  /// - Parameter afterBatch: called between batches; may throw.
  func evaluated(_ dataset: Dataset, _ view: View, _ afterBatch: () throws -> Void) throws
    -> Evaluation
  {
    guard let head = plan.head else { return Evaluation() }
    let limits = model.limits(head: adapter.head)
    try limits.check(dataset.batch)
    guard sums.rows == 0 else {
      throw LorascError(.state, "gradients are accumulated: apply or discard them first")
    }
    try weights.show(view)
    defer { weights.invalidate() }
    var loss = self.loss
    loss.smoothing = 0
    var total = LossSums()
    var row = 0
    while row < dataset.rows {
      try checkInterruption()
      // Examples of the contrastive loss are told apart within batches of one size.
      let end =
        adapter.head.rowsOfExample > 1
        ? min(dataset.rows, row + settings.batchSize * adapter.head.rowsOfExample) : dataset.rows
      row = try stage(dataset.batch, from: row, upTo: end) { $0 }
      let states = plan.stack.forward(plan.batch, dropout: .none)
      total += head.evaluate(states, plan.batch, loss, plan.compute)
      try afterBatch()
    }
    guard total.weight > 0 else {
      throw LorascError(.noLoss, "nothing in the dataset carries a loss", subject: "labels")
    }
    guard total.loss.isFinite else {
      throw LorascError(.nonFinite, "the loss is \(total.loss)", subject: "loss")
    }
    let mean = total.loss / total.weight
    return Evaluation(
      rows: total.rows, loss: mean, lossWeight: total.weight,
      accuracy: adapter.head.problem == .regression
        ? .nan : Double(total.correct) / Double(total.rows),
      perplexity: adapter.head.kind == .language ? exp(mean) : .nan)
  }

  /// Fills the plan with rows `order(from)`, … as far as they fit, at least one; rows of the
  /// contrastive loss go together or not at all.
  /// - Returns: the first that did not fit.
  fileprivate func stage(
    _ batch: Batch, from: Int, upTo end: Int, _ order: (Int) -> Int
  ) throws -> Int {
    plan.batch.clear()
    let limits = model.limits(head: adapter.head)
    let isWhole = adapter.head.rowsOfExample > 1
    var position = from
    while position < end {
      let row = order(position)
      let length = limits.span(of: row, in: batch).count
      if !isWhole, plan.batch.rows > 0, !plan.batch.fits(length) { break }
      try plan.batch.append(row, of: batch, withLoss: true)
      position += 1
    }
    return position
  }
}

/// One call of `run`.
private final class Run {
  private let trainer: Trainer
  private let dataset: Dataset
  private let evaluationSet: Dataset?
  private let progress: ((Progress) throws -> Progress.Answer)?
  private let started = Run.now()
  private let firstStep: Int
  /// Of the trainer before this call.
  private let unplanned: TrainerState
  private var trainSeconds = 0.0
  private var tokens = 0
  private var last = StepStats()
  private var order: [Int] = []
  private var orderOf = -1

  private var settings: TrainerSettings { trainer.settings }
  /// Rows that are learned together: of the contrastive loss several, else one.
  private var rowsOfExample: Int { trainer.adapter.head.rowsOfExample }
  private var examples: Int { dataset.rows / rowsOfExample }

  private static func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }

  init(
    _ trainer: Trainer, _ dataset: Dataset, _ evaluationSet: Dataset?,
    _ progress: ((Progress) throws -> Progress.Answer)?
  ) throws {
    guard trainer.sums.rows == 0 else {
      throw LorascError(.state, "gradients are accumulated: apply or discard them first")
    }
    let state = trainer.state
    guard state.datasetRows == 0 || state.datasetRows == dataset.rows else {
      throw LorascError(
        .mismatch, "the run began on \(state.datasetRows) rows, this dataset has \(dataset.rows)",
        subject: "dataset")
    }
    self.trainer = trainer
    self.dataset = dataset
    self.evaluationSet = evaluationSet
    self.progress = progress
    firstStep = state.step
    unplanned = state
    // All of it now, so that no bad row stops a run halfway.
    let limits = trainer.model.limits(head: trainer.adapter.head)
    for data in [dataset, evaluationSet].compactMap({ $0 }) {
      try limits.check(data.batch)
      for row in 0..<data.rows {
        try limits.check(row, of: data.batch, withLoss: true)
        let length = limits.span(of: row, in: data.batch).count
        guard length <= trainer.settings.maxBatchTokens else {
          throw LorascError(
            .limit,
            "row \(row) has \(length) tokens for max_batch_tokens "
              + "\(trainer.settings.maxBatchTokens)", subject: "max_batch_tokens")
        }
      }
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
    trainer.state.datasetRows = dataset.rows
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
    if orderOf != state.epoch {
      let stream = RandomStream(
        seed: settings.seed, purpose: .shuffle, cascade: 0, step: state.epoch, name: "")
      order =
        settings.shuffle
        ? stream.permutation(count: examples) : Array(0..<examples)
      orderOf = state.epoch
    }
    var example = state.rowsDone
    let rowsOfStep = settings.batchSize.multipliedReportingOverflow(by: settings.accumulationSteps)
    let end =
      rowsOfStep.overflow ? examples : min(examples - example, rowsOfStep.partialValue) + example
    try BLASThreads.withSingleThread {
      while example < end {
        try trainer.checkInterruption()
        // A batch ends at batch_size examples, or where the plan is full.
        let batchEnd = min(end, example + settings.batchSize)
        let group = rowsOfExample
        example =
          try trainer.stage(dataset.batch, from: example * group, upTo: batchEnd * group) {
            order[$0 / group] * group + $0 % group
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
