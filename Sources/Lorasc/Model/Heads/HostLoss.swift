/// Outputs of a batch, or of a part of it, for a loss of the host's. Valid during its call.
public struct LossOutputs {
  /// Items: rows; of heads `token` and `language` tokens, of `embedding` anchors.
  public let count: Int
  /// Outputs of an item: num_labels, the vocabulary, of `embedding` the candidates.
  public let width: Int
  /// (count, width)
  public let logits: UnsafeBufferPointer<Float>
  /// (count, width): d loss / d logits, to be written; zero at first. nil in evaluations.
  public let gradient: UnsafeMutableBufferPointer<Float>?
  /// (count): classes, or `Batch.ignoredLabel`; nil where `targets` stand for them.
  public let labels: UnsafeBufferPointer<Int32>?
  /// (count, width): of regression and several labels at once.
  public let targets: UnsafeBufferPointer<Float>?
  /// (count)
  public let weights: UnsafeBufferPointer<Float>
  /// (count): each item's row in the dataset, or in the batch of `accumulate`.
  public let rows: UnsafeBufferPointer<Int>
  /// (count): the label's place in its row, where items are tokens.
  public let places: UnsafeBufferPointer<Int>?
  /// To be set: the weighted sum over items.
  public var loss = 0.0
  /// What loss and gradient are divided by when the step is applied; at first the sum of the
  /// weights of items with a label.
  public var lossWeight: Double
}

/// A loss that the host computes.
struct HostLoss {
  typealias Body = (inout LossOutputs) throws -> Void

  let body: Body
  let compute: Compute

  /// - Parameters:
  ///   - gradient: (items, width), written; nil: the loss alone
  ///   - builtIn: which items count, and which are right: that is no matter of the loss
  /// - Throws: what the host throws; `.nonFinite`
  func callAsFunction(
    logits: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>?, width: Int,
    _ items: LossItems, _ builtIn: LossSums
  ) throws -> LossSums {
    guard builtIn.rows > 0 else { return builtIn }
    let (count, all) = (items.count, items.count * width)
    gradient?.update(repeating: 0, count: all)
    var outputs = LossOutputs(
      count: count, width: width, logits: .init(start: logits, count: all),
      gradient: gradient.map { .init(start: $0, count: all) },
      labels: items.targets == nil ? .init(start: items.labels, count: count) : nil,
      targets: items.targets.map { .init(start: $0, count: all) },
      weights: .init(start: items.weights, count: count),
      rows: .init(start: items.rows, count: count),
      places: items.places.map { .init(start: $0, count: count) }, lossWeight: builtIn.weight)
    try BLASThreads.outside { try body(&outputs) }
    guard outputs.loss.isFinite else {
      throw LorascError(.nonFinite, "the host's loss is \(outputs.loss)", subject: "loss")
    }
    guard outputs.lossWeight.isFinite, outputs.lossWeight >= 0 else {
      throw LorascError(
        .nonFinite, "the weight of the host's loss is \(outputs.lossWeight)",
        subject: "loss_weight")
    }
    if let gradient, !compute.kernels.max_abs(gradient, all).isFinite {
      throw LorascError(
        .nonFinite, "the gradient of the host's loss is not finite", subject: "gradient")
    }
    var sums = builtIn
    sums.loss = outputs.loss
    sums.weight = outputs.lossWeight
    return sums
  }
}
