import Foundation

@testable import Lorasc

/// A small random BERT in a folder of its own, and rows for it.
final class TinyModel {
  let path: String
  let model: Model

  static let vocabulary = 60
  static let positions = 24
  static let hidden = 16

  init(seed: UInt64 = 1, options: [String: String] = [:]) throws {
    path = NSTemporaryDirectory() + "lorasc-tiny-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    let (hidden, inner) = (TinyModel.hidden, 32)
    let config = """
      {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": \(hidden),
       "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": \(inner),
       "vocab_size": \(TinyModel.vocabulary), "max_position_embeddings": \(TinyModel.positions),
       "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
       "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
      """
    try config.write(toFile: path + "/config.json", atomically: true, encoding: .utf8)
    var shapes: [(String, [Int])] = [
      ("embeddings.word_embeddings.weight", [TinyModel.vocabulary, hidden]),
      ("embeddings.position_embeddings.weight", [TinyModel.positions, hidden]),
      ("embeddings.token_type_embeddings.weight", [2, hidden]),
      ("embeddings.LayerNorm.weight", [hidden]), ("embeddings.LayerNorm.bias", [hidden]),
    ]
    for layer in 0..<2 {
      let name = "encoder.layer.\(layer)."
      for part in ["self.query", "self.key", "self.value", "output.dense"] {
        shapes.append((name + "attention.\(part).weight", [hidden, hidden]))
        shapes.append((name + "attention.\(part).bias", [hidden]))
      }
      for norm in ["attention.output.LayerNorm", "output.LayerNorm"] {
        shapes.append((name + norm + ".weight", [hidden]))
        shapes.append((name + norm + ".bias", [hidden]))
      }
      shapes.append((name + "intermediate.dense.weight", [inner, hidden]))
      shapes.append((name + "intermediate.dense.bias", [inner]))
      shapes.append((name + "output.dense.weight", [hidden, inner]))
      shapes.append((name + "output.dense.bias", [hidden]))
    }
    shapes.append(("pooler.dense.weight", [hidden, hidden]))
    shapes.append(("pooler.dense.bias", [hidden]))
    var random = TestRandom(seed: seed)
    let writer = try SafetensorsWriter(
      path: path + "/model.safetensors",
      tensors: shapes.map { .init(name: $0.0, type: .f32, shape: $0.1) })
    for (name, shape) in shapes {
      let isGamma = name.hasSuffix("LayerNorm.weight")
      let values = (0..<shape.reduce(1, *)).map { _ in
        (isGamma ? 1 : 0) + 0.3 * (random.uniform() - 0.5)
      }
      try values.withUnsafeBufferPointer { try writer.append($0) }
    }
    try writer.commit()
    var settings = Options()
    for (key, value) in options { try settings.set(key, value) }
    model = try Model(path: path, options: settings)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// Rows of 1 … 12 tokens with labels in 0..<classes.
  static func rows(_ count: Int, classes: Int = 3, seed: UInt64 = 7) throws -> Dataset {
    var random = TestRandom(seed: seed)
    let rows = (0..<count).map { _ in
      (0..<(1 + random.below(12))).map { _ in Int32(random.below(vocabulary)) }
    }
    return try Dataset(rows: rows, labels: rows.map { _ in Int32(random.below(classes)) })
  }

  static func options(_ values: [String: String]) throws -> Options {
    var options = Options()
    let defaults = [
      "num_labels": "3", "r": "3", "max_batch_tokens": "256", "batch_size": "8", "epochs": "3",
      "target_modules": "all-linear", "head": "classifier", "learning_rate": "0.01",
      "max_grad_norm": "0", "threads": "2", "seed": "5", "adapter_seed": "9",
    ]
    for (key, value) in defaults.merging(values, uniquingKeysWith: { $1 }) {
      try options.set(key, value)
    }
    return options
  }
}

/// splitmix64, for tests only.
struct TestRandom {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
  mutating func uniform() -> Float { Float(next() >> 40) * 0x1p-24 }
  mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
}

/// One adapter and its trainer on a model.
struct Job {
  let adapter: Adapter
  let trainer: Trainer

  init(_ model: Model, _ values: [String: String]) throws {
    let options = try TinyModel.options(values)
    adapter = try Adapter(model: model, options: options)
    trainer = try Trainer(model: model, adapter: adapter, options: options)
  }

  /// All trainable values, as bits.
  func bits() throws -> [UInt32] {
    try adapter.parameterNames.flatMap { try adapter.values(of: $0).map(\.bitPattern) }
  }

  /// The merged view of every adapted matrix and the head, as bits.
  func mergedBits() throws -> [UInt32] {
    try mergedNames.flatMap { try trainer.merged($0).map(\.bitPattern) }
  }

  func merged() throws -> [Float] { try mergedNames.flatMap { try trainer.merged($0) } }

  private var mergedNames: [String] {
    adapter.matchedModules.map { $0 + ".weight" } + ["classifier.weight", "classifier.bias"]
  }
}

extension WeightSource {
  func values(_ count: Int) -> [Float] {
    [Float](unsafeUninitializedCapacity: count) { buffer, written in
      if let start = buffer.baseAddress { copy(count, to: start) }
      written = count
    }
  }
}

extension StoredMatrix {
  var values: [Float] { WeightSource(self).values(count) }
}

extension Dataset {
  /// The rows of one in memory.
  var batch: Batch {
    guard case .memory(let batch) = source else { preconditionFailure("rows of a reader") }
    return batch
  }
}
