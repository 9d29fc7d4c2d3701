/// Options whose rules mean to PEFT what they mean here.
///
/// A rule may be for any spelling of a module's name (`ModuleName`); PEFT knows one, which depends
/// on the head. What it would understand otherwise is written out by whole names.
struct PEFTRules {
  private let adapter: Adapter
  private var model: Model { adapter.model }
  private var settings: AdapterSettings { adapter.settings }

  init(_ adapter: Adapter) { self.adapter = adapter }

  /// - Parameter exported: what the file holds
  func options(for exported: ExportedExperts) throws -> Options {
    var options = settings.options
    if !exported.isCurrentExpert {
      try options.setExactRanks(
        exported.experts.map { (model.form.inMemory(model.matrices[$0.matrix].name), $0.rank) })
    } else if try !hold(options) {
      try options.setExactModules(
        adapter.targets.map {
          let name = model.matrices[$0.matrix].name
          return (model.form.inMemory(name), $0.rank, settings.ranks.alpha(name))
        })
    }
    let saved = try FullTensors(model, settings, adapted: []).saved
    if try !saves(saved, options) {
      try options.set("modules_to_save", saved.map(model.form.inMemory).joined(separator: ","))
      guard try saves(saved, options) else {
        throw LorascError(
          .unsupported, "option modules_to_save: PEFT has no name for these modules alone",
          subject: "modules_to_save")
      }
    }
    return options
  }

  /// As PEFT reads them.
  private func read(_ options: Options) throws -> AdapterSettings {
    try AdapterSettings(
      options, model: model, names: ModuleName(inPEFT: model, adapter.head.kind))
  }

  /// True where the same modules get the same ranks and scales.
  private func hold(_ options: Options) throws -> Bool {
    let read = try read(options)
    guard let match = try? ModuleMatch(model, read),
      match.targets == adapter.targets.map(\.matrix)
    else { return false }
    return match.targets.map { model.matrices[$0].name }.allSatisfy {
      read.ranks.rank($0, cascade: 1) == settings.ranks.rank($0, cascade: 1)
        && read.ranks.alpha($0) == settings.ranks.alpha($0)
    }
  }

  /// True where the same modules are trained in full.
  private func saves(_ modules: [String], _ options: Options) throws -> Bool {
    let tensors = try? FullTensors(model, try read(options), adapted: [])
    return tensors?.saved == modules
  }
}

extension Options {
  /// Adapters on exactly these modules, with these ranks and alphas.
  mutating func setExactModules(_ modules: [(name: String, rank: Int, alpha: Double)]) throws {
    let rank = modules.map(\.rank).max() ?? 1
    let alpha = modules.map(\.alpha).max() ?? 1
    var ranks = JSONObject()
    var alphas = JSONObject()
    for module in modules {
      let key = PEFTConfig.escaped(module.name)
      if module.rank != rank { ranks[key] = .integer(Int64(module.rank)) }
      if module.alpha != alpha { alphas[key] = PEFTConfig.number(module.alpha) }
    }
    let values = [
      "r": String(rank), "lora_alpha": alpha.shortText, "ranks": "",
      "rank_pattern": try JSONValue.object(ranks).text(.compact),
      "alpha_pattern": try JSONValue.object(alphas).text(.compact), "exclude_modules": "",
      "layers_to_transform": "", "layers_pattern": "",
    ]
    for (key, value) in values { try set(key, value) }
    if !modules.isEmpty {
      try set("target_modules", modules.map(\.name).joined(separator: ","))
    }
  }

  /// The same with scale 1, and without what would make another product than B A.
  mutating func setExactRanks(_ modules: [(name: String, rank: Int)]) throws {
    try setExactModules(modules.map { ($0.name, $0.rank, Double($0.rank)) })
    for (key, value) in [
      ("use_rslora", "false"), ("use_dora", "false"), ("init_lora_weights", "default"),
    ] {
      try set(key, value)
    }
  }
}
