/// BERT's encoder (Devlin et al. 2018), as transformers' BertModel: what its tensors are
/// called, and how its layers follow each other, forward and backward.
struct BertBackbone: Sendable {
  let config: BertConfig
  /// Linear modules first, then the three embeddings.
  let matrices: [MatrixModule]
  let norms: [NormModule]
  let layers: [LayerModules]
  let embeddings: EmbeddingModules
  /// Index into `matrices`; nil: the file has none.
  let pooler: Int?
  let activation: Activation

  /// Indices into `matrices` and, the norm, into `norms`.
  struct EmbeddingModules: Sendable {
    let words: Int
    let positions: Int
    let types: Int
    let norm: Int
  }
  struct LayerModules: Sendable {
    let query: Int
    let key: Int
    let value: Int
    let attentionOutput: Int
    let attentionNorm: Int
    let intermediate: Int
    let output: Int
    let outputNorm: Int
  }

  init(_ config: BertConfig, _ tensors: NamedTensors) throws {
    guard let activation = Activation(configName: config.activationName) else {
      throw LorascError(
        .unsupported, "hidden_act \(config.activationName) is not offered", subject: "hidden_act")
    }
    let hidden = config.hiddenSize
    var matrices: [MatrixModule] = []
    var norms: [NormModule] = []
    func linear(_ name: String, _ out: Int, _ into: Int) throws -> Int {
      matrices.append(
        MatrixModule(
          name: name, kind: .linear, inFeatures: into, outFeatures: out,
          weight: try tensors.float32(name + ".weight", shape: [out, into]),
          bias: try tensors.float32(name + ".bias", shape: [out]), isOutputLayer: false))
      return matrices.count - 1
    }
    func embedding(_ name: String, _ entries: Int, padding: Int? = nil) throws -> Int {
      matrices.append(
        MatrixModule(
          name: "embeddings." + name, kind: .embedding(paddingIndex: padding),
          inFeatures: entries, outFeatures: hidden,
          weight: try tensors.float32("embeddings.\(name).weight", shape: [entries, hidden]),
          bias: nil, isOutputLayer: false))
      return matrices.count - 1
    }
    func norm(_ name: String) throws -> Int {
      norms.append(
        NormModule(
          name: name, gamma: try tensors.float32(name + ".weight", shape: [hidden]),
          beta: try tensors.float32(name + ".bias", shape: [hidden]),
          epsilon: config.layerNormEpsilon, columns: hidden))
      return norms.count - 1
    }
    var layers: [LayerModules] = []
    for index in 0..<config.layers {
      let layer = "encoder.layer.\(index)"
      layers.append(
        LayerModules(
          query: try linear(layer + ".attention.self.query", hidden, hidden),
          key: try linear(layer + ".attention.self.key", hidden, hidden),
          value: try linear(layer + ".attention.self.value", hidden, hidden),
          attentionOutput: try linear(layer + ".attention.output.dense", hidden, hidden),
          attentionNorm: try norm(layer + ".attention.output.LayerNorm"),
          intermediate: try linear(layer + ".intermediate.dense", config.intermediateSize, hidden),
          output: try linear(layer + ".output.dense", hidden, config.intermediateSize),
          outputNorm: try norm(layer + ".output.LayerNorm")))
    }
    pooler =
      tensors.contains("pooler.dense.weight") ? try linear("pooler.dense", hidden, hidden) : nil
    embeddings = EmbeddingModules(
      words: try embedding("word_embeddings", config.vocabulary, padding: config.paddingToken),
      positions: try embedding("position_embeddings", config.positions),
      types: try embedding("token_type_embeddings", config.tokenTypes),
      norm: try norm("embeddings.LayerNorm"))
    self.config = config
    self.layers = layers
    self.matrices = matrices
    self.norms = norms
    self.activation = activation
  }
}

/// The plan's side of a BERT encoder: buffers, and the passes over them.
final class BertEncoder {
  private let backbone: BertBackbone
  /// In the order of `backbone.matrices`; the embeddings come last there.
  private let linears: [LinearLayer]
  private let embeddings: [EmbeddingLayer]
  private let norms: [LayerNorm]
  private let attention: Attention
  private let compute: Compute
  private let buffers: [LayerBuffers]
  private let embedded: UnsafeMutablePointer<Float>
  private let embeddingSaved: LayerNorm.Saved
  /// (tokens, hidden): a branch's output on its way to the norm.
  private let branch: UnsafeMutablePointer<Float>
  private let gradients: GradientBuffers?

