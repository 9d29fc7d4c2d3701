/// config.json, read with the ranges that its values must keep.
struct ConfigReader {
  let json: JSONObject

  func has(_ key: String) -> Bool { json[key] != nil && json[key] != .null }

  /// A size >= 1; where the key is missing or null `fallback`, if there is one.
  func size(_ key: String, _ fallback: Int? = nil, atMost limit: Int = 1 << 24) throws -> Int {
    if let fallback, !has(key) { return fallback }
    let value = try json.int(key)
    guard value >= 1, value <= limit else { throw bad(key, String(value)) }
    return value
  }

  /// The number of layers, which must be that of the weights' names `<stem>.<index>.…`.
  func layers(_ key: String, _ fallback: Int? = nil, named stem: String, in tensors: NamedTensors)
    throws -> Int
  {
    let count = try size(key, fallback, atMost: 10_000)
    let found = tensors.layers(stem)
    guard found == count else {
      throw LorascError(
        .format, "\(key) is \(count), the weights have \(found) layers", subject: key)
    }
    return count
  }

  func probability(_ key: String, _ fallback: Double) throws -> Float {
    Float(try number(key, fallback) { $0 >= 0 && $0 < 1 })
  }

  /// A norm's epsilon.
  func epsilon(_ key: String, _ fallback: Double) throws -> Float {
    Float(try number(key, fallback) { $0 >= 0 && $0 < 1 })
  }

  func number(_ key: String, _ fallback: Double? = nil, _ isGood: (Double) -> Bool) throws -> Double
  {
    if let fallback, !has(key) { return fallback }
    let value = try json.double(key)
    guard value.isFinite, isGood(value) else { throw bad(key, String(value)) }
    return value
  }

  func flag(_ key: String, _ fallback: Bool) throws -> Bool {
    try json.optionalBool(key) ?? fallback
  }

  func text(_ key: String, _ fallback: String) throws -> String {
    has(key) ? try json.string(key) : fallback
  }

  /// - Throws: `.unsupported` for a function that isn't offered.
  func activation(_ key: String, _ fallback: String) throws -> Activation {
    let name = try text(key, fallback)
    guard let activation = Activation(configName: name) else {
      throw LorascError(.unsupported, "\(key) \(name) is not offered", subject: key)
    }
    return activation
  }

  /// An entry of a table without a gradient; negative ones count from the table's end, as in
  /// PyTorch. Null: none. Missing: the model type's own.
  func paddingToken(_ fallback: Int?, entries: Int) throws -> Int? {
    let given = json["pad_token_id"] == nil ? fallback : try json.optionalInt("pad_token_id")
    guard let given else { return nil }
    guard given >= -entries, given < entries else { throw bad("pad_token_id", String(given)) }
    return given < 0 ? given + entries : given
  }

  /// - Throws: `.unsupported` where one of these flags has not the value that is offered.
  func require(_ flags: [(key: String, value: Bool)]) throws {
    for (key, value) in flags where try flag(key, value) != value {
      throw LorascError(
        .unsupported, "\(key) \(!value) is not offered", subject: key)
    }
  }

  func bad(_ key: String, _ value: String) -> LorascError {
    LorascError(.format, "\(key) is \(value)", subject: key)
  }

  /// - Throws: `.format` unless `whole` is a multiple of `parts`.
  func requireMultiple(_ whole: (key: String, value: Int), of parts: (key: String, value: Int))
    throws
  {
    guard whole.value % parts.value == 0 else {
      throw LorascError(
        .format,
        "\(whole.key) \(whole.value) is no multiple of \(parts.key) \(parts.value)",
        subject: parts.key)
    }
  }
}
