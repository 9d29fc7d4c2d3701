/// Which of a model's matrices get an adapter, by PEFT's rules; what matches nothing is an error
/// unless `allow_no_match`.
struct ModuleMatch {
  /// Indices into the model's matrices.
  let targets: [Int]

  init(_ model: Model, _ settings: AdapterSettings) throws {
    let rules = try TargetRules(
      targets: settings.targets, exclude: settings.exclude, settings.names)
    let candidates = model.matrices.indices.filter { model.isBackbone($0, settings.head) }
    let names = candidates.map { model.matrices[$0].name }
    let isList = if case .names = rules.targets { true } else { false }
    let inPEFT = ModuleName(inPEFT: model, settings.head.kind)
    targets = candidates.filter { index in
      let module = model.matrices[index]
      if case .allLinear = rules.targets, !module.isLinear { return false }
      // What is trained in full gets no adapter beside.
      if settings.modulesToSave.contains(where: { settings.names.lies(module.name, in: $0) }) {
        return false
      }
      // PEFT takes what a list names whole, whatever its layer.
      if isList, let layers = settings.layers, !layers.contains(module.name),
        !inPEFT.spellings(module.name).contains(where: rules.lists)
      {
        return false
      }
      return rules.matches(module.name, isOutputLayer: module.isOutputLayer)
    }
    if let tied = targets.first(where: { model.isTied($0, settings.head) }) {
      let name = model.matrices[tied].name
      throw LorascError(
        .unsupported,
        "\(name) is the output layer too (tie_word_embeddings): an adapter on it is not offered",
        subject: name)
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
    // What modules_to_save trains in full may be a target too, as all-linear makes it in files of
    // PEFT's: the head by the ends of its modules' names where PEFT shortens a long list.
    func isSaved(_ name: String) -> Bool {
      settings.modulesToSave.contains { ModuleName.lies(name, in: $0) }
    }
    let ofHead = model.classifier(settings.head.kind)?.ownModules.filter(isSaved) ?? []
    let strangers = rules.unmatchedItems(in: names + ofHead).filter { !isSaved($0) }
    if let stranger = strangers.first {
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

extension Model {
  /// The pooler takes part only under the head that uses it, and so does the output layer.
  func isBackbone(_ matrix: Int, _ head: HeadDescription) -> Bool {
    if matrix == backbone.pooler { return classifier(head.kind)?.dense == .pooler }
    return !matrices[matrix].isOutputLayer || head.kind == .language
  }

  /// True for an embedding that is the output layer too: a change of one would be a change of
  /// both.
  func isTied(_ matrix: Int, _ head: HeadDescription) -> Bool {
    guard let output = backbone.output, head.kind == .language else { return false }
    return output.isTied && output.matrix == matrix
  }
}
