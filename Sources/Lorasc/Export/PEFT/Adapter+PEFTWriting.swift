/// What a written adapter holds.
public struct SaveReport: Sendable {
  /// Largest of its experts.
  public var rank = 0
  /// ‖Δ − Δ_r‖ / ‖Δ‖ over all modules (Frobenius) of a truncation; 0 where the file is exact.
  public var error = 0.0
}

extension Adapter {
  /// Writes the merged view as a folder of PEFT's, in one step: `adapter_config.json` and
  /// `adapter_model.safetensors`, with the base model's fingerprint. A head that PEFT has no name
  /// for (mean_linear) lies beside, in `lorasc_head.safetensors`.
  ///
  /// One expert goes as it is. A cascade of low-rank experts goes as one adapter with the rank of
  /// all its terms together, exactly, or truncated to `rank` by SVD.
  ///
  /// - Throws: `.unsupported` where only merged weights hold the result (DoRA over more than one
  ///   cascade, persistent noise), `.argument` for the model's own folder, `.io`, `.nonFinite`,
  ///   `.outOfMemory`
  @discardableResult
  public func save(to directory: String, rank: Int? = nil) throws -> SaveReport {
    try use {
      try BLASThreads.withSingleThread {
        try model.refuseOwn(directory)
        let exported = try ExportedExperts(self, rank: rank)
        return try PEFTFolder(self, exported).write(to: directory)
      }
    }
  }
}

private struct PEFTFolder {
  private let adapter: Adapter
  private let exported: ExportedExperts
  private let adapted: Set<String>

  init(_ adapter: Adapter, _ exported: ExportedExperts) {
    self.adapter = adapter
    self.exported = exported
    adapted = Set(adapter.matchedModules)
  }

  /// PEFT has no name for mean pooling's head.
  private var isHeadApart: Bool { adapter.head.kind == .meanLinear }

  func write(to directory: String) throws -> SaveReport {
    let folder = try AtomicFolder(path: directory)
    var config = PEFTConfig(adapter.foreignConfig)
    try config.take(
      try PEFTRules(adapter).options(for: exported), adapter.model, adapter.head.kind)
    try folder.write(try JSONValue.object(config.json).text(), to: PEFTConfig.file)
    let full = adapter.fullParameters.filter { !isHeadApart || !$0.place.isHead }
    try write(
      try expertTensors() + full.map { try tensor($0) },
      to: try folder.path(of: PEFTKeys.file))
    if isHeadApart {
      try write(
        try adapter.fullParameters.filter(\.place.isHead).map { try tensor($0) },
        to: try folder.path(of: PEFTKeys.headFile))
    }
    try folder.commit { name in
      name == "adapter_model.bin" || !isHeadApart && name == PEFTKeys.headFile
    }
    return SaveReport(
      rank: exported.experts.map(\.rank).max() ?? 0, error: exported.error)
  }

  private typealias Tensor = (key: String, shape: [Int], values: FloatBuffer)

  private func expertTensors() throws -> [Tensor] {
    zip(adapter.targets, exported.experts).flatMap { target, expert -> [Tensor] in
      let module = adapter.model.matrices[target.matrix]
      func key(_ parameter: Int) -> String {
        PEFTKeys.key(
          adapter.model.form.inMemory(adapter.parameters.list[parameter].name),
          prefix: adapter.model.prefix(of: module.name, adapter.head.kind), isAdapted: true)
      }
      var tensors: [Tensor] = [
        (key(target.a), [expert.rank, module.inFeatures], expert.a),
        (key(target.b), [module.outFeatures, expert.rank], expert.b),
      ]
      if let magnitude = target.magnitude, let values = expert.magnitude {
        tensors.append((key(magnitude), [module.outFeatures], values))
      }
      return tensors
    }
  }

