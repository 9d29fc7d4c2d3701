/// PEFT's `adapter_config.json`: what it says as this library's options, and back. Keys that
/// nobody here knows are kept.
struct PEFTConfig {
  static let file = "adapter_config.json"
  /// Modules of PEFT's that stand for the head.
  static let heads = ["classifier", "score"]

  private(set) var json: JSONObject

  init(_ json: JSONObject) { self.json = json }

  // MARK: Reading

  private static let tasks: [HeadKind: String] = [
    .classifier: "SEQ_CLS", .token: "TOKEN_CLS", .language: "CAUSAL_LM",
  ]

  /// The head that the file names, of transformers' own.
  func headKind() throws -> HeadKind? {
    let task = try json.optionalString("task_type")
    if let kind = Self.tasks.first(where: { $0.value == task })?.key { return kind }
    return try modulesToSave().contains { Self.heads.contains($0) } ? .classifier : nil
  }

  func modulesToSave() throws -> [String] { try json.optionalStrings("modules_to_save") ?? [] }

  /// `options` with what the configuration determines.
  ///
  /// - Throws: `.unsupported` with the key of what isn't offered; `.option` where `options` sets
  ///   something else than the configuration; `.format` for values of wrong types.
  func options(_ options: Options) throws -> Options {
    try refuseUnsupported()
    var merged = options
    for (key, value) in try values() {
      var wanted = Options()
      try wanted.set(key, value)
      guard try !options.isSet(key) || options.text(key) == wanted.text(key) else {
        throw LorascError(
          .option, "option \(key): \(Self.file) says '\(value)'", subject: key)
      }
      try merged.set(key, value)
    }
    return merged
  }

  private func values() throws -> [(key: String, value: String)] {
    func number(_ key: String, _ fallback: Double) throws -> String {
      (try json.optionalDouble(key) ?? fallback).shortText
    }
    func flag(_ key: String) throws -> String { String(try json.optionalBool(key) ?? false) }
    func pattern(_ key: String) throws -> String {
      try JSONValue.object(try json.optionalObject(key) ?? JSONObject()).text(.compact)
    }
    func indices() throws -> String {
      if case .integer(let index)? = json["layers_to_transform"] { return String(index) }
      return try (json.optionalInts("layers_to_transform") ?? []).map(String.init)
        .joined(separator: ",")
    }
    return [
      ("r", String(try json.optionalInt("r") ?? 8)),
      ("lora_alpha", try number("lora_alpha", 8)),
      ("lora_dropout", try number("lora_dropout", 0)),
      ("use_rslora", try flag("use_rslora")), ("use_dora", try flag("use_dora")),
      ("rank_pattern", try pattern("rank_pattern")),
      ("alpha_pattern", try pattern("alpha_pattern")),
      // PEFT's own choice for the architecture where the file has none.
      ("target_modules", try selection("target_modules") ?? "auto"),
      ("exclude_modules", try selection("exclude_modules") ?? ""),
      ("layers_to_transform", try indices()),
      ("layers_pattern", try selectionItems("layers_pattern").joined(separator: ",")),
      ("modules_to_save", try modulesToSave().joined(separator: ",")),
      ("bias", try json.optionalString("bias") ?? "none"),
      ("init_lora_weights", try initialization()),
    ]
  }

  /// A list or a pattern as the text that means it: what would be read as the other kind is
  /// written as a pattern of the same meaning.
  private func selection(_ key: String) throws -> String? {
    switch json[key] {
    case nil, .null: return nil
    case .string(let text):
      if text.isEmpty { return nil }
      if text.lowercased() == "all-linear" || TargetRules.Selection.isPattern(text) { return text }
      return "(\(text))"
    default:
      let items = try json.strings(key)
      if items.isEmpty { return nil }
      if items.contains(where: { TargetRules.Selection.isPattern($0) || $0.contains(",") }) {
        return #"(.*\.)?("# + items.map(Self.escaped).joined(separator: "|") + ")"
      }
      return items.joined(separator: ",")
    }
  }

  private func selectionItems(_ key: String) throws -> [String] {
    if case .string(let item)? = json[key] { return [item] }
    return try json.optionalStrings(key) ?? []
  }

  /// A name as a regular expression that matches it alone.
  static func escaped(_ name: String) -> String {
    name.reduce(into: "") { text, character in
      if !character.isLetter && !character.isNumber && character != "_" { text += "\\" }
      text.append(character)
    }
  }

