/// What an adapter trains, before any memory is taken for it.
struct AdapterLayout {
  let targets: [AdapterTarget]
  let fullParameters: [FullParameter]
  let parameters: ParameterSet.Builder

  /// - Throws: `.noMatch`, `.option`, `.unsupported`, `.outOfMemory`
  init(_ model: Model, _ settings: AdapterSettings) throws {
    var builder = ParameterSet.Builder()
    targets = try ModuleMatch(model, settings).targets.map {
      try Self.target($0, model, settings, &builder)
    }
    fullParameters = try Self.fullParameters(model, settings, targets, &builder)
    parameters = builder
  }

  private static func target(
    _ matrix: Int, _ model: Model, _ settings: AdapterSettings,
    _ builder: inout ParameterSet.Builder
  ) throws -> AdapterTarget {
    let module = model.matrices[matrix]
    let rank = settings.ranks.rank(module.name, cascade: 1)
    let largest = settings.ranks.largestRank(module.name)
    let (a, b) =
      module.isLinear
      ? (".lora_A.weight", ".lora_B.weight") : (".lora_embedding_A", ".lora_embedding_B")
    guard module.isLinear || !settings.usesDoRA else {
      throw LorascError(
        .unsupported, "option use_dora: not on embeddings, as \(module.name)", subject: module.name)
    }
    return AdapterTarget(
      matrix: matrix, rank: rank, scale: settings.ranks.scale(module.name, rank: rank),
      a: try builder.add(
        module.name + a, module.isLinear ? .factorA : .embeddingA,
        shape: [rank, module.inFeatures], largest: [largest, module.inFeatures]),
      b: try builder.add(
        module.name + b, module.isLinear ? .factorB : .embeddingB,
        shape: [module.outFeatures, rank], largest: [module.outFeatures, largest]),
      magnitude: settings.usesDoRA
        ? try builder.add(
          module.name + ".lora_magnitude_vector", .magnitude, shape: [module.outFeatures]) : nil)
  }

  private static func fullParameters(
    _ model: Model, _ settings: AdapterSettings, _ targets: [AdapterTarget],
    _ builder: inout ParameterSet.Builder
  ) throws -> [FullParameter] {
    var list: [FullParameter] = []
    for tensor in try FullTensors(model, settings, adapted: Set(targets.map(\.matrix))).chosen {
      list.append(
        FullParameter(
          place: tensor.place,
          parameter: try builder.add(tensor.name, tensor.kind, shape: tensor.shape)))
    }
    let head = model.classifier(settings.head.kind)?
      .tensors(labels: settings.head.labels, hidden: model.hiddenSize)
    for (tensor, name, shape) in head ?? [] {
      list.append(
        FullParameter(
          place: .head(tensor),
          parameter: try builder.add(name, shape.count == 1 ? .bias : .matrix, shape: shape)))
    }
    return list
  }
}
