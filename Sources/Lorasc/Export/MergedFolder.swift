import CSupport

/// Element type of merged weights.
public enum MergeType: String, Sendable {
  /// As each tensor of the base.
  case auto
  case f32, f16, bf16
  /// Blocks of 32 values with a scale; of GGUF files only.
  case q8_0

  /// nil: as the base's
  var plainType: TensorType? {
    switch self {
    case .auto, .q8_0: nil
    case .f32: .f32
    case .f16: .f16
    case .bf16: .bf16
    }
  }
}

/// What a merge did to one tensor.
public struct TensorChange: Sendable {
  public let name: String
  /// Elements of the tensor, and those that the adapter changes.
  public let elements: Int
  public let changed: Int
  /// Largest |merged − base|.
  public let maxChange: Double
  /// Share of the changed elements that the output's element type rounds to what it rounds the
  /// base to.
  public let roundedAway: Double
}

/// What a merge changed.
public struct MergeReport: Sendable {
  /// Tensors written, and those of them that differ from the base.
  public var tensors = 0
  public var changed = 0
  /// Largest |merged − base|.
  public var maxChange = 0.0
  /// Share of the changed elements whose change the output's element type rounds away.
  public var roundedAway = 0.0
  /// Of each tensor that the adapter may change, in the order of the file.
  public var changes: [TensorChange] = []
}

extension Adapter {
  /// Writes the merged view as a Hugging Face folder, in one step and tensor by tensor: weights
  /// in the base's element types (of quantised ones in F32) or in `type`, by float32 arithmetic
  /// with one rounding; config.json with `id2label` and `problem_type`, and the tokenizer's files.
  /// Heads of transformers' open as its classes for them, `mean_linear` as a
  /// `SentenceTransformer`, whose `encode` gives the logits, `embedding` as one whose `encode`
  /// gives the means.
  ///
  /// An existing folder is replaced and keeps its other files; the model's own is refused.
  ///
  /// A path that ends in ".gguf" becomes a GGUF file (see `MergedGGUF`).
  ///
  /// - Throws: `.io`, `.argument`, `.unsupported`, `.nonFinite` with the tensor's name,
  ///   `.outOfMemory`
  @discardableResult
  public func merge(to path: String, as type: MergeType = .auto) throws -> MergeReport {
    try use {
      try BLASThreads.withSingleThread {
        try model.requireUnmerged()
        let report =
          if path.hasSuffix(".gguf") {
            try MergedGGUF(self, path, type).write()
          } else if type == .q8_0 {
            throw LorascError(
              .unsupported, "\(path): a folder holds no Q8_0; merge to a file that ends in .gguf",
              subject: type.rawValue)
          } else if model.isOfHost {
            try writeHostWeights(to: path, as: type)
          } else {
            try MergedFolder(self, path, type).write()
          }
        lastMerge = report
        return report
      }
    }
  }

  /// What the last merge did to each tensor; empty before the first.
  public func mergedTensors() throws -> [TensorChange] { try use { lastMerge.changes } }
}

/// One merge on its way to a folder.
private final class MergedFolder {
  private let adapter: Adapter
  private let model: Model
  private let folder: AtomicFolder
  private let type: MergeType
  private let weights: MergedWeights
  private var tensorCount = 0

  init(_ adapter: Adapter, _ directory: String, _ type: MergeType) throws {
    self.adapter = adapter
    self.type = type
    model = adapter.model
    try model.refuseOwn(directory)
    folder = try AtomicFolder(path: directory)
    weights = try MergedWeights(adapter)
  }

  func write() throws -> MergeReport {
    try writeWeights()
    try writeConfig()
    if isSentenceTransformer { try writeSentenceTransformer() }
    let companions = ModelFolder.companions(forSentences: isSentenceTransformer)
    for name in companions + (try ModelFolder.moreTemplates(of: model.path)) {
      let source = Files.join(model.path, name)
      guard let status = Files.status(of: source), Files.isRegular(status) else { continue }
      try folder.copyFile(from: source, to: name)
    }
    for file in model.tokenizerFiles() { try folder.write(file.text, to: file.name) }
    // A chain of modules from an earlier merge would hide transformers' own head.
    let hidesHead = !isSentenceTransformer
    try folder.commit { name in
      AtomicFolder.isOldWeights(name) || (hidesHead && name == "modules.json")
    }
    return weights.finished(tensors: tensorCount)
  }

  private var isSentenceTransformer: Bool {
    [.meanLinear, .embedding].contains(adapter.head.kind)
  }

  // MARK: Weights

  private func writeWeights() throws {
    let kept = try backboneTensors()
    let prefix = model.prefix(of: adapter.head.kind)
    var tensors = kept.map {
      SafetensorsWriter.Tensor(
        name: isBesideBackbone($0.name) ? $0.name : prefix + model.bareName($0.name),
        type: written($0.type), shape: $0.shape)
    }
    let headParameters = adapter.head.kind == .meanLinear ? [] : adapter.headParameters
    for parameter in headParameters {
      let description = adapter.parameters.list[parameter]
      tensors.append(
        .init(name: description.name, type: written(.plain(.f32)), shape: description.shape))
    }
    let writer = try SafetensorsWriter(
      path: try folder.path(of: TensorStore.single), tensors: tensors,
      metadata: [("format", "pt")])
    for tensor in kept {
      try weights.write(tensor, as: .plain(written(tensor.type)), asStored: false) {
        try writer.append($0)
      }
    }
    for parameter in headParameters { try writeHead(parameter, writer) }
    try writer.commit()
    tensorCount += tensors.count
  }

  /// The output layer of a language model has no prefix, and goes along with that head only.
  private func isBesideBackbone(_ name: String) -> Bool {
    model.matrices.contains { $0.isOutputLayer && name == $0.name + ".weight" }
  }

