/// A file or folder that an adapter is read from.
protocol AdapterSource {
  /// The adapter that it holds; `options` say what it leaves open.
  func settings(_ options: Options) throws -> AdapterSettings

  /// Its values for each parameter, by the parameter's index.
  func values(of parameters: [Parameter], _ head: HeadDescription) throws -> [Int: FloatView]
}

extension Adapter {
  /// Reads an adapter from a folder of PEFT's or of `save`, or from a GGUF LoRA.
  ///
  /// A folder's `adapter_config.json`, or the file's metadata and tensors, determine the adapter;
  /// `options` give what they don't say (a head's `num_labels`, `adapter_seed`, …). The tensors
  /// must be exactly those that a configuration asks for, and those of modules that the model has.
  /// A loaded expert counts in full until a trainer with another `slow_rate` takes it.
  ///
  /// - Throws: `.notFound`, `.io`, `.format`; `.mismatch` for tensors that are missing, too many
  ///   or of other shapes, and for another base model; `.unsupported` with the key of what isn't
  ///   offered; `.option` where `options` contradict the configuration; `.nonFinite`
  public static func load(model: Model, from path: String, options: Options = Options()) throws
    -> Adapter
  {
    let isFile = Files.status(of: path).map(Files.isRegular) ?? false
    let source: any AdapterSource =
      isFile ? try GGUFAdapterSource(model, path) : try PEFTSource(model, path)
    let description = isFile ? path : Files.join(path, PEFTConfig.file)
    let settings = try namingFile(description) { try source.settings(options) }
    var values: [Int: FloatView] = [:]
    let adapter = try Adapter(model: model, settings: settings) { parameters in
      values = try source.values(of: parameters, settings.head)
    }
    return try BLASThreads.withSingleThread {
      try adapter.initialize()
      for (index, view) in values {
        view.withBuffer { _ = adapter.parameters.buffer(index).update(fromContentsOf: $0) }
      }
      adapter.cascade.rate = 1
      return adapter
    }
  }
}
