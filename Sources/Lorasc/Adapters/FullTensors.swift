/// Tensors of the backbone that are trained in full: `modules_to_save` and `bias`, as PEFT
/// chooses them.
struct FullTensors {
  struct Tensor {
    let name: String
    let place: FullParameter.Place
    let kind: Parameter.Kind
    let shape: [Int]
  }

  private(set) var chosen: [Tensor] = []
  /// Modules that `modules_to_save` chose.
  private(set) var saved: [String] = []

  /// - Parameter adapted: matrices with an adapter
  init(_ model: Model, _ settings: AdapterSettings, adapted: Set<Int>) throws {
    let all = Self.all(model, settings.head)
    // Of the patches' projection only the bias is offered, which is no whole module.
    let savable = all.filter { $0.place != .patchBias }
    let wanted = settings.modulesToSave.filter { !Self.heads.contains($0) }
    for item in wanted where !settings.allowNoMatch {
      guard savable.contains(where: { settings.names.holds($0.name, moduleEndingIn: item) }) else {
        throw LorascError(
          .noMatch,
          "option modules_to_save: '\(item)' is no module that can be trained in full here",
          subject: item)
      }
    }
    var whole: Set<String> = []
    for tensor in savable {
      guard
        let item = wanted.first(where: { settings.names.holds(tensor.name, moduleEndingIn: $0) })
      else { continue }
      if case .weight(let matrix) = tensor.place, model.matrices[matrix].kind == .conv1D {
        throw LorascError(
          .unsupported,
          "option modules_to_save: \(tensor.name) is stored transposed (Conv1D); training it in "
            + "full is not offered", subject: item)
      }
      whole.insert(tensor.name)
      if tensor.name.hasSuffix(".weight") {
        saved.append(String(tensor.name.dropLast(".weight".count)))
      }
    }
    chosen = all.filter { tensor in
      if whole.contains(tensor.name) { return true }
      guard tensor.kind == .bias || tensor.name.hasSuffix(".bias") else { return false }
      switch settings.bias {
      case .none: return false
      case .all: return true
      case .loraOnly:
        guard case .bias(let matrix) = tensor.place else { return false }
        return adapted.contains(matrix)
      }
    }
  }

  /// Names of the head, which is trained anyway.
  private static let heads = ["classifier", "score", "pre_classifier"]

  private static func all(_ model: Model, _ head: HeadDescription) -> [Tensor] {
    var all: [Tensor] = []
    for (index, module) in model.matrices.enumerated()
    where model.isBackbone(index, head) && !model.isTied(index, head) {
      all.append(
        Tensor(
          name: module.name + ".weight", place: .weight(index), kind: .matrix,
          shape: [module.rows, module.columns]))
      if module.bias != nil {
        all.append(
          Tensor(
            name: module.name + ".bias", place: .bias(index), kind: .bias,
            shape: [module.outFeatures]))
      }
    }
    for (index, module) in model.norms.enumerated() {
      all.append(
        Tensor(
          name: module.name + ".weight", place: .gamma(index), kind: .norm,
          shape: [module.columns]))
      if module.beta != nil {
        all.append(
          Tensor(
            name: module.name + ".bias", place: .beta(index), kind: .norm,
            shape: [module.columns]))
      }
    }
    if case .pixels = model.backbone.inputs {
      all.append(
        Tensor(
          name: Backbone.PatchInputs.projectionName + ".bias", place: .patchBias, kind: .bias,
          shape: [model.hiddenSize]))
    }
    return all
  }
}
