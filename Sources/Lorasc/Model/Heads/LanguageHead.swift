import Glibc

/// Cross-entropy of each next token over the vocabulary. The output layer runs only for tokens
/// whose successor carries a loss, and in chunks, so that the logits of a batch are never whole
/// in memory; a chunk's gradient takes the place of its logits. A loss of the host's gets chunk by
/// chunk, and a buffer of its own for the gradient.
final class LanguageHead: OutputLayer {
  let output: LinearLayer
  private let columns: Int
  private let vocabulary: Int
  private let chunk: Int
  /// (chunk, hidden)
  private let gathered: UnsafeMutablePointer<Float>
  private let gradient: UnsafeMutablePointer<Float>
  /// (chunk, vocabulary)
  private let logits: UnsafeMutablePointer<Float>
  /// (chunk): each token's loss; 1 where the largest logit is the label's
  private let losses: UnsafeMutablePointer<Float>
  private let hits: UnsafeMutablePointer<Float>
  /// (tokens): tokens whose successor carries a loss
  private let sources: UnsafeMutablePointer<Int32>
  /// For a loss of the host's.
  private var hostItems: HostItems?

  /// Elements of a chunk of logits: 64 MiB.
  private static let mostLogits = 1 << 24
  private static let mostRows = 256
  private static let fewestRows = 16

  init(_ output: LinearLayer, tokens: Int, _ arena: Arena) throws {
    self.output = output
    columns = output.inFeatures
    vocabulary = output.outFeatures
    // Whole tiles of packed products.
    let rows = max(
      Self.fewestRows, min(Self.mostRows, Self.mostLogits / output.outFeatures) / 32 * 32)
    chunk = min(tokens, rows)
    gathered = try arena.matrix(chunk, columns, "plan.head.gathered")
    gradient = try arena.matrix(chunk, columns, "plan.head.gradient")
    logits = try arena.matrix(chunk, vocabulary, "plan.head.logits")
    losses = try arena.floats(chunk, "plan.head.losses")
    hits = try arena.floats(chunk, "plan.head.hits")
    sources = try arena.integers(tokens, "plan.head.sources")
  }

  func module(of tensor: HeadTensor) -> LinearLayer? { nil }

  var addsGradientsInParts: Bool { output.isTrained }

  func prepareForHostLoss() throws {
    hostItems = try hostItems ?? HostItems(rows: chunk, columns: vocabulary)
  }

  // MARK: Loss

  func train(
    _ hidden: UnsafePointer<Float>, dHidden: UnsafeMutablePointer<Float>?, _ batch: StagedBatch,
    _ loss: Loss, dropout: DropoutPlan, _ compute: Compute
  ) throws -> LossSums {
    if output.isTrained {
      // Nothing may be added to its gradients where the loss is of no use.
      let sums = try run(hidden, nil, batch, loss, .none, isTraining: false, compute)
      guard sums.isUsable else { return sums }
    }
    return try run(hidden, dHidden, batch, loss, dropout, isTraining: true, compute)
  }

  func evaluate(
    _ hidden: UnsafePointer<Float>, _ batch: StagedBatch, _ loss: Loss, _ compute: Compute
  ) throws -> LossSums {
    try run(hidden, nil, batch, loss, .none, isTraining: false, compute)
  }

