/// An architecture as GGUF files have it: its name there, and how its tensors' names and layouts
/// differ from those of transformers.
struct GGUFArchitecture: Sendable {
  /// `general.architecture`.
  let name: String
  let form: Architecture
  /// transformers' name of what GGUF calls "blk".
  let blocks: String
  /// GGUF's names of modules outside the blocks, and transformers', with the prefix that its class
  /// for such files gives them.
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
      throw unknown("general.architecture", name ?? "")
    }
    return found
  }

  /// What a model of a model_type of transformers is in GGUF.
  /// - Throws: `.architecture` with the list of what is known.
  static func holding(_ modelType: String) throws -> GGUFArchitecture {
    if modelType == "mistral" { return llama }
    guard let found = all.first(where: { $0.form.modelType == modelType }) else {
      throw unknown("model_type", modelType)
    }
    return found
  }

  private static func unknown(_ key: String, _ name: String) -> LorascError {
    let known = all.map(\.name).joined(separator: ", ")
    return LorascError(
      .architecture, "GGUF: \(key) \(quoted(name)) is not known; known: \(known)",
      subject: name.isEmpty ? key : name)
  }
}

// MARK: Names

extension GGUFArchitecture {
  /// A tensor's name in parts: "blk.3.attn_q.weight" is (3, "attn_q", "weight").
  struct Parts {
    /// nil: outside the blocks
    let block: Int?
    let module: String
    let parameter: String

    /// nil where the name isn't of that form.
    init?(_ name: String) {
      var words = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
      guard words.count >= 2, let last = words.popLast(), ["weight", "bias"].contains(last) else {
        return nil
      }
      parameter = last
      guard words.first == "blk" else {
        block = nil
        module = words.joined(separator: ".")
        return
      }
      guard words.count >= 3, let number = Int(words[1]), number >= 0, String(number) == words[1]
      else { return nil }
      block = number
      module = words[2...].joined(separator: ".")
    }
  }

  /// transformers' name of a tensor; nil for one that the architecture hasn't.
  func name(of parts: Parts) -> String? {
    let list = parts.block == nil ? modules : blockModules
    guard let module = list.first(where: { $0.gguf == parts.module }) else { return nil }
    let place = parts.block.map { "\(blocks).\($0)." } ?? ""
    return "\(place)\(module.name).\(parts.parameter)"
  }

  /// The module, as adapters name it, whose weight this tensor is.
  func module(ofWeight tensor: String) -> String? {
    guard let parts = Parts(tensor), parts.parameter == "weight", let name = name(of: parts) else {
      return nil
    }
    return bare(String(name.dropLast(".weight".count)))
  }

  /// The other way: "layers.3.self_attn.q_proj" is "blk.3.attn_q.weight".
  func weight(ofModule name: String) -> String? {
    if let module = modules.first(where: { bare($0.name) == name }) {
      return module.gguf + ".weight"
    }
    let words = name.dropFirst(bare(blocks).count + 1).split(separator: ".", maxSplits: 1)
    guard name.hasPrefix(bare(blocks) + "."), words.count == 2,
      let module = blockModules.first(where: { $0.name == words[1] })
    else { return nil }
    return "blk.\(words[0]).\(module.gguf).weight"
  }

  private func bare(_ name: String) -> String {
    name.hasPrefix(form.prefix) ? String(name.dropFirst(form.prefix.count)) : name
  }

  /// How rows of what belongs to a module lie: of its weight, bias, or an adapter's B.
  func rows(of parts: Parts, headSize: Int) -> TensorLayout {
    parts.block != nil && paired.contains(parts.module) ? .pairedRows(size: headSize) : .same
  }
}

// MARK: The list

extension GGUFArchitecture {
  private static let llamaModules = [
    (gguf: "token_embd", name: "model.embed_tokens"), (gguf: "output_norm", name: "model.norm"),
    (gguf: "output", name: "lm_head"),
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
    name: "llama", form: .llamaFamily[0], blocks: "model.layers",
    modules: llamaModules, blockModules: llamaBlock, paired: ["attn_q", "attn_k"],
    config: { try $0.llama() })

  static let qwen2 = GGUFArchitecture(
    name: "qwen2", form: .llamaFamily[2], blocks: "model.layers",
    modules: llamaModules, blockModules: llamaBlock, config: { try $0.qwen2() })

  static let gpt2 = GGUFArchitecture(
    name: "gpt2", form: .gpt2, blocks: "transformer.h",
    modules: [
      (gguf: "token_embd", name: "transformer.wte"),
      (gguf: "position_embd", name: "transformer.wpe"),
      (gguf: "output_norm", name: "transformer.ln_f"), (gguf: "output", name: "lm_head"),
    ],
    blockModules: [
      (gguf: "attn_norm", name: "ln_1"), (gguf: "attn_qkv", name: "attn.c_attn"),
      (gguf: "attn_output", name: "attn.c_proj"), (gguf: "ffn_norm", name: "ln_2"),
      (gguf: "ffn_up", name: "mlp.c_fc"), (gguf: "ffn_down", name: "mlp.c_proj"),
    ],
    transposed: ["attn_qkv", "attn_output", "ffn_up", "ffn_down"], config: { try $0.gpt2() })

  /// BERT, and RoBERTa's encoder, whose position table lacks its first rows there.
  static let bert = GGUFArchitecture(
    name: "bert", form: .bert, blocks: "encoder.layer",
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
