extension Architecture {
  /// BERT's encoder (Devlin et al. 2018), as transformers' BertModel; MiniLM is one.
  static let bert = Architecture(
    modelType: "bert", prefix: "bert.", baseClass: "BertModel",
    headClasses: [
      .classifier: "BertForSequenceClassification", .token: "BertForTokenClassification",
    ],
    defaultTargets: "query,value",
    classifier: { $0.pooler == nil ? nil : ClassifierForm(dense: .pooler) },
    tokenClassifier: ClassifierForm(selection: .each),
    backbone: { config, tensors in try bertBackbone(config, tensors, defaults: .init()) })

  /// RoBERTa (Liu et al. 2019): BERT's encoder whose positions follow the padding token's, with
  /// a classifier of two layers.
  static let roberta = robertaLike("roberta", "Roberta")
  static let xlmRoberta = robertaLike("xlm-roberta", "XLMRoberta")

  private static func robertaLike(_ modelType: String, _ name: String) -> Architecture {
    Architecture(
      modelType: modelType, prefix: "roberta.", baseClass: name + "Model",
      headClasses: [
        .classifier: name + "ForSequenceClassification", .token: name + "ForTokenClassification",
      ],
      defaultTargets: "query,value",
      classifier: { _ in
        ClassifierForm(
          dense: .own(name: "classifier.dense"), dropsBeforeDense: true,
          output: "classifier.out_proj")
      },
      tokenClassifier: ClassifierForm(selection: .each),
      backbone: { config, tensors in
        try bertBackbone(config, tensors, defaults: .init(padding: 1, positionsFollowPadding: true))
      })
  }
}

private struct Defaults {
  var padding = 0
  var positionsFollowPadding = false
}

private func bertBackbone(_ config: ConfigReader, _ tensors: NamedTensors, defaults: Defaults)
  throws -> Backbone
{
  let hidden = try config.size("hidden_size")
  let heads = try config.size("num_attention_heads")
  let inner = try config.size("intermediate_size")
  let vocabulary = try config.size("vocab_size", atMost: 1 << 30)
  let entries = try config.size("max_position_embeddings")
  let types = try config.size("type_vocab_size", 2)
  let layers = try config.layers("num_hidden_layers", named: "encoder.layer", in: tensors)
  try config.requireMultiple(("hidden_size", hidden), of: ("num_attention_heads", heads))
  let kind = try config.text("position_embedding_type", "absolute")
  guard kind == "absolute" else {
    throw LorascError(
      .unsupported, "position_embedding_type \(kind) is not offered",
      subject: "position_embedding_type")
  }
  try config.require([("is_decoder", false), ("add_cross_attention", false)])
  let epsilon = try config.epsilon("layer_norm_eps", 1e-12)
  let padding = try config.paddingToken(defaults.padding, entries: vocabulary)

  var positions = Backbone.PositionRule()
  if defaults.positionsFollowPadding {
    // Positions count from its id, so that there must be one.
    let token =
      config.json["pad_token_id"] == nil
      ? defaults.padding : try config.json.int("pad_token_id", in: 0...(vocabulary - 1))
    positions = .init(first: token + 1, paddingToken: token)
    guard entries > token + 1 else {
      throw config.bad("max_position_embeddings", String(entries))
    }
  }

  var build = BackboneBuilder(tensors)
  var blocks: [Backbone.Block] = []
  for index in 0..<layers {
    let layer = "encoder.layer.\(index)"
    blocks.append(
      Backbone.Block(
        projections: [
          try build.linear(layer + ".attention.self.query", hidden, hidden),
          try build.linear(layer + ".attention.self.key", hidden, hidden),
          try build.linear(layer + ".attention.self.value", hidden, hidden),
        ],
        attentionOutput: try build.linear(layer + ".attention.output.dense", hidden, hidden),
        attentionNorm: try build.layerNorm(layer + ".attention.output.LayerNorm", hidden, epsilon),
        up: try build.linear(layer + ".intermediate.dense", inner, hidden),
        down: try build.linear(layer + ".output.dense", hidden, inner),
        feedForwardNorm: try build.layerNorm(layer + ".output.LayerNorm", hidden, epsilon)))
  }
  let pooler =
    tensors.contains("pooler.dense.weight")
    ? try build.linear("pooler.dense", hidden, hidden) : nil
  let inputs = Backbone.TokenInputs(
    tables: [
      (
        try build.embedding("embeddings.word_embeddings", vocabulary, hidden, padding: padding),
        .token
      ),
      (
        try build.embedding(
          "embeddings.position_embeddings", entries, hidden, padding: positions.paddingToken),
        .position
      ),
      (try build.embedding("embeddings.token_type_embeddings", types, hidden), .tokenType),
    ],
    norm: try build.layerNorm("embeddings.LayerNorm", hidden, epsilon), positions: positions)
  let hiddenDropout = try config.probability("hidden_dropout_prob", 0.1)
  var backbone = Backbone(
    sizes: .init(
      hidden: hidden, intermediate: inner, heads: heads, keyValueHeads: heads,
      headSize: hidden / heads, vocabulary: vocabulary, positions: entries - positions.first,
      tokenTypes: types),
    inputs: .tokens(inputs), blocks: blocks, placement: .post,
    activation: try config.activation("hidden_act", "gelu"),
    dropout: .init(
      hidden: hiddenDropout, attention: try config.probability("attention_probs_dropout_prob", 0.1),
      classifier: try config.probability("classifier_dropout", Double(hiddenDropout))),
    pooler: pooler)
  build.finish(&backbone)
  return backbone
}
