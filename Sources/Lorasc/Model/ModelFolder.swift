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

  /// The folder's own head: sentence-transformers' mean pooling and dense module, or
  /// transformers' classifier; nil where there is neither.
  static func head(
    _ path: String, _ config: JSONObject, _ tensors: NamedTensors, hidden: Int, hasPooler: Bool
  ) throws -> TaskHead? {
    if let dense = try meanPooledDense(path) {
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
        weight: weight, bias: bias)
    }
    guard tensors.store.contains("classifier.weight"), hasPooler else { return nil }
    let shape = try tensors.store.entry("classifier.weight").shape
    guard shape.count == 2, shape[0] >= 1 else {
      throw LorascError(
        .format, "\(path): classifier.weight has shape \(shape)", subject: "classifier.weight")
    }
    return TaskHead(
      description: try description(config, .classifier, labels: shape[0]),
      weight: try tensors.plain("classifier.weight", shape: [shape[0], hidden]),
      bias: try tensors.plain("classifier.bias", shape: [shape[0]]))
  }

  private static func description(_ config: JSONObject, _ kind: HeadKind, labels: Int) throws
    -> HeadDescription
  {
    var problem: ProblemType = labels == 1 ? .regression : .classification
    if let name = try config.optionalString("problem_type") {
      guard let known = ProblemType(rawValue: name) else {
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