  private func initialization() throws -> String {
    switch json["init_lora_weights"] {
    case nil, .null, .bool, .string("orthogonal"), .string("eva"): return "default"
    case .string("gaussian"): return "gaussian"
    case .string("pissa"): return "pissa"
    case let value?:
      let text = try value.text(.compact)
      throw LorascError(
        .unsupported,
        "\(Self.file): init_lora_weights \(text) changes the backbone in a way that isn't offered; "
          + "convert the adapter to a plain one first", subject: "init_lora_weights")
    }
  }

  private func refuseUnsupported() throws {
    let kind = try json.optionalString("peft_type") ?? "LORA"
    guard kind == "LORA" else {
      throw LorascError(
        .unsupported, "\(Self.file): peft_type \(kind) isn't offered, only LORA",
        subject: "peft_type")
    }
    let foreign = [
      "use_qalora", "lora_bias", "use_bdlora", "trainable_token_indices",
      "target_parameters", "layer_replication", "alora_invocation_tokens", "megatron_config",
      "arrow_config", "kasa_config", "monteclora_config", "velora_config",
    ]
    for key in foreign {
      switch json[key] {
      case nil, .null, .bool(false): continue
      case .array(let items) where items.isEmpty: continue
      case .object(let object) where object.members.isEmpty: continue
      default:
        throw LorascError(.unsupported, "\(Self.file): \(key) isn't offered", subject: key)
      }
    }
  }

  // MARK: Writing

  /// Sets what an adapter's options say; other keys stay.
  mutating func take(_ options: Options, _ model: Model, _ head: HeadKind) throws {
    func text(_ key: String) throws -> JSONValue { .string(try options.text(key)) }
    json["peft_type"] = "LORA"
    // Images have no task of PEFT's.
    let task = model.vocabularySize == 0 ? nil : Self.tasks[head] ?? "FEATURE_EXTRACTION"
    json["task_type"] = task.map { .string($0) } ?? .null
    if json["base_model_name_or_path"] == nil {
      json["base_model_name_or_path"] = .string(model.path)
    }
    json["inference_mode"] = true
    json["fan_in_fan_out"] = .bool(model.matrices.contains { $0.kind == .conv1D })
    json["r"] = .integer(Int64(try options.integer("r")))
    json["lora_alpha"] = Self.number(try options.number("lora_alpha"))
    json["lora_dropout"] = .number(try options.number("lora_dropout"))
    json["use_rslora"] = .bool(try options.boolean("use_rslora"))
    json["use_dora"] = .bool(try options.boolean("use_dora"))
    for key in ["rank_pattern", "alpha_pattern"] {
      let pattern = try options.text(key)
      json[key] =
        pattern.allSatisfy(\.isWhitespace) ? .object(JSONObject()) : try JSONValue.parse(pattern)
    }
    json["target_modules"] =
      try options.text("target_modules") == "auto"
      ? .array(Options.split(model.form.defaultTargets).map { .string($0) })
      : Self.selection(options, "target_modules") ?? .null
    json["exclude_modules"] = try Self.selection(options, "exclude_modules") ?? .null
    let layers = try options.list("layers_to_transform").compactMap { Int64($0) }
    json["layers_to_transform"] = layers.isEmpty ? .null : .array(layers.map { .integer($0) })
    let patterns = try options.list("layers_pattern")
    json["layers_pattern"] = patterns.isEmpty ? .null : .array(patterns.map { .string($0) })
    let ofHead = Self.saved(head, model)
    let saved =
      try options.list("modules_to_save")
      .filter { !Self.heads.contains($0) && !ofHead.contains($0) } + ofHead
    json["modules_to_save"] = saved.isEmpty ? .null : .array(saved.map { .string($0) })
    json["bias"] = try text("bias")
    json["init_lora_weights"] =
      try options.text("init_lora_weights") == "gaussian" ? "gaussian" : true
  }

  /// Modules of the head, as PEFT names them.
  private static func saved(_ head: HeadKind, _ model: Model) -> [String] {
    guard head != .meanLinear, let form = model.classifier(head) else { return [] }
    var names = heads
    if case .own(let name)? = form.dense, !name.contains(".") { names.insert(name, at: 0) }
    return names
  }

  private static func selection(_ options: Options, _ key: String) throws -> JSONValue? {
    let text = try options.text(key)
    let items = Options.split(text)
    if items.isEmpty { return nil }
    if items.count == 1, items[0].lowercased() == "all-linear" { return "all-linear" }
    if TargetRules.Selection.isPattern(text) { return .string(text) }
    return .array(items.map { .string($0) })
  }

  /// Whole numbers as integers, as PEFT's own files have them.
  static func number(_ value: Double) -> JSONValue {
    Int64(exactly: value).map { .integer($0) } ?? .number(value)
  }
}
