/// Merged weights as a GGUF file: what the base's file says and holds, in its order, with the
/// tensors that the adapter changes.
struct MergedGGUF {
  private let adapter: Adapter
  private let base: GGUFModel
  private let path: String
  private let type: MergeType
  private let weights: MergedWeights

  /// - Throws: `.unsupported` for a base that is no GGUF file, and for a head, which such a file
  ///   has no place for; `.argument` for the base's own file
  init(_ adapter: Adapter, _ path: String, _ type: MergeType) throws {
    guard let base = adapter.model.gguf else {
      throw LorascError(
        .unsupported,
        "\(path): a merge to GGUF needs a base that is a GGUF file; merge to a folder, which "
          + "llama.cpp's convert_hf_to_gguf.py takes", subject: path)
    }
    guard adapter.headParameters.isEmpty else {
      throw LorascError(
        .unsupported,
        "\(path): GGUF has no place for the head \(adapter.head.kind.rawValue); merge to a folder",
        subject: "head")
    }
    try adapter.model.refuseOwn(path)
    self.adapter = adapter
    self.base = base
    self.path = path
    self.type = type
    weights = try MergedWeights(adapter)
  }

  /// One tensor on its way.
  private struct Tensor {
    let stored: GGUFTensor
    /// nil: no tensor of the model, but one that goes along.
    let tensor: StoredTensor?
    let type: GGMLType
  }

  func write() throws -> MergeReport {
    let tensors = try base.file.tensors.map { stored in
      let tensor = try base.tensor(ofFile: stored.name)
      return Tensor(stored: stored, tensor: tensor, type: written(stored, tensor))
    }
    let writer = try GGUFWriter(
      path: path, metadata: metadata(isQuantized: tensors.contains { $0.type.block.elements > 1 }),
      tensors: tensors.map { .init(name: $0.stored.name, type: $0.type, shape: $0.stored.shape) })
    for one in tensors {
      let tensor = one.tensor ?? base.file.stored(one.stored)
      try weights.write(tensor, as: StoredType(one.type), asStored: true) { try writer.append($0) }
    }
    try writer.commit()
    return weights.finished(tensors: tensors.count)
  }

  /// Vectors and the tables of positions and token types stay as they are, as llama.cpp's
  /// converters leave them.
  private static let kept: Set<String> = ["position_embd.weight", "token_types.weight"]

  private func written(_ stored: GGUFTensor, _ tensor: StoredTensor?) -> GGMLType {
    guard let tensor, let columns = stored.shape.last, stored.shape.count > 1 else {
      return stored.type
    }
    switch Self.kept.contains(stored.name) ? .auto : type {
    case .auto:
      // Of the quantised types only this one is written.
      let isQuantized = stored.type.block.elements > 1
      return isQuantized && weights.mayChange(tensor) ? .q8_0 : stored.type
    case .f32: return .f32
    case .f16: return .f16
    case .bf16: return .bf16
    case .q8_0: return columns % GGMLType.q8_0.block.elements == 0 ? .q8_0 : .f16
    }
  }

  private func metadata(isQuantized: Bool) -> GGUFMetadata {
    var metadata = base.file.metadata
    // llama.cpp's names for what most of a file's matrices are.
    let kinds: [MergeType: UInt32] = [.f32: 0, .f16: 1, .q8_0: 7, .bf16: 32]
    if let kind = kinds[type] { metadata.set("general.file_type", .uint32(kind)) }
    if isQuantized { metadata.set("general.quantization_version", .uint32(2)) }
    return metadata
  }
}
