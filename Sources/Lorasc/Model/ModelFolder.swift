/// How a Hugging Face folder says what it holds: config.json, and for sentence-transformers
/// modules.json with its pooling and dense modules.
enum ModelFolder {
  static func config(_ path: String) throws -> JSONObject {
    try JSONObject.read(path: Files.join(path, "config.json"))
  }

  static func modelType(_ config: JSONObject, _ path: String) throws -> String {
    guard let type = try config.optionalString("model_type") else {
      throw LorascError(
        .architecture, "\(path): config.json names no model_type", subject: "model_type")
    }
    return type
  }

  /// The folder's own head: sentence-transformers' mean pooling and dense module, one of
  /// transformers' by config.json's class or the tensors' names; nil where there is none.
  static func head(
    _ path: String, _ config: JSONObject, _ tensors: NamedTensors, _ form: Architecture,
    _ backbone: Backbone
  ) throws -> TaskHead? {
    if let dense = try meanPooledDense(path) {
      return try meanLinear(dense, config, hidden: backbone.sizes.hidden)
    }
    let classes = try config.optionalStrings("architectures") ?? []
    let named = form.headClasses.first { classes.contains($0.value) }?.key
    if backbone.output != nil, named == .language || (named == nil && classes.isEmpty) {
      let description = HeadDescription(
        kind: .language, labels: backbone.sizes.vocabulary, problem: .nextToken)
      return TaskHead(description: description, tensors: [:])
    }
    let kind = named == .token ? HeadKind.token : .classifier
    guard
      let classifier = kind == .token ? form.tokenClassifier : form.classifier(backbone),
      tensors.store.contains(classifier.output + ".weight")
    else { return nil }
    let name = classifier.output + ".weight"
    let shape = try tensors.store.tensor(name).shape
    guard shape.count == 2, shape[0] >= 1 else {
      throw LorascError(.format, "\(path): \(name) has shape \(shape)", subject: name)
    }
    let list = classifier.tensors(labels: shape[0], hidden: backbone.sizes.hidden)
    return TaskHead(
      description: try description(config, kind, labels: shape[0]),
      tensors: Dictionary(
        uniqueKeysWithValues: try list.map {
          ($0.tensor, try tensors.plain($0.name, shape: $0.shape))
        }))
  }

  private static func meanLinear(_ dense: String, _ config: JSONObject, hidden: Int) throws
    -> TaskHead
  {
    let file = try SafetensorsFile(path: Files.join(dense, "model.safetensors"))
    let weight = try file.float32("linear.weight")
    let bias = try file.float32("linear.bias")
    guard weight.shape.count == 2, weight.shape[1] == hidden, weight.shape[0] >= 1,
      bias.shape == [weight.shape[0]]
    else {
      throw LorascError(
        .format,
        "\(dense): linear.weight \(weight.shape), linear.bias \(bias.shape) for hidden "
          + "size \(hidden)", subject: "linear.weight")
    }
    return TaskHead(
      description: try description(config, .meanLinear, labels: weight.shape[0]),
      tensors: [.weight: weight, .bias: bias])
  }

  private static func description(_ config: JSONObject, _ kind: HeadKind, labels: Int) throws
    -> HeadDescription
  {
    var problem: ProblemType =
      labels == 1 && kind != .token ? .regression : .classification
    if let name = try config.optionalString("problem_type") {
      let offered: [ProblemType] = [.classification, .multiLabel, .regression]
      guard let known = offered.first(where: { $0.rawValue == name }) else {
        throw LorascError(
          .unsupported, "config.json: problem_type \(name) is not offered", subject: "problem_type")
      }
      problem = known
    }
    var names: [String] = []
    if let map = try config.optionalObject("id2label"), map.count == labels {
      let ordered = (0..<labels).map { map[String($0)] }
      names = ordered.compactMap { if case .string(let name)? = $0 { name } else { nil } }
      if names.count != labels { names = [] }
    }
    return HeadDescription(kind: kind, labels: labels, problem: problem, labelNames: names)
  }

  /// The folder of the Dense module in a chain Transformer → mean Pooling → Dense (identity);
  /// nil for other chains, which are read as bare encoders.
  private static func meanPooledDense(_ path: String) throws -> String? {
    let modulesPath = Files.join(path, "modules.json")
    guard Files.status(of: modulesPath) != nil else { return nil }
    guard case .array(let items) = try JSONValue.read(path: modulesPath) else {
      throw LorascError(.format, "\(modulesPath): is not a list", subject: modulesPath)
    }
    var modules: [(type: String, path: String)] = []
    for item in items {
      guard case .object(let module) = item else {
        throw LorascError(
          .format, "\(modulesPath): a module is not an object", subject: modulesPath)
      }
      let type = try module.string("type")
      modules.append((String(type.split(separator: ".").last ?? ""), try module.string("path")))
    }
    guard modules.map(\.type) == ["Transformer", "Pooling", "Dense"] else { return nil }
    for module in modules.dropFirst() {
      guard !module.path.isEmpty, !module.path.contains("/"), module.path != "..",
        module.path != "."
      else {
        throw LorascError(
          .format, "\(modulesPath): \(quoted(module.path)) is no folder of the model",
          subject: "path")
      }
    }
    let pooling = try JSONObject.read(
      path: Files.join(Files.join(path, modules[1].path), "config.json"))
    guard pooling["pooling_mode_mean_tokens"] == .bool(true) || pooling["pooling_mode"] == "mean"
    else { return nil }
    let dense = Files.join(path, modules[2].path)
    let activation = try JSONObject.read(path: Files.join(dense, "config.json"))
      .optionalString("activation_function")
    guard activation?.hasSuffix("Identity") == true else { return nil }
    return dense
  }
}
