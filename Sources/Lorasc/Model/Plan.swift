/// Everything a trainer or a prediction needs to run a model on at most `tokenCapacity`
/// tokens: buffers, layers, threads. Made once; running it allocates nothing.
final class Plan {
  let compute: Compute
  let arena: Arena
  let batch: StagedBatch
  /// In the order of the model's matrices and norms.
  let layers: [any MatrixLayer]
  let norms: [LayerNorm]
  let encoder: BertEncoder
  let head: HeadLayer?

  /// - Parameters:
  ///   - head: nil: embeddings only
  ///   - training: keep what the backward needs
  init(
    _ model: Model, head: HeadDescription?, tokenCapacity: Int, training: Bool, threads: Int
  ) throws {
    let arena = Arena()
    compute = try model.compute(threads: threads)
    self.arena = arena
    batch = try StagedBatch(
      tokenCapacity: tokenCapacity, limits: model.limits(head: head), arena: arena)
    let linears = model.matrices.filter(\.isLinear).map { LinearLayer($0) }
    let embeddings = model.matrices.filter { !$0.isLinear }.map { EmbeddingLayer($0) }
    layers = linears + embeddings
    norms = model.norms.map { LayerNorm($0) }
    encoder = try BertEncoder(
      model.bert, linears: linears, embeddings: embeddings, norms: norms, tokens: tokenCapacity,
      training: training, compute, arena)
    guard let head else {
      self.head = nil
      return
    }
    let output: LinearLayer
    if let own = model.head, own.description.kind == head.kind,
      own.description.labels == head.labels
    {
      output = LinearLayer(
        "classifier", inFeatures: model.hiddenSize, outFeatures: head.labels,
        weight: own.weight.pointer, bias: own.bias.pointer)
    } else {
      let zeros = try arena.matrix(head.labels, model.hiddenSize, "plan.head.weight")
      output = LinearLayer(
        "classifier", inFeatures: model.hiddenSize, outFeatures: head.labels, weight: zeros,
        bias: try arena.floats(head.labels, "plan.head.bias"))
    }
    self.head = try HeadLayer(
      head, columns: model.hiddenSize, output: output,
      pooler: head.kind == .classifier ? model.bert.pooler.map { linears[$0] } : nil,
      rows: tokenCapacity, arena: arena)
  }
}
