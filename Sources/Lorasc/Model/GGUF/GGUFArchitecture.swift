/// An architecture as GGUF files have it: its name there, and how its tensors' names and layouts
/// differ from those of transformers.
struct GGUFArchitecture: Sendable {
  /// `general.architecture`.
  let name: String
  let form: Architecture
  /// Of the backbone's tensors in transformers' class with the head that such files have.
  let prefix: String
  /// "layers": where the blocks are.
  let blocks: String
  /// GGUF's names of modules and transformers', without the prefix.
  let modules: [(gguf: String, name: String)]
  /// The same within a block.
  let blockModules: [(gguf: String, name: String)]
  /// Modules of a block whose matrices transformers has transposed.
  var transposed: Set<String> = []
  /// Modules of a block whose rows are paired (see `TensorLayout`).
  var paired: Set<String> = []
  let config: @Sendable (GGUFConfig) throws -> JSONObject

  static let all = [llama, qwen2, gpt2, bert]

  /// - Throws: `.architecture` with the list of what is known.
  static func named(_ name: String?) throws -> GGUFArchitecture {
    guard let found = all.first(where: { $0.name == name }) else {
      let known = all.map(\.name).joined(separator: ", ")
      throw LorascError(
        .architecture,
        "general.architecture \(quoted(name ?? "")) is not known; known: \(known)",
        subject: name ?? "general.architecture")
    }
    return found
  }

  /// The matrix from hidden states to the vocabulary, which has no prefix.
  private static let output = (gguf: "output", name: "lm_head")
  private static let parameters = ["weight", "bias"]

  /// A tensor's name in parts: "blk.3.attn_q.weight" is (3, "attn_q", "weight").
  struct Parts: Equatable {
    /// nil: outside the blocks
    let block: Int?
    let module: String
    let parameter: String
  }

  /// transformers' name of a tensor, and what it is; nil for one that the architecture hasn't.
  func name(ofTensor gguf: String) -> (name: String, parts: Parts)? {
    guard let parts = Self.parts(gguf) else { return nil }
    let list = parts.block == nil ? modules : blockModules
    if parts.block == nil, parts.module == Self.output.gguf {
      return ("\(Self.output.name).\(parts.parameter)", parts)
    }
    guard let module = list.first(where: { $0.gguf == parts.module }) else { return nil }
    let place = parts.block.map { "\(blocks).\($0)." } ?? ""
    return ("\(prefix)\(place)\(module.name).\(parts.parameter)", parts)
  }

  private static func parts(_ name: String) -> Parts? {
    var words = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard words.count >= 2, let parameter = words.popLast(), parameters.contains(parameter) else {
      return nil
    }
    guard words.first == "blk" else {
      return Parts(block: nil, module: words.joined(separator: "."), parameter: parameter)
    }
    guard words.count >= 3, let block = Int(words[1]), block >= 0, String(block) == words[1] else {
      return nil
    }
    return Parts(
      block: block, module: words[2...].joined(separator: "."), parameter: parameter)
  }
}

// MARK: The list

extension GGUFArchitecture {
  private static let llamaModules = [
    (gguf: "token_embd", name: "embed_tokens"), (gguf: "output_norm", name: "norm"),
  ]
  private static let llamaBlock = [
    (gguf: "attn_norm", name: "input_layernorm"), (gguf: "attn_q", name: "self_attn.q_proj"),
    (gguf: "attn_k", name: "self_attn.k_proj"), (gguf: "attn_v", name: "self_attn.v_proj"),
    (gguf: "attn_output", name: "self_attn.o_proj"),
    (gguf: "ffn_norm", name: "post_attention_layernorm"), (gguf: "ffn_gate", name: "mlp.gate_proj"),
    (gguf: "ffn_up", name: "mlp.up_proj"), (gguf: "ffn_down", name: "mlp.down_proj"),
  ]

  /// Llama 1 to 3, SmolLM2, TinyLlama; Mistral's files say "llama" too.
  static let llama = GGUFArchitecture(
    name: "llama", form: .llamaFamily[0], prefix: "model.", blocks: "layers",
    modules: llamaModules, blockModules: llamaBlock, paired: ["attn_q", "attn_k"],
    config: { try $0.llama() })

  static let qwen2 = GGUFArchitecture(
    name: "qwen2", form: .llamaFamily[2], prefix: "model.", blocks: "layers",
    modules: llamaModules, blockModules: llamaBlock, config: { try $0.qwen2() })

  static let gpt2 = GGUFArchitecture(
    name: "gpt2", form: .gpt2, prefix: "transformer.", blocks: "h",
    modules: [
      (gguf: "token_embd", name: "wte"), (gguf: "position_embd", name: "wpe"),
      (gguf: "output_norm", name: "ln_f"),
    ],
    blockModules: [
      (gguf: "attn_norm", name: "ln_1"), (gguf: "attn_qkv", name: "attn.c_attn"),
      (gguf: "attn_output", name: "attn.c_proj"), (gguf: "ffn_norm", name: "ln_2"),
      (gguf: "ffn_up", name: "mlp.c_fc"), (gguf: "ffn_down", name: "mlp.c_proj"),
    ],
    transposed: ["attn_qkv", "attn_output", "ffn_up", "ffn_down"], config: { try $0.gpt2() })

  /// BERT, and RoBERTa's encoder, whose position table lacks its first rows there.
  static let bert = GGUFArchitecture(
    name: "bert", form: .bert, prefix: "", blocks: "encoder.layer",
    modules: [
      (gguf: "token_embd", name: "embeddings.word_embeddings"),
      (gguf: "position_embd", name: "embeddings.position_embeddings"),
      (gguf: "token_types", name: "embeddings.token_type_embeddings"),
      (gguf: "token_embd_norm", name: "embeddings.LayerNorm"),
    ],
    blockModules: [
      (gguf: "attn_q", name: "attention.self.query"), (gguf: "attn_k", name: "attention.self.key"),
      (gguf: "attn_v", name: "attention.self.value"),
      (gguf: "attn_output", name: "attention.output.dense"),
      (gguf: "attn_output_norm", name: "attention.output.LayerNorm"),
      (gguf: "ffn_up", name: "intermediate.dense"), (gguf: "ffn_down", name: "output.dense"),
      (gguf: "layer_output_norm", name: "output.LayerNorm"),
    ], config: { try $0.bert() })
}
