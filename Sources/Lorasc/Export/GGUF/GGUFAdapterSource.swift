/// A GGUF LoRA as the source of an adapter.
struct GGUFAdapterSource: AdapterSource {
  private let model: Model
  private let path: String
  /// 0: the scale is 1 whatever the rank.
  private let alpha: Double
  private let ranks: [(module: String, rank: Int)]
  /// By the names that an adapter has for them.
  private let factors: [String: StoredTensor]

  /// - Throws: as `GGUFFile`; `.unsupported` for a file that holds no LoRA; `.mismatch` for one of
  ///   another architecture, and for factors that don't fit the model or each other
  init(_ model: Model, _ path: String) throws {
    self.model = model
    self.path = path
    let file = try GGUFFile(path: path)
    (alpha, ranks, factors) = try namingFile(path) {
      let architecture = try Self.architecture(of: file.metadata, model)
      let alpha = try file.metadata.double(GGUFAdapterKeys.alpha)
      var factors: [String: StoredTensor] = [:]
      var ranks: [(module: String, rank: Int)] = []
      var strangers = Set(file.tensors.map(\.name))
      for tensor in file.tensors where tensor.name.hasSuffix(GGUFAdapterKeys.a) {
        let pair = try Self.pair(tensor, file, architecture, model)
        ranks.append((pair.module, pair.a.shape[0]))
        factors[pair.a.name] = pair.a
        factors[pair.b.name] = pair.b
        strangers.subtract([tensor.name, Self.adapted(tensor) + GGUFAdapterKeys.b])
      }
      if let stranger = strangers.min() {
        throw Self.mismatch("is not one of a pair of factors", stranger)
      }
      guard !ranks.isEmpty else { throw LorascError(.format, "holds no factors", subject: path) }
      return (alpha, ranks, factors)
    }
  }

  private static func architecture(of metadata: GGUFMetadata, _ model: Model) throws
    -> GGUFArchitecture
  {
    for (key, value) in [("general.type", "adapter"), (GGUFAdapterKeys.type, "lora")] {
      let found = try metadata.optionalString(key)
      guard found == value else {
        throw LorascError(
          .unsupported, "holds no LoRA: \(key) is \(quoted(found ?? ""))", subject: key)
      }
    }
    let architecture = try GGUFArchitecture.holding(model.architecture)
    let name = try metadata.string("general.architecture")
    guard name == architecture.name else {
      throw LorascError(
        .mismatch, "is for architecture \(quoted(name)), the model is \(architecture.name)",
        subject: "general.architecture")
    }
    return architecture
  }

  /// Both factors of a module, in the shapes (r, in) and (out, r).
  private static func pair(
    _ a: GGUFTensor, _ file: GGUFFile, _ architecture: GGUFArchitecture, _ model: Model
  ) throws -> (module: String, a: StoredTensor, b: StoredTensor) {
    let adapted = Self.adapted(a)
    guard let parts = GGUFArchitecture.Parts(adapted),
      let name = architecture.module(ofWeight: adapted),
      let module = model.matrices.first(where: { $0.name == name })
    else { throw mismatch("adapts nothing of the model", a.name) }
    guard let b = file[adapted + GGUFAdapterKeys.b] else { throw mismatch("has no lora_b", a.name) }
    let (suffixA, suffixB) =
      module.isLinear
      ? (".lora_A.weight", ".lora_B.weight") : (".lora_embedding_A", ".lora_embedding_B")
    let first = file.stored(a, as: name + suffixA, module.isLinear ? .same : .transposed)
    let layout = architecture.rows(of: parts, headSize: model.backbone.sizes.headSize)
    let second = file.stored(b, as: name + suffixB, layout)
    guard first.shape.count == 2, first.shape[0] >= 1, first.shape[1] == module.inFeatures,
      second.shape == [module.outFeatures, first.shape[0]]
    else {
      throw mismatch(
        "has shape \(a.shape) and lora_b \(b.shape), for a matrix of \(module.outFeatures) x "
          + "\(module.inFeatures)", a.name)
    }
    return (name, first, second)
  }

  /// The tensor that a factor A is for.
  private static func adapted(_ a: GGUFTensor) -> String {
    String(a.name.dropLast(GGUFAdapterKeys.a.count))
  }

  private static func mismatch(_ what: String, _ tensor: String) -> LorascError {
    LorascError(.mismatch, "tensor \(quoted(tensor)) \(what)", subject: tensor)
  }

  func settings(_ options: Options) throws -> AdapterSettings {
    var options = options
    try options.setExactRanks(ranks, alpha: alpha == 0 ? nil : alpha)
    return try AdapterSettings(options, model: model)
  }

  func values(of parameters: [Parameter], _ head: HeadDescription) throws -> [Int: FloatView] {
    var values: [Int: FloatView] = [:]
    for (index, parameter) in parameters.enumerated() {
      guard let factor = factors[parameter.name] else { continue }
      let view = try namingFile(path) { try factor.float32() }
      guard view.withBuffer({ $0.allSatisfy(\.isFinite) }) else {
        throw LorascError(
          .nonFinite, "\(path): \(parameter.name) holds NaN or infinity", subject: parameter.name)
      }
      values[index] = view
    }
    // Every factor has its parameter: the targets are exactly the file's modules.
    guard values.count == factors.count else {
      throw LorascError(
        .mismatch, "\(path): \(factors.count - values.count) factors have no module to adapt",
        subject: path)
    }
    return values
  }
}