  private var hidden: Int { backbone.config.hiddenSize }
  private var inner: Int { backbone.config.intermediateSize }

  /// What one layer keeps between forward and backward. Without training, all layers share one.
  private struct LayerBuffers {
    /// (tokens, 3 hidden); (heads, tokens); (tokens, hidden)
    let qkv: UnsafeMutablePointer<Float>
    let logSumExp: UnsafeMutablePointer<Float>
    let context: UnsafeMutablePointer<Float>
    /// (tokens, hidden): output of the attention block
    let attended: UnsafeMutablePointer<Float>
    let attentionSaved: LayerNorm.Saved
    /// (tokens, inner): before and after the activation
    let inner: UnsafeMutablePointer<Float>
    let activated: UnsafeMutablePointer<Float>
    let outputSaved: LayerNorm.Saved
    /// (tokens, hidden)
    let output: UnsafeMutablePointer<Float>

    init(_ config: BertConfig, tokens: Int, _ name: String, _ arena: Arena) throws {
      let hidden = config.hiddenSize
      qkv = try arena.matrix(tokens, 3 * hidden, name + ".qkv")
      logSumExp = try arena.matrix(tokens, config.heads, name + ".log_sum_exp")
      context = try arena.matrix(tokens, hidden, name + ".context")
      attended = try arena.matrix(tokens, hidden, name + ".attended")
      attentionSaved = try .init(rows: tokens, columns: hidden, name + ".attention_norm", arena)
      inner = try arena.matrix(tokens, config.intermediateSize, name + ".inner")
      activated = try arena.matrix(tokens, config.intermediateSize, name + ".activated")
      outputSaved = try .init(rows: tokens, columns: hidden, name + ".output_norm", arena)
      output = try arena.matrix(tokens, hidden, name + ".output")
    }
  }

  private struct GradientBuffers {
    /// (tokens, hidden)
    let stream: UnsafeMutablePointer<Float>
    let branch: UnsafeMutablePointer<Float>
    let other: UnsafeMutablePointer<Float>
    /// (tokens, inner)
    let inner: UnsafeMutablePointer<Float>
    /// (tokens, 3 hidden)
    let qkv: UnsafeMutablePointer<Float>

    init(_ config: BertConfig, tokens: Int, _ arena: Arena) throws {
      stream = try arena.matrix(tokens, config.hiddenSize, "plan.gradient.stream")
      branch = try arena.matrix(tokens, config.hiddenSize, "plan.gradient.branch")
      other = try arena.matrix(tokens, config.hiddenSize, "plan.gradient.other")
      inner = try arena.matrix(tokens, config.intermediateSize, "plan.gradient.inner")
      qkv = try arena.matrix(tokens, 3 * config.hiddenSize, "plan.gradient.qkv")
    }
  }

  /// - Parameters: the layers of `backbone.matrices` and `backbone.norms`, in that order
  init(
    _ backbone: BertBackbone, linears: [LinearLayer], embeddings: [EmbeddingLayer],
    norms: [LayerNorm], tokens: Int, training: Bool, _ compute: Compute, _ arena: Arena
  ) throws {
    let config = backbone.config
    self.backbone = backbone
    self.linears = linears
    self.embeddings = embeddings
    self.norms = norms
    self.compute = compute
    attention = try Attention(
      heads: config.heads, headSize: config.headSize, longest: min(tokens, config.positions),
      tokens: tokens, lanes: compute.threads, arena: arena)
    embedded = try arena.matrix(tokens, config.hiddenSize, "plan.embedded")
    embeddingSaved = try .init(
      rows: tokens, columns: config.hiddenSize, "plan.embedding_norm", arena)
    branch = try arena.matrix(tokens, config.hiddenSize, "plan.branch")
    if training {
      buffers = try (0..<config.layers).map {
        try LayerBuffers(config, tokens: tokens, "plan.layer.\($0)", arena)
      }
      gradients = try GradientBuffers(config, tokens: tokens, arena)
    } else {
      buffers = [try LayerBuffers(config, tokens: tokens, "plan.layer", arena)]
      gradients = nil
    }
  }

