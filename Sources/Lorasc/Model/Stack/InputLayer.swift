/// What makes the first hidden states of a batch, and takes their gradient.
protocol InputLayer: AnyObject {
  var isTrained: Bool { get }
  /// - Returns: (tokens, hidden), valid until the next forward
  func forward(_ batch: StagedBatch, dropout: DropoutPlan, _ compute: Compute)
    -> UnsafeMutablePointer<Float>
  /// Adds the gradients of what is trained; `gradient` (tokens, hidden) is used up.
  func backward(
    _ gradient: UnsafeMutablePointer<Float>, _ batch: StagedBatch, dropout: DropoutPlan,
    _ compute: Compute)
}

/// The sum of embeddings, normalised where the model does.
final class TokenInputLayer: InputLayer {
  private let tables: [(layer: EmbeddingLayer, index: Backbone.TokenInputs.Index)]
  private let norm: Norm?
  private let hidden: Int
  private let sum: UnsafeMutablePointer<Float>
  private let normed: UnsafeMutablePointer<Float>
  private let saved: Norm.Saved?

  /// - Parameter given: memory for the hidden states, which the next layer copies; nil: its own
  init(
    _ inputs: Backbone.TokenInputs, _ modules: StackModules, hidden: Int, tokens: Int,
    into given: UnsafeMutablePointer<Float>?, _ arena: Arena
  ) throws {
    tables = inputs.tables.map { (modules.embedding($0.matrix), $0.index) }
    norm = inputs.norm.map { modules.norms[$0] }
    self.hidden = hidden
    normed = try given ?? arena.matrix(tokens, hidden, "plan.embedded")
    saved =
      inputs.norm == nil
      ? nil : try Norm.Saved(rows: tokens, columns: hidden, "plan.embedding_norm", arena)
    sum = saved?.sum ?? normed
  }

  var isTrained: Bool { norm?.isTrained == true || tables.contains(where: \.layer.isTrained) }

  private func ids(_ index: Backbone.TokenInputs.Index, _ batch: StagedBatch)
    -> UnsafePointer<Int32>
  {
    switch index {
    case .token: UnsafePointer(batch.tokens)
    case .position: UnsafePointer(batch.positions)
    case .tokenType: UnsafePointer(batch.tokenTypes)
    }
  }

  func forward(_ batch: StagedBatch, dropout: DropoutPlan, _ compute: Compute)
    -> UnsafeMutablePointer<Float>
  {
    let tokens = batch.tokenCount
    compute.kernels.fill(0, sum, tokens * hidden)
    for table in tables {
      table.layer.forward(ids(table.index, batch), addTo: sum, tokens: tokens, compute)
    }
    if let norm, let saved {
      norm.forward(sum, residual: nil, Values(normed), saved, rows: tokens, compute)
    }
    dropout.embeddings("embeddings")?.apply(normed, normed, rows: tokens, columns: hidden, compute)
    return normed
  }

  func backward(
    _ gradient: UnsafeMutablePointer<Float>, _ batch: StagedBatch, dropout: DropoutPlan,
    _ compute: Compute
  ) {
    let tokens = batch.tokenCount
    dropout.embeddings("embeddings")?.apply(
      gradient, gradient, rows: tokens, columns: hidden, compute)
    if let norm, let saved {
      norm.backward(gradient, saved, Values(gradient), rows: tokens, compute)
    }
    for table in tables where table.layer.isTrained {
      table.layer.backward(gradient, ids(table.index, batch), tokens: tokens, compute)
    }
  }
}

/// Patches of images, projected, with class tokens before and positions added. Frozen but for the
/// projection's bias.
final class PatchInputLayer: InputLayer {
  private let inputs: Backbone.PatchInputs
  private let projection: LinearLayer?
  private let hidden: Int
  private let embedded: UnsafeMutablePointer<Float>
  /// (rows · patches, hidden)
  private let projected: UnsafeMutablePointer<Float>

  init(
    _ inputs: Backbone.PatchInputs, _ projection: LinearLayer?, hidden: Int, tokens: Int,
    into given: UnsafeMutablePointer<Float>?, _ arena: Arena
  ) throws {
    self.inputs = inputs
    self.projection = projection
    self.hidden = hidden
    embedded = try given ?? arena.matrix(tokens, hidden, "plan.embedded")
    projected = try arena.matrix(
      tokens / inputs.tokens * inputs.patches, hidden, "plan.projected_patches")
  }

  var isTrained: Bool { projection?.isTrained == true }

  /// Where a token of a row begins.
  private func element(_ row: Int, _ place: Int, _ batch: StagedBatch) -> Int {
    (Int(batch.starts[row]) + place) * hidden
  }

  func forward(_ batch: StagedBatch, dropout: DropoutPlan, _ compute: Compute)
    -> UnsafeMutablePointer<Float>
  {
    guard let patches = batch.patches else { return embedded }
    let (axpby, count) = (compute.kernels.axpby, inputs.classTokens.count)
    for row in 0..<batch.rows {
      for (place, token) in inputs.classTokens.enumerated() {
        axpby(1, token.pointer, 0, embedded + element(row, place, batch), hidden)
      }
      axpby(1, inputs.positions.pointer, 1, embedded + element(row, 0, batch), count * hidden)
    }
    // Of all images at once: each alone would have the matrix read again.
    projection?.forward(
      patches, ldx: inputs.patchPixels, projected, ldy: hidden, rows: batch.rows * inputs.patches,
      dropout: .none, compute
    ) { patches, _ in
      for patch in patches {
        let (row, place) = (patch / inputs.patches, count + patch % inputs.patches)
        let to = embedded + element(row, place, batch)
        axpby(1, projected + patch * hidden, 0, to, hidden)
        axpby(1, inputs.positions.pointer + place * hidden, 1, to, hidden)
      }
    }
    dropout.embeddings("embeddings")?
      .apply(embedded, embedded, rows: batch.tokenCount, columns: hidden, compute)
    return embedded
  }

  func backward(
    _ gradient: UnsafeMutablePointer<Float>, _ batch: StagedBatch, dropout: DropoutPlan,
    _ compute: Compute
  ) {
    guard let patches = batch.patches else { return }
    dropout.embeddings("embeddings")?
      .apply(gradient, gradient, rows: batch.tokenCount, columns: hidden, compute)
    for row in 0..<batch.rows {
      projection?.backward(
        gradient + element(row, inputs.classTokens.count, batch), lddy: hidden,
        x: patches + row * inputs.patches * inputs.patchPixels, ldx: inputs.patchPixels, dx: nil,
        lddx: 0, rows: inputs.patches, dropout: .none, compute)
    }
  }
}