  /// A tensor that is trained in full, as the merged view has it.
  private func tensor(_ full: FullParameter) throws -> Tensor {
    let parameter = full.parameter
    let description = adapter.parameters.list[parameter]
    let values = try FloatBuffer(count: description.count, what: description.name)
    adapter.fullValue(parameter, .merged, into: values.pointer)
    let module = description.name.split(separator: ".").dropLast().joined(separator: ".")
    let key = PEFTKeys.key(
      adapter.model.form.inMemory(description.name),
      prefix: full.place.isHead ? "" : adapter.model.prefix(of: module, adapter.head.kind),
      isAdapted: adapted.contains(module))
    return (key, description.shape, values)
  }

  private func write(_ tensors: [Tensor], to path: String) throws {
    let writer = try SafetensorsWriter(
      path: path, tensors: tensors.map { .init(name: $0.key, type: .f32, shape: $0.shape) },
      metadata: [
        ("format", "pt"),
        (PEFTMetadata.base, String(try adapter.model.fingerprint(), radix: 16)),
        (PEFTMetadata.head, try PEFTMetadata.text(adapter.head)),
      ])
    for tensor in tensors {
      try tensor.values.requireFinite(tensor.key)
      try withExtendedLifetime(tensor.values) {
        try writer.append(UnsafeBufferPointer(tensor.values.buffer))
      }
    }
    try writer.commit()
  }

  /// Options that say what the exported experts are: the adapter's own, or exact ranks with
  /// scale 1 for each module by its whole name.
  private func options() throws -> Options {
    var options = adapter.settings.options
    guard !exported.isCurrentExpert else { return options }
    try options.setExactRanks(
      exported.experts.map { (adapter.model.matrices[$0.matrix].name, $0.rank) })
    return options
  }
}

extension Options {
  /// Adapters on exactly these modules, with these ranks and scale alpha / rank, or 1.
  mutating func setExactRanks(
    _ ranks: [(module: String, rank: Int)], alpha: Double? = nil
  ) throws {
    let largest = ranks.map(\.rank).max() ?? 1
    var pattern = JSONObject()
    for (module, rank) in ranks where rank != largest {
      pattern[PEFTConfig.escaped(module)] = .integer(Int64(rank))
    }
    let text = try JSONValue.object(pattern).text(.compact)
    let values = [
      "r": String(largest), "lora_alpha": alpha.map { "\($0)" } ?? String(largest),
      "use_rslora": "false",
      "use_dora": "false", "init_lora_weights": "default", "ranks": "", "rank_pattern": text,
      "alpha_pattern": alpha == nil ? text : "{}", "exclude_modules": "", "layers_to_transform": "",
      "layers_pattern": "",
    ]
    for (key, value) in values { try set(key, value) }
    if !ranks.isEmpty {
      try set("target_modules", ranks.map(\.module).joined(separator: ","))
    }
  }
}

/// What this library adds to the metadata of an adapter's file.
enum PEFTMetadata {
  static let base = "lorasc_base"
  static let head = "lorasc_head"

  static func text(_ head: HeadDescription) throws -> String {
    let value: JSONValue = [
      "kind": .string(head.kind.rawValue), "num_labels": .integer(Int64(head.labels)),
      "problem_type": .string(head.problem.rawValue),
      "id2label": .array(head.labelNames.map { .string($0) }),
    ]
    return try value.text(.compact)
  }

  /// The options that describe a head.
  static func options(_ text: String) throws -> [(key: String, value: String)] {
    guard case .object(let json) = try JSONValue.parse(text),
      try json.string("kind") != HeadKind.host.rawValue
    else { return [] }
    var values = [("head", try json.string("kind"))]
    // Other heads have outputs and a problem of their own, which no option sets.
    guard HeadKind.withLabels.map(\.rawValue).contains(values[0].1) else { return values }
    values += [
      ("num_labels", String(try json.int("num_labels"))),
      ("problem_type", try json.string("problem_type")),
    ]
    let names = try json.strings("id2label")
    // A name with a comma is no item of a list.
    if !names.isEmpty, !names.contains(where: { $0.contains(",") }) {
      values.append(("id2label", names.joined(separator: ",")))
    }
    return values
  }
}
