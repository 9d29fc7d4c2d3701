/// A plan's side of a head: from the last hidden states, (tokens, hidden), to a loss and back; of
/// a head that asks for one token of each row, from (rows, hidden).
protocol OutputLayer: AnyObject {
  /// The module that holds a tensor of the head; nil: the head has none such.
  func module(of tensor: HeadTensor) -> LinearLayer?

  /// Loss, and where it is finite and has a weight, the gradients of what the head trains.
  /// - Parameter dHidden: (tokens, hidden), written; nil where nothing below is trained
  func train(
    _ hidden: UnsafePointer<Float>, dHidden: UnsafeMutablePointer<Float>?, _ batch: StagedBatch,
    _ loss: Loss, dropout: DropoutPlan, _ compute: Compute
  ) -> LossSums

  func evaluate(
    _ hidden: UnsafePointer<Float>, _ batch: StagedBatch, _ loss: Loss, _ compute: Compute
  ) -> LossSums

  /// Logits of these items, rows or by the head's kind tokens.
  func predict(
    _ hidden: UnsafePointer<Float>, _ batch: StagedBatch, items: [Int],
    into out: UnsafeMutablePointer<Float>, _ compute: Compute)
}
