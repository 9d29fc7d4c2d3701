/// A plan's side of a head: from the last hidden states, (tokens, hidden), to a loss and back; of
/// a head that asks for one token of each row, from (rows, hidden).
protocol OutputLayer: AnyObject {
  /// The module that holds a tensor of the head; nil: the head has none such.
  func module(of tensor: HeadTensor) -> LinearLayer?

  /// Gradients of what the head trains are added before the whole loss is known.
  var addsGradientsInParts: Bool { get }

  /// Makes room for what a loss of the host's needs.
  func prepareForHostLoss() throws

  /// Loss, and where it is finite and has a weight, the gradients of what the head trains.
  /// - Parameter dHidden: (tokens, hidden), written; nil where nothing below is trained
  /// - Throws: as the host's loss does. Nothing is added then, unless `addsGradientsInParts`.
  func train(
    _ hidden: UnsafePointer<Float>, dHidden: UnsafeMutablePointer<Float>?, _ batch: StagedBatch,
    _ loss: Loss, dropout: DropoutPlan, _ compute: Compute
  ) throws -> LossSums

  func evaluate(
    _ hidden: UnsafePointer<Float>, _ batch: StagedBatch, _ loss: Loss, _ compute: Compute
  ) throws -> LossSums

  /// Logits of these items, rows or by the head's kind tokens.
  func predict(
    _ hidden: UnsafePointer<Float>, _ batch: StagedBatch, items: [Int],
    into out: UnsafeMutablePointer<Float>, _ compute: Compute)
}

extension OutputLayer {
  var addsGradientsInParts: Bool { false }
  func prepareForHostLoss() throws {}
}
