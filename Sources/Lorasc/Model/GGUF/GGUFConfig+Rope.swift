import Glibc

/// How rotary positions are scaled: config.json's rope_scaling.
extension GGUFConfig {
  static let frequencyFactors = "rope_freqs.weight"

  /// nil: they are not.
  func ropeScaling() throws -> JSONObject? {
    let kind = try file.metadata.optionalString(key("rope.scaling.type"))
    // A key of older files.
    let linear = try optionalNumber("rope.scale_linear") ?? 1.0
    let isScaled = kind != nil && kind != "none"
    if let tensor = file[Self.frequencyFactors] {
      guard !isScaled, linear == 1.0 else {
        throw LorascError(
          .unsupported, "\(key("rope.scaling.type")) beside \(tensor.name) is not offered",
          subject: tensor.name)
      }
      return try ropeScaling(by: tensor)
    }
    guard isScaled else { return linear == 1.0 ? nil : ["rope_type": "linear", "factor": linear] }
    switch kind {
    case "linear": return ["rope_type": "linear", "factor": try number("rope.scaling.factor")]
    case "yarn":
      var scaling: JSONObject = ["rope_type": "yarn", "factor": try number("rope.scaling.factor")]
      scaling["original_max_position_embeddings"] =
        try optionalInteger("rope.scaling.original_context_length") ?? integer("context_length")
      scaling["beta_fast"] = try optionalNumber("rope.scaling.yarn_beta_fast")
      scaling["beta_slow"] = try optionalNumber("rope.scaling.yarn_beta_slow")
      return scaling
    default:
      throw LorascError(
        .unsupported, "\(key("rope.scaling.type")) \(quoted(kind ?? "")) is not offered",
        subject: key("rope.scaling.type"))
    }
  }

  /// Frequency i is divided by factor i of the tensor. Those of Llama 3 are recognised as its own
  /// rule, others are spelled out: "longrope" with one list for rows of all lengths.
  private func ropeScaling(by tensor: GGUFTensor) throws -> JSONObject {
    let factors = try file.stored(tensor).float32().values
    let size = try headSize()
    guard factors.count == size / 2, factors.allSatisfy({ $0.isFinite && $0 > 0 }) else {
      throw LorascError(
        .format, "tensor \(tensor.name) is not \(size / 2) positive numbers", subject: tensor.name)
    }
    let base = try file.metadata.optionalDouble(key("rope.freq_base")) ?? 10_000
    if let last = factors.last, isLlama3(factors, base: base, scale: Double(last)) {
      return [
        "rope_type": "llama3", "factor": .number(Double(last)), "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
      ]
    }
    let list = JSONValue.array(factors.map { .number(Double($0)) })
    return [
      "rope_type": "longrope", "short_factor": list, "long_factor": list, "attention_factor": 1.0,
      "factor": 1.0, "original_max_position_embeddings": try integer("context_length"),
    ]
  }

  /// Llama 3's rule with its own numbers: wavelengths below 8192 / 4 stay, those above 8192 / 1
  /// are `scale` times as long, between them the frequency is interpolated.
  private func isLlama3(_ factors: [Float], base: Double, scale: Double) -> Bool {
    factors.enumerated().allSatisfy { index, factor in
      let frequency = pow(base, -Double(index) / Double(factors.count))
      let kept = min(1, max(0, (8192 * frequency / (2 * .pi) - 1) / 3))
      let expected = 1 / ((1 - kept) / scale + kept)
      // The files' float32 arithmetic.
      return abs(Double(factor) - expected) <= 1e-5 * expected
    }
  }
}
