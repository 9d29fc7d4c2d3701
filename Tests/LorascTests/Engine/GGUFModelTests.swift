import Testing

@testable import Lorasc

/// GGUF files as models, whole and damaged.
@Suite struct GGUFModelTests {
  /// A small Llama with quantised matrices.
  private static func llama(layers: UInt32 = 1) -> GGUFBytes {
    var random = FixedRandom(state: 5)
    var file = GGUFBytes()
    file.key("general.architecture", "llama")
    for (key, value): (String, UInt32) in [
      ("block_count", layers), ("context_length", 16), ("embedding_length", 32),
      ("feed_forward_length", 64), ("attention.head_count", 4), ("attention.head_count_kv", 2),
      ("rope.dimension_count", 8), ("vocab_size", 11),
    ] { file.key("llama." + key, value) }
    file.key("llama.attention.layer_norm_rms_epsilon", 6, GGUFBytes.number(Float(1e-5).bitPattern))
    file.key("llama.rope.freq_base", 6, GGUFBytes.number(Float(10_000).bitPattern))
    file.key("tokenizer.ggml.model", "gpt2")
    file.array("tokenizer.ggml.tokens", 8, count: 2, GGUFBytes.text("a") + GGUFBytes.text("b"))
    func add(_ name: String, _ type: GGMLType, _ rows: Int, _ columns: Int) {
      let size = rows * columns / type.block.elements * type.block.bytes
      // Finite in any type: no exponent has all its bits.
      let bytes = (0..<size).map { _ in UInt8.random(in: 0...0x3B, using: &random) }
      let dimensions = rows > 1 ? [UInt64(columns), UInt64(rows)] : [UInt64(columns)]
      file.tensor(name, type.rawValue, dimensions, bytes: bytes)
    }
    add("token_embd.weight", .q8_0, 11, 32)
    for layer in 0..<layers {
      let block = "blk.\(layer)."
      add(block + "attn_norm.weight", .f32, 1, 32)
      add(block + "attn_q.weight", .q4_0, 32, 32)
      add(block + "attn_k.weight", .q4_1, 16, 32)
      add(block + "attn_v.weight", .f16, 16, 32)
      add(block + "attn_output.weight", .q5_0, 32, 32)
      add(block + "ffn_norm.weight", .f32, 1, 32)
      add(block + "ffn_gate.weight", .q5_1, 64, 32)
      add(block + "ffn_up.weight", .bf16, 64, 32)
      add(block + "ffn_down.weight", .f32, 32, 64)
    }
    add("output_norm.weight", .f32, 1, 32)
    return file
  }

  private struct Opened {
    let store: TensorStore
    let backbone: Backbone
  }

  /// What `Model` does with a file, without the disk.
  private func open(_ bytes: [UInt8], as type: TensorType? = nil) throws -> Opened {
    let file = try GGUFModel(try GGUFFile(bytes, path: "x.gguf"))
    let form = file.architecture.form
    let tensors = NamedTensors(
      file.store, prefix: form.prefix, type: type, kernels: try KernelLevel.best.table())
    let backbone = try form.backbone(ConfigReader(json: file.config), tensors)
    return Opened(store: file.store, backbone: backbone)
  }

  @Test func opens() throws {
    let opened = try open(Self.llama(layers: 2).bytes)
    #expect(opened.store.names.count == 20 && opened.backbone.blocks.count == 2)
    #expect(opened.store.names.first == "model.embed_tokens.weight")
    #expect(opened.store.contains("model.layers.1.self_attn.q_proj.weight"))
    #expect(opened.backbone.output?.isTied == true && opened.backbone.sizes.headSize == 8)
    // Matrices stay as they are stored: 8 bytes a value and less.
    let query = try #require(opened.backbone.matrices.first { $0.name.hasSuffix("q_proj") })
    #expect(query.weight.bytes == 32 * 18 && query.weight.float32 == nil)
    let held = try open(Self.llama().bytes, as: .bf16)
    #expect(held.backbone.matrices.allSatisfy { $0.weight.bytes == 2 * $0.count })
  }

