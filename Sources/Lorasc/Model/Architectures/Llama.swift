extension Architecture {
  /// Decoders of Llama's make (Touvron et al. 2023): RMSNorm before each branch, rotary positions,
  /// grouped-query attention, a gated feed-forward. Llama 1 to 3, SmolLM2 and TinyLlama say
  /// "llama"; Mistral adds a sliding window; Qwen2 biases of queries, keys and values.
  static let llamaFamily = [
    llamaLike("llama", "Llama", LlamaDefaults(positions: 2048)) { config, _ in
      LlamaVariant(
        projectionBias: try config.flag("attention_bias", false),
        outputBias: try config.flag("attention_bias", false),
        feedForwardBias: try config.flag("mlp_bias", false))
    },
    llamaLike("mistral", "Mistral", LlamaDefaults(positions: 131_072, keyValueHeads: 8)) {
      config, _ in
      // Null: none. Missing: transformers' default.
      let window = try config.size("sliding_window", 4096)
      return LlamaVariant(window: config.json["sliding_window"] == .null ? nil : window)
    },
    llamaLike("qwen2", "Qwen2", LlamaDefaults(positions: 32_768, keyValueHeads: 32)) {
      config, layer in
      LlamaVariant(projectionBias: true, window: try qwen2Window(config, layer: layer))
    },
  ]

  private static func llamaLike(
    _ modelType: String, _ name: String, _ defaults: LlamaDefaults,
    _ variant: @escaping @Sendable (ConfigReader, _ layer: Int) throws -> LlamaVariant
  ) -> Architecture {
    Architecture(
      modelType: modelType, prefix: "model.", baseClass: name + "Model",
      headClasses: [
        .language: name + "ForCausalLM", .classifier: name + "ForSequenceClassification",
        .token: name + "ForTokenClassification",
      ],
      defaultTargets: "q_proj,v_proj",
      classifier: { _ in
        ClassifierForm(selection: .token(.last), hasDropout: false, output: "score", hasBias: false)
      },
      tokenClassifier: ClassifierForm(selection: .each, output: "score"),
      backbone: { config, tensors in
        try llamaBackbone(config, tensors, defaults) { try variant(config, $0) }
      })
  }
}

/// What one layer of a family member has of its own.
private struct LlamaVariant {
  var projectionBias = false
  var outputBias = false
  var feedForwardBias = false
  var window: Int?
}

/// transformers' values for keys that config.json doesn't have.
private struct LlamaDefaults {
  let positions: Int
  /// nil: as many as heads.
  var keyValueHeads: Int?
}

/// Qwen2's layers from max_window_layers on see a window, where use_sliding_window is true, or
/// those that layer_types names.
private func qwen2Window(_ config: ConfigReader, layer: Int) throws -> Int? {
  let given = try config.size("sliding_window", 4096)
  let isUsed = try config.flag("use_sliding_window", false)
  let window = isUsed && config.json["sliding_window"] != .null ? given : nil
  let first = try config.json.optionalInt("max_window_layers") ?? 28
  guard let types = try config.json.optionalStrings("layer_types") else {
    return layer >= first ? window : nil
  }
  switch (types.indices.contains(layer) ? types[layer] : "missing", window) {
  case ("full_attention", _): return nil
  case ("sliding_attention", let window?): return window
  case (let type, _): throw config.bad("layer_types", "\(type) for layer \(layer)")
  }
}

private func llamaBackbone(
  _ config: ConfigReader, _ tensors: NamedTensors, _ defaults: LlamaDefaults,
  _ variant: (Int) throws -> LlamaVariant
) throws -> Backbone {
  let hidden = try config.size("hidden_size")
  let inner = try config.size("intermediate_size")
  let heads = try config.size("num_attention_heads")
  let vocabulary = try config.size("vocab_size", atMost: 1 << 30)
  let layers = try config.layers("num_hidden_layers", named: "layers", in: tensors)
  let positions = try config.size(
    "max_position_embeddings", defaults.positions, atMost: 1 << 30)
  // Null: as many as heads, whatever the model type's default.
  let keyValueHeads = try config.size(
    "num_key_value_heads",
    config.json["num_key_value_heads"] == nil ? defaults.keyValueHeads ?? heads : heads)
  try config.requireMultiple(
    ("num_attention_heads", heads), of: ("num_key_value_heads", keyValueHeads))
  if !config.has("head_dim") {
    try config.requireMultiple(("hidden_size", hidden), of: ("num_attention_heads", heads))
  }
  let headSize = try config.size("head_dim", max(1, hidden / heads), atMost: 1 << 16)
  let epsilon = try config.epsilon("rms_norm_eps", 1e-6)
  let sizes = Backbone.Sizes(
    hidden: hidden, intermediate: inner, heads: heads, keyValueHeads: keyValueHeads,
    headSize: headSize, vocabulary: vocabulary, positions: positions)

  var build = BackboneBuilder(tensors)
  var blocks: [Backbone.Block] = []
  for index in 0..<layers {
    let own = try variant(index)
    let (attention, mlp) = ("layers.\(index).self_attn", "layers.\(index).mlp")
    func projection(_ name: String, _ heads: Int) throws -> Int {
      try build.linear("\(attention).\(name)", heads * headSize, hidden, bias: own.projectionBias)
    }
    blocks.append(
      Backbone.Block(
        projections: [
          try projection("q_proj", heads), try projection("k_proj", keyValueHeads),
          try projection("v_proj", keyValueHeads),
        ],
        attentionOutput: try build.linear(
          attention + ".o_proj", hidden, sizes.attentionWidth, bias: own.outputBias),
        attentionNorm: try build.rmsNorm("layers.\(index).input_layernorm", hidden, epsilon),
        window: own.window,
        gate: try build.linear(mlp + ".gate_proj", inner, hidden, bias: own.feedForwardBias),
        up: try build.linear(mlp + ".up_proj", inner, hidden, bias: own.feedForwardBias),
        down: try build.linear(mlp + ".down_proj", hidden, inner, bias: own.feedForwardBias),
        feedForwardNorm: try build.rmsNorm(
          "layers.\(index).post_attention_layernorm", hidden, epsilon)))
  }
  let isTied = try config.flag("tie_word_embeddings", false)
  let separate =
    !isTied && tensors.store.contains("lm_head.weight")
    ? try build.outputLayer("lm_head", vocabulary, hidden) : nil
  let words = try build.embedding(
    "embed_tokens", vocabulary, hidden,
    padding: try config.paddingToken(nil, entries: vocabulary))
  var backbone = Backbone(
    sizes: sizes, inputs: .tokens(.init(tables: [(words, .token)])), blocks: blocks,
    finalNorm: try build.rmsNorm("norm", hidden, epsilon), placement: .pre,
    activation: try config.activation("hidden_act", "silu"),
    attention: .init(
      isCausal: true,
      rotary: try RotaryForm(config, headSize: headSize, positions: positions)),
    dropout: .init(
      attention: try config.probability("attention_dropout", 0),
      classifier: try config.probability("classifier_dropout", 0.1)),
    output: isTied
      ? .init(matrix: words, isTied: true) : separate.map { .init(matrix: $0, isTied: false) })
  build.finish(&backbone)
  return backbone
}
