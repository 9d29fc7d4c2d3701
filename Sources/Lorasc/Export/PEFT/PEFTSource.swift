/// A folder of PEFT's as the source of an adapter.
struct PEFTSource: AdapterSource {
  private let model: Model
  private let directory: String
  private let config: PEFTConfig
  private let file: SafetensorsFile
  private let head: SafetensorsFile?

  init(_ model: Model, _ directory: String) throws {
    self.model = model
    self.directory = directory
    try Files.check(path: directory)
    config = PEFTConfig(try JSONObject.read(path: Files.join(directory, PEFTConfig.file)))
    let tensors = Files.join(directory, PEFTKeys.file)
    let pickle = Files.join(directory, "adapter_model.bin")
    if Files.status(of: tensors) == nil, Files.status(of: pickle) != nil {
      throw LorascError(
        .unsupported,
        "\(pickle): is a pickle, which can run code when it is read; save it as safetensors",
        subject: pickle)
    }
    file = try SafetensorsFile(path: tensors)
    let headPath = Files.join(directory, PEFTKeys.headFile)
    head = Files.status(of: headPath) == nil ? nil : try SafetensorsFile(path: headPath)
    if let base = file.metadataValue(PEFTMetadata.base),
      base != String(try model.fingerprint(), radix: 16)
    {
      throw LorascError(
        .mismatch, "\(directory): was made on another model than \(model.path)", subject: "base")
    }
  }

  func settings(_ options: Options) throws -> AdapterSettings {
    var options = try config.options(options)
    var described: [(key: String, value: String)] = []
    if let text = file.metadataValue(PEFTMetadata.head) {
      described = try PEFTMetadata.options(text)
    } else if let kind = try config.headKind() ?? classifierKind() {
      let names = try names()
      described = [("head", kind.rawValue)]
      let weight = model.classifier(kind).map { $0.output + ".weight" }
      if let weight, let key = names[weight], let entry = file[key], entry.shape.count == 2 {
        described.append(("num_labels", String(entry.shape[0])))
      }
    }
    for (key, value) in described where !options.isSet(key) { try options.set(key, value) }
    return try AdapterSettings(options, model: model, foreignConfig: config.json)
  }

  /// A classifier that the configuration doesn't tell of, by its tensor.
  private func classifierKind() throws -> HeadKind? {
    let names = try names()
    let weight = model.classifier(.classifier).map { $0.output + ".weight" }
    return weight.flatMap { names[$0] } == nil ? nil : .classifier
  }

  /// Keys of the file by the trainable tensors' names.
  /// - Throws: `.mismatch` for two keys of one tensor
  private func names() throws -> [String: String] {
    var names: [String: String] = [:]
    for entry in file.entries {
      guard let name = PEFTKeys.name(entry.name, model.form) else { continue }
      if let other = names.updateValue(entry.name, forKey: name) {
        throw LorascError(
          .mismatch, "\(directory): \(other) and \(entry.name) are both \(name)", subject: name)
      }
    }
    return names
  }

  /// PEFT writes embeddings and output layers that have an adapter beside it, as they are.
  private func isCopyOfBase(_ name: String, _ key: String) throws -> Bool {
    guard let base = try? model.tensor(name), try model.shape(of: name) == file[key]?.shape
    else { return false }
    let copy = try file.float32(key)
    return base.withBuffer { base in copy.withBuffer { base.elementsEqual($0) } }
  }

  /// The file's values for each parameter, by its index.
  /// - Throws: `.mismatch` with the keys that don't fit, `.nonFinite`
  func values(of parameters: [Parameter], _ description: HeadDescription) throws -> [Int: FloatView]
  {
    var names = try names()
    var wrong: [String] = []
    let isHeadApart = description.kind == .meanLinear
    let needsHead = try isHeadApart ? head != nil : config.headKind() != nil
    let form = model.classifier(description.kind)
    let headNames = Set(
      (form?.tensors(labels: description.labels, hidden: model.hiddenSize) ?? []).map(\.name))
    var values: [Int: FloatView] = [:]
    for (index, parameter) in parameters.enumerated() {
      let isHead = headNames.contains(parameter.name)
      let isApart = isHead && isHeadApart
      let key =
        isApart
        ? PEFTKeys.key(parameter.name, prefix: "", isAdapted: false)
        : names.removeValue(forKey: parameter.name)
      guard let source = isApart ? head : file, let key, let entry = source[key] else {
        if !isHead || needsHead { wrong.append("missing " + parameter.name) }
        continue
      }
      guard entry.shape == parameter.shape else {
        wrong.append("\(key) has shape \(entry.shape), not \(parameter.shape)")
        continue
      }
      let view = try source.float32(key)
      guard view.withBuffer({ $0.allSatisfy(\.isFinite) }) else {
        throw LorascError(
          .nonFinite, "\(directory): \(parameter.name) holds NaN or infinity",
          subject: parameter.name)
      }
      values[index] = view
    }
    wrong += try names.filter { try !isCopyOfBase($0.key, $0.value) }.values.sorted()
      .map { "unexpected " + $0 }
    guard wrong.isEmpty else {
      let more = wrong.count > 8 ? "; and \(wrong.count - 8) more" : ""
      throw LorascError(
        .mismatch,
        "\(directory): \(wrong.count) tensors don't fit its configuration: "
          + wrong.prefix(8).joined(separator: "; ") + more, subject: PEFTKeys.file)
    }
    return values
  }
}