  private func buffers(of layer: Int) -> LayerBuffers { buffers[min(layer, buffers.count - 1)] }

  /// - Returns: the last layer's output, (tokens, hidden), valid until the next forward.
  func forward(_ batch: StagedBatch, dropout: DropoutPlan) -> UnsafePointer<Float> {
    let tokens = batch.tokenCount
    compute.kernels.fill(0, branch, tokens * hidden)
    for (layer, ids) in tables(batch) {
      layer.forward(ids, addTo: branch, tokens: tokens, compute)
    }
    norms[backbone.embeddings.norm].forward(
      branch, residual: nil, embedded, embeddingSaved, rows: tokens, compute)
    dropout.hidden("embeddings")?
      .apply(embedded, embedded, rows: tokens, columns: hidden, compute)
    var input = UnsafePointer(embedded)
    for layer in 0..<backbone.layers.count {
      forward(layer, input, batch, dropout)
      input = UnsafePointer(buffers(of: layer).output)
    }
    return input
  }

  /// The embeddings with what indexes them.
  private func tables(_ batch: StagedBatch) -> [(EmbeddingLayer, UnsafePointer<Int32>)] {
    let first = linears.count
    return [
      (embeddings[backbone.embeddings.words - first], UnsafePointer(batch.tokens)),
      (embeddings[backbone.embeddings.positions - first], UnsafePointer(batch.positions)),
      (embeddings[backbone.embeddings.types - first], UnsafePointer(batch.tokenTypes)),
    ]
  }

  private func forward(
    _ index: Int, _ input: UnsafePointer<Float>, _ batch: StagedBatch, _ dropout: DropoutPlan
  ) {
    let weights = backbone.layers[index]
    let saved = buffers(of: index)
    let tokens = batch.tokenCount
    for (place, linear) in [weights.query, weights.key, weights.value].enumerated() {
      linears[linear].forward(
        input, ldx: hidden, saved.qkv + place * hidden, ldy: 3 * hidden, rows: tokens,
        dropout: dropout, compute)
    }
    attention.forward(
      qkv: saved.qkv, output: saved.context, logSumExp: saved.logSumExp, batch,
      dropout: dropout.attention("layer.\(index)"), compute)
    linears[weights.attentionOutput].forward(
      saved.context, ldx: hidden, branch, ldy: hidden, rows: tokens, dropout: dropout, compute)
    dropout.hidden("layer.\(index).attention")?
      .apply(branch, branch, rows: tokens, columns: hidden, compute)
    norms[weights.attentionNorm].forward(
      branch, residual: input, saved.attended, saved.attentionSaved, rows: tokens, compute)
    linears[weights.intermediate].forward(
      saved.attended, ldx: hidden, saved.inner, ldy: inner, rows: tokens, dropout: dropout, compute)
    backbone.activation.forward(
      saved.inner, saved.activated, rows: tokens, columns: inner, compute)
    linears[weights.output].forward(
      saved.activated, ldx: inner, branch, ldy: hidden, rows: tokens, dropout: dropout, compute)
    dropout.hidden("layer.\(index).output")?
      .apply(branch, branch, rows: tokens, columns: hidden, compute)
    norms[weights.outputNorm].forward(
      branch, residual: saved.attended, saved.output, saved.outputSaved, rows: tokens, compute)
  }

  /// Where the loss's gradient by the last layer's output goes before `backward`.
  var outputGradient: UnsafeMutablePointer<Float>? { gradients?.stream }

  /// True where anything of the encoder is trained.
  var isTrained: Bool {
    areEmbeddingsTrained
      || backbone.layers.indices.contains { lowestTrainedSite(of: $0) != nil }
  }

  private var areEmbeddingsTrained: Bool {
    embeddings.contains(where: \.isTrained) || norms[backbone.embeddings.norm].isTrained
  }

  /// Sites of a layer from its input up; the backward stops at the lowest trained one.
  private enum Site: CaseIterable {
    case attention, attentionOutput, attentionNorm, intermediate, output, outputNorm
  }

  private func lowestTrainedSite(of layer: Int) -> Site? {
    let weights = backbone.layers[layer]
    return Site.allCases.first { site in
      switch site {
      case .attention:
        [weights.query, weights.key, weights.value].contains { linears[$0].isTrained }
      case .attentionOutput: linears[weights.attentionOutput].isTrained
      case .attentionNorm: norms[weights.attentionNorm].isTrained
      case .intermediate: linears[weights.intermediate].isTrained
      case .output: linears[weights.output].isTrained
      case .outputNorm: norms[weights.outputNorm].isTrained
      }
    }
  }

