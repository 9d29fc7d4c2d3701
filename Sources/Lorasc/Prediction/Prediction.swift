/// What `predict` gives for a batch.
public enum Prediction: Sendable {
  /// (rows, labels)
  case logits
  /// (rows, hidden): the mean of the last layer over each row's tokens.
  case embedding
  /// (tokens, hidden): the last layer.
  case tokenEmbedding
}

/// Runs a model, with an adapter or as it was opened, without a trainer.
public enum Predictor {
  /// Most tokens of one pass; longer batches are done in parts.
  private static let partTokens = 4096

  /// Floats that `predict` writes for a batch.
  public static func outputCount(
    model: Model, adapter: Adapter?, batch: Batch, _ what: Prediction
  ) throws -> Int {
    try batch.checkOffsets()
    switch what {
    case .logits: return batch.rows * (try head(model, adapter)).labels
    case .embedding: return batch.rows * model.hiddenSize
    case .tokenEmbedding: return batch.tokens.count * model.hiddenSize
    }
  }

  private static func head(_ model: Model, _ adapter: Adapter?) throws -> HeadDescription {
    guard let head = adapter?.head ?? model.headDescription else {
      throw LorascError(
        .state, "\(model.path) has no head: logits need an adapter", subject: "logits")
    }
    return head
  }

  /// - Parameters:
  ///   - view: what of the adapter to see
  ///   - output: `outputCount` floats, written in the order of the rows
  /// - Throws: `.shape`, `.token`, `.limit`, `.state`, `.nonFinite`, `.outOfMemory`
  public static func predict(
    model: Model, adapter: Adapter?, batch: Batch, _ what: Prediction, view: View = .merged,
    into output: UnsafeMutableBufferPointer<Float>
  ) throws {
    guard adapter == nil || adapter?.model === model else {
      throw LorascError(.mismatch, "the adapter was made for another model", subject: "adapter")
    }
    let count = try outputCount(model: model, adapter: adapter, batch: batch, what)
    guard let start = output.baseAddress, output.count >= count else {
      throw LorascError(.buffer, "the output needs \(count) floats", subject: "output")
    }
    let description: HeadDescription? = what == .logits ? try head(model, adapter) : nil
    let limits = model.limits(head: description)
    var longest = 0
    for row in 0..<batch.rows {
      try StagedBatch.check(row, of: batch, limits: limits, withLoss: false)
      longest = max(longest, Int(batch.offsets[row + 1] - batch.offsets[row]))
    }
    let run = {
      try BLASThreads.withSingleThread {
        let plan = try Plan(
          model, head: description,
          tokenCapacity: min(batch.tokens.count, max(longest, partTokens)),
          training: false, threads: model.threads)
        if let adapter { try WorkingWeights(adapter, plan).show(view) }
        try predict(plan, batch, what, hidden: model.hiddenSize, into: start)
      }
    }
    if let adapter { try adapter.use(run) } else { try run() }
    let values = UnsafeBufferPointer(start: start, count: count)
    guard values.allSatisfy(\.isFinite) else {
      throw LorascError(.nonFinite, "the prediction holds NaN or infinity", subject: "prediction")
    }
  }

  private static func predict(
    _ plan: Plan, _ batch: Batch, _ what: Prediction, hidden: Int,
    into output: UnsafeMutablePointer<Float>
  ) throws {
    var row = 0
    var written = 0
    while row < batch.rows {
      plan.batch.clear()
      while row < batch.rows, plan.batch.fits(Int(batch.offsets[row + 1] - batch.offsets[row])) {
        try plan.batch.append(row, of: batch, withLoss: false)
        row += 1
      }
      let states = plan.encoder.forward(plan.batch, dropout: .none)
      let out = output + written
      switch what {
      case .logits:
        guard let head = plan.head else { return }
        head.forward(states, plan.batch, dropout: .none, plan.compute)
        out.update(from: head.logits, count: plan.batch.rows * head.labels)
        written += plan.batch.rows * head.labels
      case .embedding:
        HeadLayer.means(states, out, plan.batch, columns: hidden, plan.compute)
        written += plan.batch.rows * hidden
      case .tokenEmbedding:
        out.update(from: states, count: plan.batch.tokenCount * hidden)
        written += plan.batch.tokenCount * hidden
      }
    }
  }
}
