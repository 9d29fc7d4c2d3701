/// A classifier: a token's hidden state, the mean of a row's, or each token's → maybe a dense
/// module and its activation → dropout → logits.
final class ClassifierHead: OutputLayer {
  private let form: ClassifierForm
  private let labels: Int
  private let columns: Int
  private let output: LinearLayer
  private let dense: LinearLayer?

  /// (items, hidden): what was selected; after its dropout; the dense module's output, its
  /// activation; after dropout
  private let selected: UnsafeMutablePointer<Float>
  private let selectedDropped: UnsafeMutablePointer<Float>
  private let preactivation: UnsafeMutablePointer<Float>
  private let activated: UnsafeMutablePointer<Float>
  private let dropped: UnsafeMutablePointer<Float>
  /// (items, hidden)
  private let gradient: UnsafeMutablePointer<Float>
  private let denseGradient: UnsafeMutablePointer<Float>
  /// (items, labels)
  private let logits: UnsafeMutablePointer<Float>
  private let dLogits: UnsafeMutablePointer<Float>

  /// - Parameter dense: the module of `form.dense`
  init(
    _ form: ClassifierForm, labels: Int, columns: Int, output: LinearLayer, dense: LinearLayer?,
    items: Int, _ arena: Arena
  ) throws {
    self.form = form
    self.labels = labels
    self.columns = columns
    self.output = output
    self.dense = dense
    selected = try arena.matrix(items, columns, "plan.head.selected")
    selectedDropped =
      form.dropsBeforeDense
      ? try arena.matrix(items, columns, "plan.head.selected_dropped") : selected
    preactivation = try arena.matrix(items, columns, "plan.head.preactivation")
    activated = try arena.matrix(items, columns, "plan.head.activated")
    dropped = try arena.matrix(items, columns, "plan.head.dropped")
    gradient = try arena.matrix(items, columns, "plan.head.gradient")
    denseGradient = try arena.matrix(items, columns, "plan.head.dense_gradient")
    logits = try arena.matrix(items, labels, "plan.head.logits")
    dLogits = try arena.matrix(items, labels, "plan.head.logits_gradient")
  }

  func module(of tensor: HeadTensor) -> LinearLayer? {
    switch tensor {
    case .denseWeight, .denseBias: dense
    case .weight, .bias: output
    }
  }

  private var isByToken: Bool { form.selection == .each }

  private func items(_ batch: StagedBatch) -> Int { isByToken ? batch.tokenCount : batch.rows }

  // MARK: Loss

  func train(
    _ hidden: UnsafePointer<Float>, dHidden: UnsafeMutablePointer<Float>?, _ batch: StagedBatch,
    _ loss: Loss, dropout: DropoutPlan, _ compute: Compute
  ) throws -> LossSums {
    forward(hidden, batch, dropout, compute)
    let sums = try loss(logits: logits, gradient: dLogits, batch.items(isByToken: isByToken))
    guard sums.isUsable else { return sums }
    backward(dHidden: dHidden, batch, dropout, compute)
    return sums
  }

  func evaluate(
    _ hidden: UnsafePointer<Float>, _ batch: StagedBatch, _ loss: Loss, _ compute: Compute
  ) throws -> LossSums {
    forward(hidden, batch, .none, compute)
    return try loss(logits: logits, gradient: nil, batch.items(isByToken: isByToken))
  }

  func predict(
    _ hidden: UnsafePointer<Float>, _ batch: StagedBatch, items: [Int],
    into out: UnsafeMutablePointer<Float>, _ compute: Compute
  ) {
    forward(hidden, batch, .none, compute)
    for (place, item) in items.enumerated() {
      (out + place * labels).update(from: logits + item * labels, count: labels)
    }
  }

  // MARK: Forward and backward

  /// Writes `logits` from hidden (tokens, columns).
  private func forward(
    _ hidden: UnsafePointer<Float>, _ batch: StagedBatch, _ dropout: DropoutPlan,
    _ compute: Compute
  ) {
    let count = items(batch)
    select(hidden, batch, compute)
    var features = UnsafePointer(selected)
    if let dense {
      if form.dropsBeforeDense {
        if let site = dropout.classifier("head.input") {
          site.apply(selected, selectedDropped, rows: count, columns: columns, compute)
        } else {
          selectedDropped.update(from: selected, count: count * columns)
        }
      }
      dense.forward(
        selectedDropped, ldx: columns, preactivation, ldy: columns, rows: count, dropout: dropout,
        compute)
      form.denseActivation.forward(
        Values(preactivation), Values(activated), count: count * columns, compute)
      features = UnsafePointer(activated)
    }
    if let site = lastDropout(dropout) {
      site.apply(features, dropped, rows: count, columns: columns, compute)
      features = UnsafePointer(dropped)
    }
    output.forward(
      features, ldx: columns, logits, ldy: labels, rows: count, dropout: dropout, compute)
  }

  private func lastDropout(_ dropout: DropoutPlan) -> Dropout? {
    form.hasDropout ? dropout.classifier("head") : nil
  }

  /// From `dLogits`, the gradients of what the head trains, and dHidden.
  private func backward(
    dHidden: UnsafeMutablePointer<Float>?, _ batch: StagedBatch, _ dropout: DropoutPlan,
    _ compute: Compute
  ) {
    let count = items(batch)
    let site = lastDropout(dropout)
    let features = site != nil ? dropped : (dense != nil ? activated : selected)
    let needed = dHidden != nil || dense?.isTrained == true
    output.backward(
      dLogits, lddy: labels, x: features, ldx: columns, dx: needed ? gradient : nil, lddx: columns,
      rows: count, dropout: dropout, compute)
    guard needed else { return }
    site?.apply(gradient, gradient, rows: count, columns: columns, compute)
    var last = gradient
    if let dense {
      form.denseActivation.backward(
        Values(preactivation), Values(gradient), Values(gradient), count: count * columns, compute)
      dense.backward(
        gradient, lddy: columns, x: selectedDropped, ldx: columns,
        dx: dHidden == nil ? nil : denseGradient, lddx: columns, rows: count, dropout: dropout,
        compute)
      last = denseGradient
      if form.dropsBeforeDense, dHidden != nil {
        dropout.classifier("head.input")?
          .apply(denseGradient, denseGradient, rows: count, columns: columns, compute)
      }
    }
    if let dHidden { spread(last, dHidden, batch, compute) }
  }

  // MARK: Selection

  private func select(_ hidden: UnsafePointer<Float>, _ batch: StagedBatch, _ compute: Compute) {
    switch form.selection {
    case .each: selected.update(from: hidden, count: batch.tokenCount * columns)
    case .mean: MeanPooling.forward(hidden, selected, batch, columns: columns, compute)
    // The backbone gave these alone.
    case .token: selected.update(from: hidden, count: batch.rows * columns)
    }
  }

  /// The gradient of what was selected, to where it came from.
  private func spread(
    _ gradient: UnsafePointer<Float>, _ dHidden: UnsafeMutablePointer<Float>,
    _ batch: StagedBatch, _ compute: Compute
  ) {
    switch form.selection {
    case .each: dHidden.update(from: gradient, count: batch.tokenCount * columns)
    case .mean: MeanPooling.backward(gradient, dHidden, batch, columns: columns, compute)
    case .token: dHidden.update(from: gradient, count: batch.rows * columns)
    }
  }
}
