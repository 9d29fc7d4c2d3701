extension Architecture {
  /// DistilBERT (Sanh et al. 2019), as transformers' DistilBertModel: BERT's blocks without
  /// token types and without dropout after the attention.
  static let distilBert = Architecture(
    modelType: "distilbert", prefix: "distilbert.", baseClass: "DistilBertModel",
    headClasses: [
      .classifier: "DistilBertForSequenceClassification",
      .token: "DistilBertForTokenClassification",
    ],
    defaultTargets: "q_lin,v_lin",
    classifier: { _ in
      ClassifierForm(dense: .own(name: "pre_classifier"), denseActivation: .relu)
    },
    tokenClassifier: ClassifierForm(selection: .each),
    backbone: { config, tensors in
      let hidden = try config.size("dim", 768)
      let heads = try config.size("n_heads", 12)
      let inner = try config.size("hidden_dim", 3072)
      let vocabulary = try config.size("vocab_size", atMost: 1 << 30)
      let positions = try config.size("max_position_embeddings", 512)
      try config.requireMultiple(("dim", hidden), of: ("n_heads", heads))

      var build = BackboneBuilder(tensors)
      var blocks: [Backbone.Block] = []
      for index in 0..<(try config.layers("n_layers", 6, named: "transformer.layer", in: tensors)) {
        let layer = "transformer.layer.\(index)"
        blocks.append(
          Backbone.Block(
            projections: [
              try build.linear(layer + ".attention.q_lin", hidden, hidden),
              try build.linear(layer + ".attention.k_lin", hidden, hidden),
              try build.linear(layer + ".attention.v_lin", hidden, hidden),
            ],
            attentionOutput: try build.linear(layer + ".attention.out_lin", hidden, hidden),
            attentionNorm: try build.layerNorm(layer + ".sa_layer_norm", hidden, 1e-12),
            up: try build.linear(layer + ".ffn.lin1", inner, hidden),
            down: try build.linear(layer + ".ffn.lin2", hidden, inner),
            feedForwardNorm: try build.layerNorm(layer + ".output_layer_norm", hidden, 1e-12)))
      }
      let padding = try config.paddingToken(0, entries: vocabulary)
      let inputs = Backbone.TokenInputs(
        tables: [
          (
            try build.embedding("embeddings.word_embeddings", vocabulary, hidden, padding: padding),
            .token
          ),
          (try build.embedding("embeddings.position_embeddings", positions, hidden), .position),
        ],
        norm: try build.layerNorm("embeddings.LayerNorm", hidden, 1e-12))
      var backbone = Backbone(
        sizes: .init(
          hidden: hidden, intermediate: inner, heads: heads, keyValueHeads: heads,
          headSize: hidden / heads, vocabulary: vocabulary, positions: positions),
        inputs: .tokens(inputs), blocks: blocks, placement: .post,
        activation: try config.activation("activation", "gelu"),
        dropout: .init(
          hidden: try config.probability("dropout", 0.1),
          attention: try config.probability("attention_dropout", 0.1),
          classifier: try config.probability("seq_classif_dropout", 0.2), afterAttention: false))
      build.finish(&backbone)
      return backbone
    })
}
