/// From the last hidden states to logits and back, for both kinds of head.
final class HeadLayer {
  let kind: HeadKind
  let labels: Int
  let columns: Int
  /// pooled → logits
  let output: LinearLayer
  /// first token → pooled, for `.classifier`
  let pooler: LinearLayer?

  /// (rows, hidden): the gathered first tokens or the means
  private let gathered: UnsafeMutablePointer<Float>
  /// (rows, hidden): pooler's output before tanh; its tanh; after dropout
  private let preactivation: UnsafeMutablePointer<Float>
  private let pooled: UnsafeMutablePointer<Float>
  private let dropped: UnsafeMutablePointer<Float>
  /// (rows, hidden)
  private let gradient: UnsafeMutablePointer<Float>
  private let poolerGradient: UnsafeMutablePointer<Float>
  /// (rows, labels)
  let logits: UnsafeMutablePointer<Float>
  let dLogits: UnsafeMutablePointer<Float>

  init(
    _ description: HeadDescription, columns: Int, output: LinearLayer, pooler: LinearLayer?,
    rows: Int, arena: Arena
  ) throws {
    kind = description.kind
    labels = description.labels
    self.columns = columns
    self.output = output
    self.pooler = pooler
    gathered = try arena.matrix(rows, columns, "plan.head.gathered")
    preactivation = try arena.matrix(rows, columns, "plan.head.preactivation")
    pooled = try arena.matrix(rows, columns, "plan.head.pooled")
    dropped = try arena.matrix(rows, columns, "plan.head.dropped")
    gradient = try arena.matrix(rows, columns, "plan.head.gradient")
    poolerGradient = try arena.matrix(rows, columns, "plan.head.pooler_gradient")
    logits = try arena.matrix(rows, description.labels, "plan.head.logits")
    dLogits = try arena.matrix(rows, description.labels, "plan.head.logits_gradient")
  }

  /// Writes `logits` from hidden (tokens, columns).
  func forward(
    _ hidden: UnsafePointer<Float>, _ batch: StagedBatch, dropout: DropoutPlan, _ compute: Compute
  ) {
    var features = UnsafePointer(gathered)
    if let pooler {
      for row in 0..<batch.rows {
        compute.kernels.axpby(
          1, hidden + Int(batch.starts[row]) * columns, 0, gathered + row * columns, columns)
      }
      pooler.forward(
        gathered, ldx: columns, preactivation, ldy: columns, rows: batch.rows, dropout: dropout,
        compute)
      Activation.tanh.forward(preactivation, pooled, rows: batch.rows, columns: columns, compute)
      features = UnsafePointer(pooled)
    } else {
      Self.means(hidden, gathered, batch, columns: columns, compute)
    }
    if let site = dropout.classifier("head") {
      site.apply(features, dropped, rows: batch.rows, columns: columns, compute)
      features = UnsafePointer(dropped)
    }
    output.forward(
      features, ldx: columns, logits, ldy: labels, rows: batch.rows, dropout: dropout, compute)
  }

  /// From `dLogits`, the gradients of what the head trains; dHidden (tokens, columns) is
  /// written where something below is trained, else nil.
  func backward(
    dHidden: UnsafeMutablePointer<Float>?, _ batch: StagedBatch, dropout: DropoutPlan,
    _ compute: Compute
  ) {
    let site = dropout.classifier("head")
    let features = site != nil ? dropped : (pooler != nil ? pooled : gathered)
    let needed = dHidden != nil || pooler?.isTrained == true
    output.backward(
      dLogits, lddy: labels, x: features, ldx: columns, dx: needed ? gradient : nil, lddx: columns,
      rows: batch.rows, dropout: dropout, compute)
    guard needed else { return }
    site?.apply(gradient, gradient, rows: batch.rows, columns: columns, compute)
    guard let pooler else {
      if let dHidden { spreadMeans(dHidden, batch, compute) }
      return
    }
    Activation.tanh.backward(
      preactivation, gradient, gradient, rows: batch.rows, columns: columns, compute)
    pooler.backward(
      gradient, lddy: columns, x: gathered, ldx: columns, dx: dHidden == nil ? nil : poolerGradient,
      lddx: columns, rows: batch.rows, dropout: dropout, compute)
    guard let dHidden else { return }
    compute.kernels.fill(0, dHidden, batch.tokenCount * columns)
    for row in 0..<batch.rows {
      compute.kernels.axpby(
        1, poolerGradient + row * columns, 0, dHidden + Int(batch.starts[row]) * columns, columns)
    }
  }

  /// Means over each row's tokens: (tokens, columns) → (rows, columns).
  static func means(
    _ hidden: UnsafePointer<Float>, _ means: UnsafeMutablePointer<Float>, _ batch: StagedBatch,
    columns: Int, _ compute: Compute
  ) {
    let kernels = compute.kernels
    for row in 0..<batch.rows {
      let length = batch.length(of: row)
      let mean = means + row * columns
      kernels.fill(0, mean, columns)
      kernels.column_sums(
        hidden + Int(batch.starts[row]) * columns, length, columns, columns, mean)
      kernels.axpby(1 / Float(length), mean, 0, mean, columns)
    }
  }

  private func spreadMeans(
    _ dHidden: UnsafeMutablePointer<Float>, _ batch: StagedBatch, _ compute: Compute
  ) {
    for row in 0..<batch.rows {
      let share = 1 / Float(batch.length(of: row))
      for token in Int(batch.starts[row])..<Int(batch.starts[row + 1]) {
        compute.kernels.axpby(
          share, gradient + row * columns, 0, dHidden + token * columns, columns)
      }
    }
  }
}
