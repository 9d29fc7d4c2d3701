extension Adapter {
  /// Writes the merged view as a GGUF LoRA, which llama.cpp applies to the base's GGUF file:
  /// `<tensor>.lora_a` (r, in) and `.lora_b` (out, r) in float32, and one alpha, whose share by
  /// the rank is the scale. Scales that no alpha gives are folded into lora_b.
  ///
  /// - Throws: `.unsupported` for DoRA, tensors trained in full, and where only merged weights
  ///   hold the result: merge then; `.architecture` for a model that llama.cpp's files don't
  ///   know; `.io`, `.nonFinite`, `.outOfMemory`
  public func exportGGUF(to path: String) throws {
    try use {
      try BLASThreads.withSingleThread {
        try model.refuseOwn(path)
        try GGUFAdapterFile(self, try ExportedExperts(self, rank: nil)).write(to: path)
      }
    }
  }
}

/// What an adapter's file says of itself.
enum GGUFAdapterKeys {
  static let type = "adapter.type"
  static let alpha = "adapter.lora.alpha"
  static let a = ".lora_a"
  static let b = ".lora_b"
}

private struct GGUFAdapterFile {
  private let model: Model
  private let architecture: GGUFArchitecture
  private let experts: [ExportedExperts.Expert]
  /// 0: the scale is 1 whatever the rank.
  private let alpha: Float

  init(_ adapter: Adapter, _ exported: ExportedExperts) throws {
    model = adapter.model
    architecture = try GGUFArchitecture.holding(model.architecture)
    experts = exported.experts
    if let trained = adapter.fullParameters.first {
      let name = adapter.parameters.list[trained.parameter].name
      throw LorascError(
        .unsupported, "a GGUF LoRA has no place for \(name), which is trained in full: merge",
        subject: name)
    }
    if experts.contains(where: { $0.magnitude != nil }) {
      throw LorascError(
        .unsupported, "a GGUF LoRA has no place for DoRA's magnitudes: merge", subject: "use_dora")
    }
    let first = experts.first.map { $0.scale * Float($0.rank) } ?? 0
    alpha = experts.allSatisfy { first / Float($0.rank) == $0.scale } ? first : 0
  }

  func write(to path: String) throws {
    var metadata = GGUFMetadata()
    metadata.set("general.architecture", .string(architecture.name))
    metadata.set("general.type", .string("adapter"))
    metadata.set(GGUFAdapterKeys.type, .string("lora"))
    metadata.set(GGUFAdapterKeys.alpha, .float32(alpha))
    let factors = try experts.flatMap { try self.factors(of: $0) }
    let writer = try GGUFWriter(
      path: path, metadata: metadata,
      tensors: factors.map { .init(name: $0.name, type: .f32, shape: $0.shape) })
    for factor in factors {
      try factor.values.requireFinite(factor.name)
      try withExtendedLifetime(factor.values) { try writer.append(factor.values.raw) }
    }
    try writer.commit()
  }

  private func factors(of expert: ExportedExperts.Expert) throws -> [(
    name: String, shape: [Int], values: FloatBuffer
  )] {
    let module = model.matrices[expert.matrix]
    guard let name = architecture.weight(ofModule: module.name),
      let parts = GGUFArchitecture.Parts(name), module.isLinear || parts.module == "token_embd"
    else {
      throw LorascError(
        .unsupported, "llama.cpp applies no LoRA to \(module.name): merge", subject: module.name)
    }
    let (r, isTable) = (expert.rank, !module.isLinear)
    let a = try copy(expert.a, 1)
    // A table is looked up by rows: (entries, r).
    if isTable { try TensorLayout.transposed.store(a, shape: [r, module.inFeatures]) }
    let b = try copy(expert.b, alpha == 0 ? expert.scale : 1)
    try architecture.rows(of: parts, headSize: model.backbone.sizes.headSize)
      .store(b, shape: [module.outFeatures, r])
    return [
      (
        name + GGUFAdapterKeys.a, isTable ? [module.inFeatures, r] : [r, module.inFeatures], a
      ), (name + GGUFAdapterKeys.b, [module.outFeatures, r], b),
    ]
  }

  private func copy(_ factor: FloatBuffer, _ weight: Float) throws -> FloatBuffer {
    let copy = try FloatBuffer(count: factor.count, what: "exported factor")
    for index in 0..<factor.count { copy.pointer[index] = weight * factor.pointer[index] }
    withExtendedLifetime((copy, factor)) {}
    return copy
  }
}
