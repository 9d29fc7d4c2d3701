/// A GGUF file's metadata as transformers' config.json, in the keys that its own reading of such
/// files makes of them, and what that leaves out: the scaling of rotary positions, biases, gpt2's
/// length, bert.
struct GGUFConfig {
  let file: GGUFFile
  /// The keys' prefix.
  let architecture: String

  /// Keys that change what a model computes in ways that aren't offered, unless they are 0.
  private static let refused = [
    "expert_count", "attention.scale", "attention.clamp_kqv", "attention.max_alibi_bias",
    "attn_logit_softcapping", "final_logit_softcapping", "logit_scale", "residual_scale",
    "embedding_scale", "use_parallel_residual", "rope.scaling.yarn_log_multiplier",
  ]
  /// The same, unless they are 1.
  private static let refusedFactors = [
    "rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_ext_factor",
  ]

  /// - Throws: `.unsupported` for such a key
  func refuseOthers() throws {
    for (names, harmless) in [(Self.refused, 0.0), (Self.refusedFactors, 1.0)] {
      for key in names.map(key) {
        guard let value = file.metadata[key], value.flag != false, value.number != harmless else {
          continue
        }
        throw LorascError(.unsupported, "\(key) \(value.kind) is not offered", subject: key)
      }
    }
  }

  // MARK: Architectures

  func llama() throws -> JSONObject {
    var config = try decoder("LlamaForCausalLM", "llama")
    config["head_dim"] = .integer(Int64(try headSize()))
    config["attention_bias"] = .bool(has("blk.0.attn_q.bias"))
    config["mlp_bias"] = .bool(has("blk.0.ffn_up.bias"))
    return config
  }

  func qwen2() throws -> JSONObject {
    var config = try decoder("Qwen2ForCausalLM", "qwen2")
    if file.metadata[key("attention.key_length")] != nil {
      config["head_dim"] = .integer(Int64(try headSize()))
    }
    return config
  }

  private func decoder(_ model: String, _ type: String) throws -> JSONObject {
    var config = try described(model, type)
    try setSizes(
      of: &config, "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    config["num_key_value_heads"] =
      try optionalInteger("attention.head_count_kv") ?? config["num_attention_heads"]
    config["max_position_embeddings"] = try integer("context_length")
    config["rms_norm_eps"] = try number("attention.layer_norm_rms_epsilon")
    config["hidden_act"] = "silu"
    config["rope_theta"] = try optionalNumber("rope.freq_base") ?? 10_000.0
    if let scaling = try ropeScaling() { config["rope_scaling"] = .object(scaling) }
    return config
  }

  func gpt2() throws -> JSONObject {
    var config = try described("GPT2LMHeadModel", "gpt2")
    try setSizes(of: &config, "n_embd", "n_inner", "n_layer", "n_head")
    config["n_positions"] = try integer("context_length")
    config["layer_norm_epsilon"] = try number("attention.layer_norm_epsilon")
    config["activation_function"] = "gelu_new"
    return config
  }

  func bert() throws -> JSONObject {
    var config = try described("BertModel", "bert")
    if try file.metadata.optionalBool(key("attention.causal")) == true {
      throw LorascError(
        .unsupported, "\(key("attention.causal")) is not offered", subject: key("attention.causal"))
    }
    try setSizes(
      of: &config, "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    config["max_position_embeddings"] = try rows("position_embd.weight")
    config["type_vocab_size"] = try rows("token_types.weight")
    config["layer_norm_eps"] = try number("attention.layer_norm_epsilon")
    config["hidden_act"] = "gelu"
    config["tie_word_embeddings"] = nil
    return config
  }

  /// The sizes that every architecture has, under its configuration's names.
  private func setSizes(
    of config: inout JSONObject, _ hidden: String, _ inner: String, _ layers: String,
    _ heads: String
  ) throws {
    config[hidden] = try integer("embedding_length")
    config[inner] = try integer("feed_forward_length")
    config[layers] = try integer("block_count")
    config[heads] = try integer("attention.head_count")
  }

  private func described(_ model: String, _ type: String) throws -> JSONObject {
    var config: JSONObject = ["architectures": [.string(model)], "model_type": .string(type)]
    config["vocab_size"] = try rows("token_embd.weight")
    for (key, name) in [
      ("tokenizer.ggml.bos_token_id", "bos_token_id"),
      ("tokenizer.ggml.eos_token_id", "eos_token_id"),
      ("tokenizer.ggml.padding_token_id", "pad_token_id"),
    ] {
      if let token = try file.metadata.optionalInt(key) { config[name] = .integer(Int64(token)) }
    }
    config["tie_word_embeddings"] = .bool(!has("output.weight"))
    config["torch_dtype"] = "float32"
    return config
  }

  // MARK: Values

  func key(_ name: String) -> String { "\(architecture).\(name)" }

  private func has(_ tensor: String) -> Bool { file[tensor] != nil }

  private func rows(_ tensor: String) throws -> JSONValue {
    guard let shape = file[tensor]?.shape else {
      throw LorascError(.notFound, "there is no tensor \(tensor)", subject: tensor)
    }
    return .integer(Int64(shape.first ?? 1))
  }

  func integer(_ name: String) throws -> JSONValue {
    .integer(Int64(try file.metadata.int(try uniform(name))))
  }

  func optionalInteger(_ name: String) throws -> JSONValue? {
    try file.metadata.optionalInt(try uniform(name)).map { .integer(Int64($0)) }
  }

  /// - Throws: `.unsupported` for a key with a value a block
  private func uniform(_ name: String) throws -> String {
    guard case .array? = file.metadata[key(name)] else { return key(name) }
    throw LorascError(
      .unsupported, "\(key(name)) differs from block to block, which is not offered",
      subject: key(name))
  }

  func number(_ name: String) throws -> JSONValue {
    guard let number = try optionalNumber(name) else {
      return .number(try file.metadata.double(key(name)))
    }
    return number
  }

  /// A float32 as the shortest decimal number that reads back as it: 1e-05, not
  /// 9.999999747378752e-06.
  func optionalNumber(_ name: String) throws -> JSONValue? {
    guard let value = try file.metadata.optionalDouble(key(name)) else { return nil }
    guard value.isFinite else {
      throw LorascError(.format, "\(key(name)) is \(value)", subject: key(name))
    }
    if case .float32(let float)? = file.metadata[key(name)], let short = Double("\(float)") {
      return .number(short)
    }
    return .number(value)
  }

  /// - Throws: `.unsupported` where only a part of a head is turned, or keys and values differ
  func headSize() throws -> Int {
    let metadata = file.metadata
    let heads = try metadata.int(key("attention.head_count"))
    let hidden = try metadata.int(key("embedding_length"))
    guard heads > 0 else {
      throw LorascError(
        .format, "\(key("attention.head_count")) is \(heads)", subject: key("attention.head_count"))
    }
    let turned = try metadata.optionalInt(key("rope.dimension_count"))
    let size = try metadata.optionalInt(key("attention.key_length")) ?? turned ?? hidden / heads
    let values = try metadata.optionalInt(key("attention.value_length"))
    guard turned ?? size == size, values ?? size == size else {
      throw LorascError(
        .unsupported,
        "heads of \(size) columns with \(values ?? size) of values, \(turned ?? size) of them "
          + "turned by rotary positions, are not offered", subject: key("rope.dimension_count"))
    }
    return size
  }
}