  /// Of heads, none of which is part of a backbone.
  private static let headNames = [
    "classifier.", "cls.", "cls_classifier.", "distillation_classifier.", "lm_head.", "score.",
    "pre_classifier.", "vocab_", "qa_outputs.",
  ]

  /// The base's tensors without heads of other tasks, wide types first.
  private func backboneTensors() throws -> [StoredTensor] {
    let tensors = try model.store.names
      .filter { name in
        if isBesideBackbone(name) { return adapter.head.kind == .language }
        return name.hasPrefix(model.prefix) && !Self.headNames.contains { name.hasPrefix($0) }
      }
      .map { try model.store.tensor($0) }
    // A stable sort: the file's order within a width.
    return tensors.enumerated()
      .sorted { a, b in
        (written(b.element.type).bits, a.offset) < (written(a.element.type).bits, b.offset)
      }
      .map(\.element)
  }

  /// The element type that a tensor of the base is written in; of quantised ones float32, which
  /// holds their values exactly.
  private func written(_ stored: StoredType) -> TensorType {
    let base: TensorType = if case .plain(let plain) = stored { plain } else { .f32 }
    return [.f32, .f16, .bf16].contains(base) ? type.plainType ?? base : base
  }

  private func writeHead(_ parameter: Int, _ writer: SafetensorsWriter) throws {
    try weights.write(head: parameter, as: .plain(written(.plain(.f32)))) { try writer.append($0) }
  }

  // MARK: Descriptions

  private func writeConfig() throws {
    var config = model.configJSON
    let head = adapter.head
    let architecture = model.form.headClasses[head.kind] ?? model.form.baseClass
    config["architectures"] = [.string(architecture)]
    if head.kind != .language, head.kind != .embedding { describeLabels(head, in: &config) }
    if type != .auto {
      let names: [MergeType: String] = [.f32: "float32", .f16: "float16", .bf16: "bfloat16"]
      config["torch_dtype"] = .string(names[type] ?? "float32")
      if config["dtype"] != nil { config["dtype"] = config["torch_dtype"] }
    }
    try folder.write(try JSONValue.object(config).text(), to: "config.json")
  }

  private func describeLabels(_ head: HeadDescription, in config: inout JSONObject) {
    var names = JSONObject()
    var numbers = JSONObject()
    for label in 0..<head.labels {
      let name = head.labelNames.isEmpty ? "LABEL_\(label)" : head.labelNames[label]
      names[String(label)] = .string(name)
      numbers[name] = .integer(Int64(label))
    }
    config["id2label"] = .object(names)
    config["label2id"] = .object(numbers)
    config["problem_type"] = .string(head.problem.rawValue)
  }

  private func writeSentenceTransformer() throws {
    func module(_ index: Int, _ path: String, _ type: String) -> JSONValue {
      [
        "idx": .integer(Int64(index)), "name": .string(String(index)), "path": .string(path),
        "type": .string("sentence_transformers.models." + type),
      ]
    }
    let hasDense = adapter.head.kind == .meanLinear
    let modules =
      [module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")]
      + (hasDense ? [module(2, "2_Dense", "Dense")] : [])
    let hidden = Int64(model.hiddenSize)
    let pooling: JSONValue = [
      "word_embedding_dimension": .integer(hidden), "pooling_mode_cls_token": false,
      "pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": false,
      "pooling_mode_mean_sqrt_len_tokens": false,
    ]
    let dense: JSONValue = [
      "in_features": .integer(hidden), "out_features": .integer(Int64(adapter.head.labels)),
      "bias": true, "activation_function": "torch.nn.modules.linear.Identity",
    ]
    try folder.write(try JSONValue.array(modules).text(), to: "modules.json")
    try folder.write(try pooling.text(), to: "1_Pooling/config.json")
    if Files.status(of: Files.join(model.path, "sentence_bert_config.json")) == nil {
      let transformer: JSONValue = [
        "max_seq_length": .integer(Int64(model.maximumPositions)), "do_lower_case": false,
      ]
      try folder.write(try transformer.text(), to: "sentence_bert_config.json")
    }
    guard hasDense else { return }
    try folder.write(try dense.text(), to: "2_Dense/config.json")
    let parameters = zip(adapter.headParameters, ["linear.weight", "linear.bias"]).map { ($0, $1) }
    let writer = try SafetensorsWriter(
      path: try folder.path(of: "2_Dense/model.safetensors"),
      tensors: parameters.map {
        .init(name: $0.1, type: written(.plain(.f32)), shape: adapter.parameters.list[$0.0].shape)
      }, metadata: [("format", "pt")])
    for (parameter, _) in parameters { try writeHead(parameter, writer) }
    try writer.commit()
    tensorCount += parameters.count
  }
}

extension ModelFolder {
  /// Files that go with the weights unchanged.
  static func companions(forSentences: Bool) -> [String] {
    let tokenizer = [
      "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt",
      "special_tokens_map.json", "added_tokens.json", "sentencepiece.bpe.model", "spiece.model",
      "tokenizer.model", "chat_template.jinja", "generation_config.json",
      "preprocessor_config.json",
    ]
    let sentence = ["sentence_bert_config.json", "config_sentence_transformers.json"]
    return forSentences ? tokenizer + sentence : tokenizer
  }

  /// Chat templates beside the default one.
  static func moreTemplates(of path: String) throws -> [String] {
    let name = "additional_chat_templates"
    let folder = Files.join(path, name)
    guard let status = Files.status(of: folder), Files.isFolder(status) else { return [] }
    return try OpenFolder(path: folder).names().map(OpenFolder.text)
      .filter { $0.hasSuffix(".jinja") }.sorted().map { Files.join(name, $0) }
  }
}
