import CSupport

/// A transformer's frozen backbone, opened from a Hugging Face folder, and its task head
/// where the folder has one.
///
/// Immutable: any number of adapters, trainers and threads may share one.
///
/// ```swift
/// let model = try Model(path: "all-MiniLM-L6-v2")
/// ```
public final class Model: @unchecked Sendable {
  public let path: String
  /// Threads of predictions; 0: as many as the process may run on.
  public let threads: Int
  let level: KernelLevel
  let configJSON: JSONObject
  let store: TensorStore
  /// "bert." or ""
  let prefix: String
  let bert: BertBackbone
  let head: TaskHead?

  public var architecture: String { "bert" }
  public var hiddenSize: Int { bert.config.hiddenSize }
  public var intermediateSize: Int { bert.config.intermediateSize }
  public var attentionHeads: Int { bert.config.heads }
  public var layerCount: Int { bert.config.layers }
  public var vocabularySize: Int { bert.config.vocabulary }
  public var maximumPositions: Int { bert.config.positions }
  /// The folder's own head.
  public var headDescription: HeadDescription? { head?.description }
  public var kernels: String { level.rawValue }

  /// Linear modules first, then embeddings.
  var matrices: [MatrixModule] { bert.matrices }
  var norms: [NormModule] { bert.norms }

  /// - Parameter options: of scope "model"
  /// - Throws: `.notFound`, `.io`, `.format`, `.architecture`, `.unsupported`, `.nonFinite`,
  ///   `.outOfMemory`
  public init(path: String, options: Options = Options()) throws {
    self.path = path
    threads = try options.integer("threads")
    level = try KernelLevel(option: try options.text("kernels"))
    let kernels = try level.table()
    configJSON = try ModelFolder.config(path)
    let kind = try ModelFolder.modelType(configJSON, path)
    guard kind == "bert" else {
      throw LorascError(
        .architecture, "\(path): model_type \(kind) is not known; known: bert", subject: kind)
    }
    let config = try namingFile(Files.join(path, "config.json")) { [configJSON] in
      try BertConfig(configJSON)
    }
    store = try TensorStore(folder: path)
    let tensors = NamedTensors(store, prefix: "bert.", kernels: kernels)
    prefix = tensors.prefix
    bert = try BertBackbone(config, tensors)
    head = try ModelFolder.head(
      path, configJSON, tensors, hidden: config.hiddenSize, hasPooler: bert.pooler != nil)
  }

  /// Names of all tensors, in the order of the files, without "bert.".
  public var tensorNames: [String] { store.names.map(bareName) }

  /// Elements of all floating-point tensors: position ids and their like are no parameters.
  public var parameterCount: Int {
    store.names.compactMap { try? store.entry($0) }
      .filter { [.f32, .f16, .bf16, .f64].contains($0.type) }
      .reduce(0) { $0 + $1.elementCount }
  }

  public func shape(of name: String) throws -> [Int] { try store.entry(storedName(name)).shape }

  /// A tensor as float32, under its name with or without "bert.".
  func tensor(_ name: String) throws -> FloatView { try store.float32(try storedName(name)) }

  /// - Parameter out: as many floats as the shape's product
  public func copyTensor(_ name: String, to out: UnsafeMutableBufferPointer<Float>) throws {
    let view = try tensor(name)
    guard out.count >= view.count else {
      throw LorascError(.buffer, "\(name) has \(view.count) elements", subject: name)
    }
    withExtendedLifetime(view) { _ = out.update(fromContentsOf: view.buffer) }
  }

  func bareName(_ stored: String) -> String {
    stored.hasPrefix(prefix) ? String(stored.dropFirst(prefix.count)) : stored
  }

  private func storedName(_ name: String) throws -> String {
    if store.contains(name) { return name }
    if store.contains(prefix + name) { return prefix + name }
    throw LorascError(.notFound, "\(path): there is no tensor \(name)", subject: name)
  }

  /// Threads and kernels for work on this model; 0 threads: as many as the process may run on.
  func compute(threads: Int) throws -> Compute {
    try Compute(threads: threads == 0 ? ThreadPool.availableThreads : threads, level: level)
  }

  /// Identifies the weights: names, shapes, types and bytes.
  func fingerprint() throws -> UInt64 { try store.fingerprint() }

  func limits(head: HeadDescription?) -> StagedBatch.Limits {
    StagedBatch.Limits(
      vocabulary: bert.config.vocabulary, positions: bert.config.positions,
      tokenTypes: bert.config.tokenTypes, labels: head?.labels ?? 0, problem: head?.problem)
  }
}