  private func run(
    _ hidden: UnsafePointer<Float>, _ dHidden: UnsafeMutablePointer<Float>?,
    _ batch: StagedBatch, _ loss: Loss, _ dropout: DropoutPlan, isTraining: Bool,
    _ compute: Compute
  ) throws -> LossSums {
    let items = batch.items(isByToken: true)
    var count = 0
    for token in 1..<max(1, batch.tokenCount) where items.hasLoss(token) {
      sources[count] = Int32(token - 1)
      count += 1
    }
    if let dHidden { compute.kernels.fill(0, dHidden, batch.tokenCount * columns) }
    var sums = LossSums()
    for start in stride(from: 0, to: count, by: chunk) {
      let rows = min(chunk, count - start)
      let part = dropout.part(start / chunk)
      forward(hidden, sources + start, rows, part, compute)
      var dLogits = logits
      if let host = loss.host, let hostItems {
        sums += try hostItems.losses(
          host, logits, sources + start, rows, items, isTraining: isTraining)
        dLogits = hostItems.gradient.pointer
      } else {
        sums += losses(sources + start, rows, items, loss, isTraining: isTraining, compute)
      }
      guard isTraining else { continue }
      output.backward(
        dLogits, lddy: vocabulary, x: gathered, ldx: columns, dx: dHidden == nil ? nil : gradient,
        lddx: columns, rows: rows, dropout: part, compute)
      guard let dHidden else { continue }
      for row in 0..<rows {
        (dHidden + Int(sources[start + row]) * columns)
          .update(from: gradient + row * columns, count: columns)
      }
    }
    return sums
  }

  /// Logits of a chunk's tokens.
  private func forward(
    _ hidden: UnsafePointer<Float>, _ tokens: UnsafePointer<Int32>, _ rows: Int,
    _ dropout: DropoutPlan, _ compute: Compute
  ) {
    for row in 0..<rows {
      (gathered + row * columns).update(from: hidden + Int(tokens[row]) * columns, count: columns)
    }
    output.forward(
      gathered, ldx: columns, logits, ldy: vocabulary, rows: rows, dropout: dropout, compute)
  }

  /// With e the label smoothing, V the vocabulary, w the token's weight and p the softmax of its
  /// logits z: loss = logΣexp z − (1 − e) z_y − e mean(z), gradient w (p − (1 − e) 1_y − e / V),
  /// which takes the logits' place.
  private func losses(
    _ tokens: UnsafePointer<Int32>, _ rows: Int, _ items: LossItems, _ loss: Loss,
    isTraining: Bool, _ compute: Compute
  ) -> LossSums {
    let kernels = compute.kernels
    let (vocabulary, logits, losses, hits) = (vocabulary, logits, losses, hits)
    let smoothing = Float(loss.smoothing)
    let spread = smoothing / Float(vocabulary)
    compute.forRows(rows, cost: 16 * vocabulary) { start, end in
      for row in start..<end {
        let z = logits + row * vocabulary
        let token = Int(tokens[row]) + 1
        let label = Int(items.labels[token])
        let own = z[label]
        let mean = smoothing > 0 ? Float(kernels.sum(z, vocabulary)) / Float(vocabulary) : 0
        var logSum: Float = 0
        kernels.softmax_forward(z, 1, vocabulary, vocabulary, 1, &logSum, nil)
        losses[row] = logSum - (1 - smoothing) * own - smoothing * mean
        guard isTraining else {
          // Of probabilities: a larger one elsewhere decides.
          let probability = z[label]
          hits[row] = (0..<vocabulary).contains { z[$0] > probability } ? 0 : 1
          continue
        }
        let weight = items.weights[token]
        kernels.axpby(weight, z, 0, z, vocabulary)
        if spread > 0 { for column in 0..<vocabulary { z[column] -= weight * spread } }
        z[label] -= weight * (1 - smoothing)
      }
    }
    var sums = LossSums()
    for row in 0..<rows {
      let weight = Double(items.weights[Int(tokens[row]) + 1])
      sums += LossSums(
        loss: weight * Double(losses[row]), weight: weight, rows: 1,
        correct: isTraining ? 0 : Int(hits[row]))
    }
    return sums
  }

  // MARK: Prediction

  func predict(
    _ hidden: UnsafePointer<Float>, _ batch: StagedBatch, items: [Int],
    into out: UnsafeMutablePointer<Float>, _ compute: Compute
  ) {
    for start in stride(from: 0, to: items.count, by: chunk) {
      let rows = min(chunk, items.count - start)
      for row in 0..<rows { sources[row] = Int32(items[start + row]) }
      forward(hidden, sources, rows, .none, compute)
      (out + start * vocabulary).update(from: logits, count: rows * vocabulary)
    }
  }
}
