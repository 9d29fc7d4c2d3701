import Glibc

extension Trainer {
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
    let reader = try rowReader(dataset)
    guard sums.rows == 0 else { throw Self.somethingAccumulated }
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
      row = try reader.stage(in: plan.batch, from: row, upTo: end) { $0 }
      let states = plan.stack.forward(plan.batch, dropout: .none)
      total += try head.evaluate(states, plan.batch, loss, plan.compute)
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
      perplexity: adapter.head.kind == .language && hostLoss == nil ? exp(mean) : .nan)
  }
}
