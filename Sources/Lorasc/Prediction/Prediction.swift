/// What `predict` gives for a batch.
public enum Prediction: Sendable {
  /// (rows, labels); of a token head (tokens, labels); of a language head (rows, vocabulary): for
  /// what follows each row.
  case logits
  /// (rows, hidden): the mean of the last layer over each row's tokens.
  case embedding
  /// (tokens, hidden): the last layer.
  case tokenEmbedding
  /// (asked, labels), of heads that go by tokens: for each token whose `tokenLabels` isn't
  /// `ignoredLabel`, or for all without.
  case tokenLogits
}

/// Runs a model, with an adapter or as it was opened, without a trainer.
public enum Predictor {
  /// Most tokens of one pass; longer batches are done in parts.
  private static let partTokens = 4096

  /// Floats that `predict` writes for a batch.
  public static func outputCount(
    model: Model, adapter: Adapter?, batch: Batch, _ what: Prediction
  ) throws -> Int {
    try model.requireForward()
    try batch.checkOffsets()
    let limits = model.limits(head: nil)
    try limits.check(batch)
    switch what {
    case .embedding: return batch.rows * model.hiddenSize
    case .tokenEmbedding: return limits.tokens(of: batch) * model.hiddenSize
    case .logits, .tokenLogits:
      let head = try head(model, adapter)
      guard what == .logits || head.isByToken else {
        throw LorascError(
          .state, "head \(head.kind.rawValue) gives no logits by token", subject: "token_logits")
      }
      var count = batch.rows
      if what == .tokenLogits || head.kind == .token {
        count = (0..<batch.rows).reduce(0) {
          $0 + asked(limits.span(of: $1, in: batch), batch, what).count
        }
      }
      let (floats, overflow) = count.multipliedReportingOverflow(by: head.labels)
      guard !overflow else {
        throw LorascError(.outOfMemory, "\(count) x \(head.labels) logits do not fit")
      }
      return floats
    }
  }

  /// Of a row's tokens, by their places in it, those whose logits are wanted.
  private static func asked(_ span: Range<Int>, _ batch: Batch, _ what: Prediction) -> [Int] {
    guard what == .tokenLogits, let labels = batch.tokenLabels else { return Array(0..<span.count) }
    return span.filter { labels[$0] != Batch.ignoredLabel }.map { $0 - span.lowerBound }
  }

  private static func head(_ model: Model, _ adapter: Adapter?) throws -> HeadDescription {
    let head = adapter?.head ?? model.headDescription
    guard let head, head.kind != .embedding else {
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
    try adapter?.require(model)
    let count = try outputCount(model: model, adapter: adapter, batch: batch, what)
    guard let start = output.baseAddress, output.count >= count else {
      throw LorascError(.buffer, "the output needs \(count) floats", subject: "output")
    }
    let needsHead = what == .logits || what == .tokenLogits
    let description: HeadDescription? = needsHead ? try head(model, adapter) : nil
    let limits = model.limits(head: description)
    var longest = 0
    for row in 0..<batch.rows {
      try limits.check(row, of: batch, withLoss: false)
      longest = max(longest, limits.span(of: row, in: batch).count)
    }
    let run = {
      try BLASThreads.withSingleThread {
        let plan = try Plan(
          model,
          Plan.Settings(
            head: description,
            tokenCapacity: min(limits.tokens(of: batch), max(longest, partTokens)),
            composes: adapter.map { model.matrices.contains(where: $0.settings.keepsFactors) }
              ?? false,
            threads: model.threads))
        if let adapter { try WorkingWeights(adapter, plan).show(view) }
        try predict(plan, batch, what, limits, hidden: model.hiddenSize, into: start)
      }
    }
    if let adapter { try adapter.use(run) } else { try run() }
    let values = UnsafeBufferPointer(start: start, count: count)
    guard values.allSatisfy(\.isFinite) else {
      throw LorascError(.nonFinite, "the prediction holds NaN or infinity", subject: "prediction")
    }
  }

  private static func predict(
    _ plan: Plan, _ batch: Batch, _ what: Prediction, _ limits: BatchLimits, hidden: Int,
    into output: UnsafeMutablePointer<Float>
  ) throws {
    var row = 0
    var out = output
    while row < batch.rows {
      plan.batch.clear()
      var items: [Int] = []
      while row < batch.rows, plan.batch.fits(limits.span(of: row, in: batch).count) {
        let span = limits.span(of: row, in: batch)
        let first = plan.batch.tokenCount
        switch (limits.head?.kind, what) {
        case (.token?, _), (_, .tokenLogits): items += asked(span, batch, what).map { first + $0 }
        case (.language?, _): items.append(first + span.count - 1)
        default: items.append(plan.batch.rows)
        }
        try plan.batch.append(row, of: batch, withLoss: false)
        row += 1
      }
      let states = plan.stack.forward(plan.batch, dropout: .none)
      switch what {
      case .logits, .tokenLogits:
        plan.head?.predict(states, plan.batch, items: items, into: out, plan.compute)
        out += items.count * limits.labels
      case .embedding:
        MeanPooling.forward(states, out, plan.batch, columns: hidden, plan.compute)
        out += plan.batch.rows * hidden
      case .tokenEmbedding:
        out.update(from: states, count: plan.batch.tokenCount * hidden)
        out += plan.batch.tokenCount * hidden
      }
    }
  }
}
