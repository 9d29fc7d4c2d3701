/// A GGUF file as a model: its configuration and its tensors as transformers has them.
struct GGUFModel {
  let file: GGUFFile
  let architecture: GGUFArchitecture
  let config: JSONObject
  let store: TensorStore

  /// - Throws: `.architecture`, `.unsupported` for what isn't offered,
  ///   `.format` for metadata and tensors that don't fit each other.
  init(_ file: GGUFFile) throws {
    self.file = file
    (architecture, config, store) = try namingFile(file.path) {
      try Self.refuseOthers(file.metadata)
      let architecture = try GGUFArchitecture.named(
        try file.metadata.optionalString("general.architecture"))
      let reader = GGUFConfig(file: file, architecture: architecture.name)
      try reader.refuseOthers()
      let config = try architecture.config(reader)
      let tensors = try Self.tensors(file, architecture, reader)
      return (architecture, config, TensorStore(path: file.path, tensors))
    }
  }

  private static func refuseOthers(_ metadata: GGUFMetadata) throws {
    let type = try metadata.optionalString("general.type") ?? "model"
    guard type == "model" else {
      let advice = type == "adapter" ? "; load it on its base model" : ""
      throw LorascError(
        .unsupported, "holds no model: general.type is \(quoted(type))\(advice)",
        subject: "general.type")
    }
    if let parts = try metadata.optionalInt("split.count"), parts > 1 {
      throw LorascError(
        .unsupported, "is one of \(parts) parts; join them with llama-gguf-split --merge",
        subject: "split.count")
    }
  }

  private static func tensors(
    _ file: GGUFFile, _ architecture: GGUFArchitecture, _ reader: GGUFConfig
  ) throws -> [StoredTensor] {
    let blocks = try file.metadata.int(reader.key("block_count"))
    let headSize = architecture.paired.isEmpty ? 0 : try reader.headSize()
    return try file.tensors.compactMap { tensor in
      if tensor.name == GGUFConfig.frequencyFactors { return nil }
      func bad(_ status: Status, _ what: String) -> LorascError {
        LorascError(status, "tensor \(quoted(tensor.name)) \(what)", subject: tensor.name)
      }
      guard let parts = GGUFArchitecture.Parts(tensor.name), let name = architecture.name(of: parts)
      else { throw bad(.unsupported, "has no place in architecture \(architecture.name)") }
      if let block = parts.block, block >= blocks {
        throw bad(.format, "is not of \(blocks) blocks")
      }
      if parts.block != nil, parts.parameter == "weight",
        architecture.transposed.contains(parts.module)
      {
        return file.stored(tensor, as: name, .transposed)
      }
      let layout = architecture.rows(of: parts, headSize: headSize)
      guard layout.fits(rows: tensor.shape.first) else {
        throw bad(.format, "of shape \(tensor.shape) has no heads of \(headSize) rows")
      }
      return file.stored(tensor, as: name, layout)
    }
  }

  /// What the file's tensor `name` is of the model; nil for one that only goes along.
  func tensor(ofFile name: String) throws -> StoredTensor? {
    try GGUFArchitecture.Parts(name).flatMap(architecture.name).map { try store.tensor($0) }
  }
}

extension GGUFFile {
  /// One of this file's own tensors with its bytes, under another name and layout.
  func stored(
    _ tensor: GGUFTensor, as name: String? = nil, _ layout: TensorLayout = .same
  ) -> StoredTensor {
    let isTransposed = layout == .transposed
    return StoredTensor(
      name: name ?? tensor.name, type: StoredType(tensor.type),
      shape: isTransposed ? tensor.shape.reversed() : tensor.shape,
      elementCount: tensor.elementCount, bytes: bytes(of: tensor), owner: owner, layout: layout)
  }
}