  /// Adds the gradients of all that is trained, from `outputGradient`, which is used up.
  func backward(_ batch: StagedBatch, dropout: DropoutPlan) {
    let isWhole = areEmbeddingsTrained
    let lowest = backbone.layers.indices.first { lowestTrainedSite(of: $0) != nil }
    guard let end = isWhole ? 0 : lowest else { return }
    for layer in (end..<backbone.layers.count).reversed() {
      let stop = !isWhole && layer == end ? lowestTrainedSite(of: layer) : nil
      backward(layer, batch, dropout, stopAt: stop)
    }
    if isWhole { backwardEmbeddings(batch, dropout) }
  }

  private func backwardEmbeddings(_ batch: StagedBatch, _ dropout: DropoutPlan) {
    guard let stream = gradients?.stream else { return }
    let tokens = batch.tokenCount
    dropout.hidden("embeddings")?
      .apply(stream, stream, rows: tokens, columns: hidden, compute)
    norms[backbone.embeddings.norm].backward(
      stream, embeddingSaved, stream, rows: tokens, compute)
    for (layer, ids) in tables(batch) where layer.isTrained {
      layer.backward(stream, ids, tokens: tokens, compute)
    }
  }

  private func backward(
    _ index: Int, _ batch: StagedBatch, _ dropout: DropoutPlan, stopAt: Site?
  ) {
    guard let gradients else { return }
    let weights = backbone.layers[index]
    let saved = buffers(of: index)
    let input = UnsafePointer(index == 0 ? embedded : buffers(of: index - 1).output)
    let tokens = batch.tokenCount
    let (stream, branch, other) = (gradients.stream, gradients.branch, gradients.other)

    // stream = d sum of the output norm: of the residual and of the feed-forward branch.
    norms[weights.outputNorm].backward(
      stream, saved.outputSaved, stream, rows: tokens, compute)
    if stopAt == .outputNorm { return }
    var from = UnsafePointer(stream)
    if let site = dropout.hidden("layer.\(index).output") {
      site.apply(stream, branch, rows: tokens, columns: hidden, compute)
      from = UnsafePointer(branch)
    }
    linears[weights.output].backward(
      from, lddy: hidden, x: saved.activated, ldx: inner,
      dx: stopAt == .output ? nil : gradients.inner, lddx: inner, rows: tokens, dropout: dropout,
      compute)
    if stopAt == .output { return }
    backbone.activation.backward(
      saved.inner, gradients.inner, gradients.inner, rows: tokens, columns: inner, compute)
    linears[weights.intermediate].backward(
      gradients.inner, lddy: inner, x: saved.attended, ldx: hidden,
      dx: stopAt == .intermediate ? nil : stream, lddx: hidden, accumulate: true, rows: tokens,
      dropout: dropout,
      compute)
    if stopAt == .intermediate { return }

    norms[weights.attentionNorm].backward(
      stream, saved.attentionSaved, stream, rows: tokens, compute)
    if stopAt == .attentionNorm { return }
    from = UnsafePointer(stream)
    if let site = dropout.hidden("layer.\(index).attention") {
      site.apply(stream, branch, rows: tokens, columns: hidden, compute)
      from = UnsafePointer(branch)
    }
    linears[weights.attentionOutput].backward(
      from, lddy: hidden, x: saved.context, ldx: hidden,
      dx: stopAt == .attentionOutput ? nil : other, lddx: hidden, rows: tokens, dropout: dropout,
      compute)
    if stopAt == .attentionOutput { return }
    attention.backward(
      dOutput: other, qkv: saved.qkv, output: saved.context, logSumExp: saved.logSumExp,
      dqkv: gradients.qkv, batch, dropout: dropout.attention("layer.\(index)"), compute)
    for (place, linear) in [weights.query, weights.key, weights.value].enumerated() {
      linears[linear].backward(
        gradients.qkv + place * hidden, lddy: 3 * hidden, x: input, ldx: hidden,
        dx: stopAt == .attention ? nil : stream, lddx: hidden, accumulate: true, rows: tokens,
        dropout: dropout,
        compute)
    }
  }
}
