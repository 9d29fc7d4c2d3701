/// Which of a model's matrices get an adapter, by PEFT's rules; what matches nothing is an error
/// unless `allow_no_match`.
struct ModuleMatch {
  /// Indices into the model's matrices.
  let targets: [Int]

  init(_ model: Model, _ settings: AdapterSettings) throws {
    let rules = try TargetRules(targets: settings.targets, exclude: settings.exclude)
    let candidates = model.matrices.indices.filter { model.isBackbone($0, settings.head) }
    let names = candidates.map { model.matrices[$0].name }
    let isList = if case .names = rules.targets { true } else { false }
    targets = candidates.filter { index in
      let module = model.matrices[index]
      if case .allLinear = rules.targets, !module.isLinear { return false }
      // What is trained in full gets no adapter beside.
      if settings.modulesToSave.contains(where: { ModuleName.lies(module.name, in: $0) }) {
        return false
      }
      if isList, let layers = settings.layers, !layers.contains(module.name) { return false }
      return rules.matches(module.name, isOutputLayer: module.isOutputLayer)
    }
    if settings.allowNoMatch { return }
    func refuse(_ option: String, _ offender: String) -> LorascError {
      LorascError(
        .noMatch,
        "option \(option): '\(offender)' matches no linear module or embedding of \(model.path)",
        subject: offender)
    }
    if let stranger = rules.unmatchedExclusions(in: names).first {
      throw refuse("exclude_modules", stranger)
    }
    if let stranger = rules.unmatchedItems(in: names).first {
      throw refuse("target_modules", stranger)
    }
    guard !targets.isEmpty else { throw refuse("target_modules", settings.targets) }
    let adapted = targets.map { model.matrices[$0].name }
    if let stranger = settings.ranks.unmatchedKeys(in: adapted).first {
      throw LorascError(
        .noMatch,
        "options rank_pattern, alpha_pattern: '\(stranger)' matches no module with an adapter",
        subject: stranger)
    }
  }
}

/// How rules see a module's name.
enum ModuleName {
  /// As the bare encoder has it, and as a model with a head has it: a rule may be for either.
  static func spellings(_ name: String) -> [String] { [name, "bert." + name] }

  /// True where these parts, whole between dots, stand anywhere in the name.
  static func lies(_ name: String, in part: String) -> Bool {
    (".bert." + name + ".").contains("." + part + ".")
  }
}

extension Model {
  /// The pooler takes part only under the head that uses it.
  func isBackbone(_ matrix: Int, _ head: HeadDescription) -> Bool {
    matrix != bert.pooler || head.kind == .classifier
  }
}
