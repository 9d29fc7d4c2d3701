import CSupport
import Synchronization

/// A transformer's frozen backbone, opened from a Hugging Face folder or a GGUF file, and its
/// task head where there is one.
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
  let products: MatrixProducts
  let threadPool: ThreadPool.Kind
  let configJSON: JSONObject
  let store: TensorStore
  /// Where the model is a GGUF file.
  let gguf: GGUFModel?
  let form: Architecture
  /// Of the backbone's tensors in the files: "bert." or "", as the architecture has it.
  let prefix: String
  let backbone: Backbone
  let truncation: RowTruncation
  let head: TaskHead?
  /// Of a model of the host's own: its memory, in the order of the backbone's matrices.
  let hostMatrices: [HostMatrix]
  private let hostFingerprint: UInt64
  let isMergedIntoHost = Atomic<Bool>(false)

  public var architecture: String { form.modelType }
  public var hiddenSize: Int { backbone.sizes.hidden }
  public var intermediateSize: Int { backbone.sizes.intermediate }
  public var attentionHeads: Int { backbone.sizes.heads }
  public var layerCount: Int { backbone.blocks.count }
  public var vocabularySize: Int { backbone.sizes.vocabulary }
  /// Longest row, in tokens.
  public var maximumPositions: Int { backbone.sizes.positions }
  /// The folder's own head.
  public var headDescription: HeadDescription? { head?.description }
  public var kernels: String { level.rawValue }
  /// The library of matrix products: "openblas" or "onednn".
  public var productsLibrary: String { products.rawValue }

  /// Linear modules first, then embeddings.
  var matrices: [MatrixModule] { backbone.matrices }
  var norms: [NormModule] { backbone.norms }

  /// - Parameter options: of scope "model"
  /// - Throws: `.notFound`, `.io`, `.format`, `.architecture`, `.unsupported`, `.nonFinite`,
  ///   `.outOfMemory`
  public init(path: String, options: Options = Options()) throws {
    self.path = path
    threads = try options.integer("threads")
    truncation = RowTruncation(rawValue: try options.text("truncation")) ?? .error
    level = try KernelLevel(option: try options.text("kernels"))
    products = try MatrixProducts(option: try options.text("products"))
    threadPool = try ThreadPool.Kind(option: try options.text("thread_pool"))
    let kernels = try level.table()
    let types: [String: TensorType] = ["float32": .f32, "bfloat16": .bf16, "float16": .f16]
    let dtype = types[try options.text("dtype")]
    let form: Architecture
    let description: String
    if let status = Files.status(of: path), Files.isRegular(status) {
      let file = try GGUFModel(try GGUFFile(path: path, mapped: true))
      (configJSON, form, store, gguf) = (file.config, file.architecture.form, file.store, file)
      description = path
    } else {
      configJSON = try ModelFolder.config(path)
      form = try Architecture.named(try ModelFolder.modelType(configJSON, path), path)
      (store, gguf) = (try TensorStore(folder: path), nil)
      description = Files.join(path, "config.json")
    }
    let tensors = NamedTensors(store, prefix: form.prefix, type: dtype, kernels: kernels)
    prefix = tensors.prefix
    let backbone = try namingFile(description) { [configJSON] in
      try form.backbone(ConfigReader(json: configJSON), tensors)
    }
    self.form = form
    self.backbone = backbone
    head = try ModelFolder.head(path, configJSON, tensors, form, backbone)
    hostMatrices = []
    hostFingerprint = 0
  }

  /// The host's matrices, checked, and a backbone that holds nothing else.
  init(
    hostMatrices: [HostMatrix], _ backbone: Backbone, level: KernelLevel, products: MatrixProducts,
    threads: Int, _ threadPool: ThreadPool.Kind
  ) {
    path = "the host's model"
    self.threads = threads
    truncation = .error
    self.level = level
    self.products = products
    self.threadPool = threadPool
    configJSON = JSONObject()
    form = .host
    store = TensorStore(path: path, [])
    gguf = nil
    prefix = ""
    self.backbone = backbone
    head = nil
    self.hostMatrices = hostMatrices
    hostFingerprint = Fingerprint(hostMatrices).value
  }

  /// How a head's classifier follows this backbone; nil: the head has none, or isn't offered.
  func classifier(_ kind: HeadKind) -> ClassifierForm? {
    switch kind {
    case .classifier: form.classifier(backbone)
    case .token: form.tokenClassifier
    case .meanLinear: .meanLinear
    case .language, .embedding, .host: nil
    }
  }

  /// Names of all tensors, in the order of the files, without the prefix of the model's class.
  public var tensorNames: [String] { store.names.map(bareName) }

  /// Elements of all floating-point tensors: position ids and their like are no parameters.
  public var parameterCount: Int {
    store.names.compactMap { try? store.tensor($0) }
      .filter(\.type.isFloat)
      .reduce(0) { $0 + $1.elementCount }
  }

  public func shape(of name: String) throws -> [Int] { try store.tensor(storedName(name)).shape }

  /// A tensor as float32, under its name with or without the prefix of the model's class.
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
    try Compute(
      threads: threads == 0 ? ThreadPool.availableThreads : threads, level: level,
      products: products, pool: threadPool)
  }

  /// Identifies the weights: names, shapes, types and bytes.
  func fingerprint() throws -> UInt64 { isOfHost ? hostFingerprint : try store.fingerprint() }

  func limits(head: HeadDescription?) -> BatchLimits {
    var limits = BatchLimits(
      vocabulary: backbone.sizes.vocabulary, positions: backbone.sizes.positions,
      tokenTypes: backbone.sizes.tokenTypes, truncation: truncation, head: head)
    switch backbone.inputs {
    case .tokens(let inputs): limits.positionRule = inputs.positions
    case .pixels(let inputs): limits.images = inputs
    }
    return limits
  }
}
