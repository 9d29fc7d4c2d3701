import Foundation

@testable import Lorasc

/// A small random decoder in a folder of its own.
final class TinyDecoder {
  enum Kind: String, CaseIterable { case llama, mistral, qwen2, gpt2 }

  let path: String
  let model: Model

  static let vocabulary = 53
  static let positions = 96
  static let hidden = 24
  private static let inner = 40
  private static let layers = 2
  private static let heads = 4
  private static let keyValueHeads = 2

  /// - Parameter extra: more members of config.json, each with a comma before it
  init(
    _ kind: Kind, threads: Int = 2, positions: Int = TinyDecoder.positions,
    config extra: String = "", seed: UInt64 = 3
  ) throws {
    path = NSTemporaryDirectory() + "lorasc-decoder-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    let config =
      "{\"model_type\": \"\(kind.rawValue)\", \(Self.config(kind, positions))\(extra)}"
    try config.write(toFile: path + "/config.json", atomically: true, encoding: .utf8)
    let shapes =
      kind == .gpt2 ? Self.gpt2Shapes(positions) : Self.llamaShapes(biases: kind == .qwen2)
    var random = TestRandom(seed: seed)
    let writer = try SafetensorsWriter(
      path: path + "/model.safetensors",
      tensors: shapes.map { .init(name: $0.0, type: .f32, shape: $0.1) })
    for (name, shape) in shapes {
      let isGamma = shape.count == 1 && name.hasSuffix("weight")
      let values = (0..<shape.reduce(1, *)).map { _ in
        (isGamma ? 1 : 0) + (shape.count == 1 ? 0.2 : 0.8) * (random.uniform() - 0.5)
      }
      try values.withUnsafeBufferPointer { try writer.append($0) }
    }
    try writer.commit()
    var options = Options()
    try options.set("threads", String(threads))
    model = try Model(path: path, options: options)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// `count` ids below the vocabulary.
  static func tokens(_ count: Int, seed: UInt64 = 11) -> [Int32] {
    var random = TestRandom(seed: seed)
    return (0..<count).map { _ in Int32(random.below(vocabulary)) }
  }

  private static func config(_ kind: Kind, _ positions: Int) -> String {
    if kind == .gpt2 {
      return """
        "architectures": ["GPT2LMHeadModel"], "n_embd": \(hidden), "n_head": \(heads),
        "n_layer": \(layers), "n_inner": \(inner), "vocab_size": \(vocabulary),
        "n_positions": \(positions)
        """
    }
    let window =
      switch kind {
      case .mistral: "\"sliding_window\": 7,"
      case .qwen2: "\"use_sliding_window\": true, \"sliding_window\": 5, \"max_window_layers\": 1,"
      default: "\"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 2.0},"
      }
    return """
      \(window) "hidden_size": \(hidden), "num_hidden_layers": \(layers),
      "num_attention_heads": \(heads), "num_key_value_heads": \(keyValueHeads),
      "intermediate_size": \(inner), "vocab_size": \(vocabulary),
      "max_position_embeddings": \(positions), "rms_norm_eps": 1e-6, "rope_theta": 500.0
      """
  }

  private static func llamaShapes(biases: Bool) -> [(String, [Int])] {
    let shared = keyValueHeads * hidden / heads
    var shapes: [(String, [Int])] = [
      ("model.embed_tokens.weight", [vocabulary, hidden]), ("model.norm.weight", [hidden]),
      ("lm_head.weight", [vocabulary, hidden]),
    ]
    for layer in 0..<layers {
      let name = "model.layers.\(layer)."
      for (part, out) in [("q", hidden), ("k", shared), ("v", shared)] {
        shapes.append((name + "self_attn.\(part)_proj.weight", [out, hidden]))
        if biases { shapes.append((name + "self_attn.\(part)_proj.bias", [out])) }
      }
      shapes += [
        (name + "self_attn.o_proj.weight", [hidden, hidden]),
        (name + "mlp.gate_proj.weight", [inner, hidden]),
        (name + "mlp.up_proj.weight", [inner, hidden]),
        (name + "mlp.down_proj.weight", [hidden, inner]),
        (name + "input_layernorm.weight", [hidden]),
        (name + "post_attention_layernorm.weight", [hidden]),
      ]
    }
    return shapes
  }

  private static func gpt2Shapes(_ positions: Int) -> [(String, [Int])] {
    var shapes: [(String, [Int])] = [
      ("transformer.wte.weight", [vocabulary, hidden]),
      ("transformer.wpe.weight", [positions, hidden]),
      ("transformer.ln_f.weight", [hidden]), ("transformer.ln_f.bias", [hidden]),
    ]
    for layer in 0..<layers {
      let name = "transformer.h.\(layer)."
      for (part, into, out) in [
        ("attn.c_attn", hidden, 3 * hidden), ("attn.c_proj", hidden, hidden),
        ("mlp.c_fc", hidden, inner), ("mlp.c_proj", inner, hidden),
      ] {
        shapes.append((name + part + ".weight", [into, out]))
        shapes.append((name + part + ".bias", [out]))
      }
      for norm in ["ln_1", "ln_2"] {
        shapes.append((name + norm + ".weight", [hidden]))
        shapes.append((name + norm + ".bias", [hidden]))
      }
    }
    return shapes
  }
}