  /// Names that look like blocks and aren't.
  @Test func namesWithoutAPlace() throws {
    for name in [
      "blk.01.attn_q.weight", "blk.-1.attn_q.weight", "blk.+0.attn_q.weight", "blk..attn_q.weight",
      "blk.99999999999999999999.attn_q.weight", "blk.0.weight", "blk.weight", "attn_q.weight",
      "blk.0.attn_q", "blk.0.attn_q.scale", "weight", ".weight", "blk.0.attn_q.lora_a",
      "output", "outputs.weight", "blk.0.token_embd.weight",
    ] {
      var file = Self.llama()
      file.tensor(name, 0, [8], bytes: [UInt8](repeating: 0, count: 32))
      expectFailure(.unsupported, "\"\(name)\"", "has no place") { _ = try open(file.bytes) }
    }
    var file = Self.llama()
    file.tensor("blk.1.attn_norm.weight", 0, [32], bytes: [UInt8](repeating: 0, count: 128))
    expectFailure(.format, "blk.1.attn_norm.weight", "is not of 1 blocks") {
      _ = try open(file.bytes)
    }
    file = Self.llama()
    file.tensor("blk.0.attn_q.bias", 0, [12], bytes: [UInt8](repeating: 0, count: 48))
    expectFailure(.format, "blk.0.attn_q.bias", "no heads of 8 rows") { _ = try open(file.bytes) }
  }

  /// Frequencies by a tensor of factors: Llama 3's own rule, or a list.
  @Test func factorsOfRotaryFrequencies() throws {
    func scaling(_ factors: [Float], count: UInt64 = 4) throws -> JSONObject? {
      var file = Self.llama()
      file.tensor(
        "rope_freqs.weight", 0, [count], bytes: factors.flatMap { GGUFBytes.number($0.bitPattern) })
      return try GGUFModel(try GGUFFile(file.bytes)).config.optionalObject("rope_scaling")
    }
    // θ = 10000 and heads of 8: wavelengths 6.3, 63, 628, 6283; the last lies between 2048 and 8192.
    let share = (8192 / (2000 * Double.pi) - 1) / 3
    let last = Float(1 / ((1 - share) / 8 + share))
    // No wavelength beyond 8192 tells the rule's factor.
    let list = try #require(try scaling([1, 1, 1, last]))
    #expect(try list.string("rope_type") == "longrope" && list.array("long_factor").count == 4)
    #expect(list["short_factor"] == list["long_factor"] && list["attention_factor"] == 1.0)
    for factors: [Float] in [[1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 0], [1, 1, .nan, 1]] {
      expectFailure(.format, "rope_freqs.weight") {
        _ = try scaling(factors, count: UInt64(factors.count))
      }
    }
  }

  @Test func truncatedAtEachByte() throws {
    let bytes = Self.llama().bytes
    // The last tensor, 32 floats, ends with the file.
    for length in 0..<bytes.count {
      expectFailure(.format, "x.gguf") { _ = try open(Array(bytes.prefix(length))) }
    }
  }

  @Test func fuzz() throws {
    var random = FixedRandom(state: 17)
    let sample = Self.llama()
    let (header, data) = (sample.header, sample.data)
    var statuses: [Status: Int] = [:]
    for round in 0..<110_000 {
      var bytes: [UInt8]
      switch round % 8 {
      case 0: bytes = mutate(sample.bytes, &random)
      case 1:
        bytes = sample.bytes
        let place = Int.random(in: header.count..<bytes.count, using: &random)
        bytes[place] = UInt8.random(in: 0...255, using: &random)
      case 2:
        // One number of the header: a size, count, length, type or offset.
        bytes = sample.bytes
        let place = Int.random(in: 8..<header.count - 8, using: &random)
        let value = UInt64.random(in: 0...UInt64.max, using: &random)
        let shift = UInt64.random(in: 0..<64, using: &random)
        bytes.replaceSubrange(place..<place + 8, with: GGUFBytes.number(value >> shift))
      default:
        bytes = mutate(header, &random)
        while bytes.count % 32 != 0 { bytes.append(0) }
        bytes += data
      }
      do {
        let opened = try open(bytes)
        statuses[.ok, default: 0] += 1
        guard round % 16 == 3 else { continue }
        for name in opened.store.names { _ = try? opened.store.float32(name) }
      } catch let error as LorascError {
        statuses[error.status, default: 0] += 1
      }
    }
    let expected: Set<Status> = [
      .ok, .format, .unsupported, .architecture, .notFound, .nonFinite, .limit,
    ]
    #expect(Set(statuses.keys).isSubset(of: expected), "\(statuses)")
    #expect((statuses[.ok] ?? 0) > 1000 && (statuses[.format] ?? 0) > 10_000, "\(statuses)")
  }
}
