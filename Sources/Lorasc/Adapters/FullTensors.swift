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

  /// - Parameter adapted: matrices with an adapter
  init(_ model: Model, _ settings: AdapterSettings, adapted: Set<Int>) throws {
    let all = Self.all(model, settings.head)
    let wanted = settings.modulesToSave.filter { !Self.heads.contains($0) }
    let root = model.form.prefix
    for item in wanted where !settings.allowNoMatch {
      guard all.contains(where: { Self.lies($0, in: item, root) }) else {
        throw LorascError(
          .noMatch,
          "option modules_to_save: '\(item)' is no module that can be trained in full here",
          subject: item)
      }
    }
    for tensor in all {
      guard case .weight(let matrix) = tensor.place, model.matrices[matrix].kind == .conv1D,
        let item = wanted.first(where: { Self.lies(tensor, in: $0, root) })
      else { continue }
      throw LorascError(
        .unsupported,
        "option modules_to_save: \(tensor.name) is stored transposed (Conv1D); training it in full "
          + "is not offered", subject: item)
    }
    chosen = all.filter { tensor in
      if wanted.contains(where: { Self.lies(tensor, in: $0, root) }) { return true }
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
    return all
  }

  /// True where a module that holds the tensor has a name with this end, as PEFT compares.
  private static func lies(_ tensor: Tensor, in item: String, _ root: String) -> Bool {
    var module = (root + tensor.name)[...]
    while let dot = module.lastIndex(of: ".") {
      module = module[..<dot]
      if module.hasSuffix(item) { return true }
    }
    return false
  }
}
