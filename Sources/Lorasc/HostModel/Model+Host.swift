import CSupport

extension Model {
  /// A model of the host's own: nothing but its matrices, which `Layer`s run on the host's
  /// activations. Adapters and trainers are made on it as on any other; what needs a forward
  /// pass of the whole model is refused.
  ///
  /// - Parameter options: of scope "model"; `threads` and `kernels` are read
  /// - Throws: `.argument`, `.shape`, `.nonFinite`, `.outOfMemory`
  public convenience init(host matrices: [HostMatrix], options: Options = Options()) throws {
    guard !matrices.isEmpty else {
      throw LorascError(.argument, "a model needs at least one matrix", subject: "matrices")
    }
    var names: Set<String> = []
    for matrix in matrices {
      try matrix.check()
      guard names.insert(matrix.name).inserted else {
        throw LorascError(.argument, "two matrices are named \(matrix.name)", subject: matrix.name)
      }
    }
    let level = try KernelLevel(option: try options.text("kernels"))
    let kernels = try level.table()
    var backbone = Backbone(
      sizes: .init(
        hidden: 0, intermediate: 0, heads: 1, keyValueHeads: 1, headSize: 1, positions: 0),
      inputs: .tokens(.init(tables: [])), placement: .pre, activation: .relu)
    backbone.matrices = try matrices.map { matrix in
      let stored = try StoredMatrix.of(matrix, kernels)
      guard stored.isFinite else {
        throw LorascError(
          .nonFinite, "\(matrix.name) holds NaN or infinity", subject: matrix.name)
      }
      return MatrixModule(
        name: matrix.name, kind: matrix.isTransposed ? .conv1D : .linear,
        inFeatures: matrix.inFeatures, outFeatures: matrix.outFeatures, weight: stored,
        bias: matrix.bias.map { FloatView(inPlace: $0, count: matrix.outFeatures) })
    }
    self.init(
      hostMatrices: matrices, backbone, level: level,
      products: try MatrixProducts(option: try options.text("products")),
      threads: try options.integer("threads"),
      try ThreadPool.Kind(option: try options.text("thread_pool")))
  }

  /// Its matrices are the host's.
  public var isOfHost: Bool { !hostMatrices.isEmpty }

  /// - Throws: `.state` for a model of the host's, which has no forward pass here
  func requireForward() throws {
    guard isOfHost else { return }
    throw LorascError(
      .state, "the model is the host's own: its layers run one by one (lorasc_layer_forward)",
      subject: "model")
  }

  /// - Throws: `.state` after the merged weights went into the host's memory
  func requireUnmerged() throws {
    guard isOfHost, isMergedIntoHost.load(ordering: .acquiring) else { return }
    throw LorascError(
      .state, "the merged weights are in the host's memory: make a new model of it",
      subject: "model")
  }

  func markMerged() { isMergedIntoHost.store(true, ordering: .releasing) }
}

extension Fingerprint {
  /// Names, shapes and values of the host's matrices.
  init(_ matrices: [HostMatrix]) {
    self.init()
    for matrix in matrices {
      combine(matrix.name)
      combine(UInt64(matrix.outFeatures))
      combine(UInt64(matrix.inFeatures))
      let width = matrix.type == .float32 ? 4 : 2
      for row in 0..<matrix.rows {
        combine(
          UnsafeRawBufferPointer(
            start: matrix.values + row * matrix.rowStride * width, count: matrix.columns * width))
      }
    }
  }
}

extension Architecture {
  /// Matrices without a forward pass of their own.
  static let host = Architecture(
    modelType: "host", prefix: "", baseClass: "", headClasses: [:], defaultTargets: "all-linear",
    classifier: { _ in nil }, tokenClassifier: nil,
    backbone: { _, _ in
      throw LorascError(.architecture, "a model of the host's comes from no folder")
    })
}

extension StoredMatrix {
  /// The host's memory, in place where rows follow each other; else widened, or transposed, once.
  static func of(_ matrix: HostMatrix, _ kernels: lorasc_kernels) throws -> StoredMatrix {
    let isWhole = !matrix.isTransposed && matrix.rowStride == matrix.columns
    if isWhole, matrix.type == .float32 {
      // Safe: because the host promises so many values, aligned (checked), for the model's life.
      let values = UnsafePointer(matrix.values.assumingMemoryBound(to: Float.self))
      return try StoredMatrix(
        FloatView(inPlace: values, count: matrix.count), as: .f32, kernels)
    }
    if isWhole {
      let tensor = StoredTensor(
        name: matrix.name, type: .plain(matrix.type.tensorType),
        shape: [matrix.rows, matrix.columns], elementCount: matrix.count,
        bytes: UnsafeRawBufferPointer(start: matrix.values, count: 2 * matrix.count),
        owner: HostMemory.shared)
      guard let stored = StoredMatrix(tensor, kernels) else {
        throw LorascError(.internal, "\(matrix.name) cannot be held as it is", subject: matrix.name)
      }
      return stored
    }
    let copy = try FloatBuffer(count: matrix.count, what: matrix.name)
    matrix.copy(to: copy.pointer, kernels)
    let view = FloatView(shape: [matrix.rows, matrix.columns], copy)
    return try StoredMatrix(
      matrix.isTransposed ? view.transposed() : view, as: matrix.type.tensorType, kernels)
  }
}

/// Stands for memory that the host keeps.
private final class HostMemory: Sendable {
  static let shared = HostMemory()
}

extension HostMatrix {
  /// Writes the values as float32, as the host's memory has them, without gaps.
  func copy(to out: UnsafeMutablePointer<Float>, _ kernels: lorasc_kernels) {
    for row in 0..<rows {
      let at = out + row * columns
      switch type {
      case .float32:
        at.update(
          from: values.assumingMemoryBound(to: Float.self) + row * rowStride, count: columns)
      case .bfloat16, .float16:
        let bits = values.assumingMemoryBound(to: UInt16.self) + row * rowStride
        (type == .bfloat16 ? kernels.bf16_to_f32 : kernels.f16_to_f32)(bits, at, columns)
      }
    }
  }

  /// Writes float32 values over the host's, rounded once; `from` is as `copy` gives them.
  func replace(from: UnsafePointer<Float>, _ kernels: lorasc_kernels) {
    for row in 0..<rows {
      let at = from + row * columns
      switch type {
      case .float32:
        (values.assumingMemoryBound(to: Float.self) + row * rowStride)
          .update(from: at, count: columns)
      case .bfloat16, .float16:
        let bits = values.assumingMemoryBound(to: UInt16.self) + row * rowStride
        (type == .bfloat16 ? kernels.f32_to_bf16 : kernels.f32_to_f16)(at, bits, columns)
      }
    }
  }
}
