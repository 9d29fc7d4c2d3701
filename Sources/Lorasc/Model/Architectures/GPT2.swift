extension Architecture {
  /// GPT-2 (Radford et al. 2019), as transformers' GPT2Model: LayerNorm before each branch,
  /// learned positions, one fused projection, weights stored as (in, out).
  static let gpt2 = Architecture(
    modelType: "gpt2", prefix: "transformer.", baseClass: "GPT2Model",
    headClasses: [
      .language: "GPT2LMHeadModel", .classifier: "GPT2ForSequenceClassification",
      .token: "GPT2ForTokenClassification",
    ],
    defaultTargets: "c_attn",
    classifier: { _ in
      ClassifierForm(selection: .token(.last), hasDropout: false, output: "score", hasBias: false)
    },
    tokenClassifier: ClassifierForm(selection: .each),
    backbone: { config, tensors in
      let hidden = try config.size("n_embd", 768)
      let heads = try config.size("n_head", 12)
      let inner = try config.size("n_inner", 4 * hidden)
      let vocabulary = try config.size("vocab_size", 50257, atMost: 1 << 30)
      let positions = try config.size("n_positions", 1024)
      let epsilon = try config.epsilon("layer_norm_epsilon", 1e-5)
      try config.requireMultiple(("n_embd", hidden), of: ("n_head", heads))
      try config.require([
        ("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false),
        ("add_cross_attention", false),
      ])

      var build = BackboneBuilder(tensors)
      var blocks: [Backbone.Block] = []
      for index in 0..<(try config.layers("n_layer", 12, named: "h", in: tensors)) {
        let layer = "h.\(index)"
        blocks.append(
          Backbone.Block(
            projections: [try build.conv1D(layer + ".attn.c_attn", 3 * hidden, hidden)],
            attentionOutput: try build.conv1D(layer + ".attn.c_proj", hidden, hidden),
            attentionNorm: try build.layerNorm(layer + ".ln_1", hidden, epsilon),
            up: try build.conv1D(layer + ".mlp.c_fc", inner, hidden),
            down: try build.conv1D(layer + ".mlp.c_proj", hidden, inner),
            feedForwardNorm: try build.layerNorm(layer + ".ln_2", hidden, epsilon)))
      }
      let isTied = try config.flag("tie_word_embeddings", true)
      let separate =
        !isTied && tensors.store.contains("lm_head.weight")
        ? try build.outputLayer("lm_head", vocabulary, hidden) : nil
      let words = try build.embedding("wte", vocabulary, hidden)
      let tables: [(matrix: Int, index: Backbone.TokenInputs.Index)] = [
        (words, .token), (try build.embedding("wpe", positions, hidden), .position),
      ]
      var backbone = Backbone(
        sizes: .init(
          hidden: hidden, intermediate: inner, heads: heads, keyValueHeads: heads,
          headSize: hidden / heads, vocabulary: vocabulary, positions: positions),
        inputs: .tokens(.init(tables: tables)), blocks: blocks,
        finalNorm: try build.layerNorm("ln_f", hidden, epsilon), placement: .pre,
        activation: try config.activation("activation_function", "gelu_new"),
        attention: .init(isCausal: true),
        dropout: .init(
          hidden: try config.probability("resid_pdrop", 0.1),
          attention: try config.probability("attn_pdrop", 0.1),
          classifier: try config.probability("classifier_dropout", 0.1),
          embeddings: try config.probability("embd_pdrop", 0.1)),
        output: isTied
          ? .init(matrix: words, isTied: true) : separate.map { .init(matrix: $0, isTied: false) })
      build.finish(&backbone)
      return backbone
    })
}
