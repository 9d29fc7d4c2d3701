import CSupport

/// A model's tensors under the names of its bare backbone, whatever prefix the file uses
/// ("bert.encoder…" in a BertForSequenceClassification, "encoder…" in a BertModel).
struct NamedTensors {
  let store: TensorStore
  /// "bert." or "".
  let prefix: String
  /// What matrices are held in; nil: as they are stored.
  private let type: TensorType?
  private let kernels: lorasc_kernels

  init(_ store: TensorStore, prefix: String, type: TensorType?, kernels: lorasc_kernels) {
    self.store = store
    self.type = type
    self.kernels = kernels
    self.prefix = store.names.contains { $0.hasPrefix(prefix) } ? prefix : ""
  }

  func contains(_ name: String) -> Bool { store.contains(prefix + name) }

  /// One more than the largest index in names as `<stem>.<index>.…`.
  func layers(_ stem: String) -> Int {
    let start = prefix + stem + "."
    let indices = store.names.lazy.filter { $0.hasPrefix(start) }.compactMap {
      Int32($0.dropFirst(start.count).prefix { $0 != "." })
    }
    return (indices.max().map { Int($0) } ?? -1) + 1
  }

  /// - Throws: `.notFound`, `.format` for another shape, `.nonFinite` for NaN or infinity.
  func float32(_ name: String, shape: [Int]) throws -> FloatView {
    try plain(prefix + name, shape: shape)
  }

  /// A tensor outside the backbone, under its full name.
  func plain(_ name: String, shape: [Int]) throws -> FloatView {
    _ = try checked(name, shape)
    let view = try store.float32(name)
    let largest = view.withBuffer { _ in kernels.max_abs(view.pointer, view.count) }
    guard largest.isFinite else { throw nonFinite(name) }
    return view
  }

  /// A matrix as it will be held.
  func matrix(_ name: String, shape: [Int]) throws -> StoredMatrix {
    try plainMatrix(prefix + name, shape: shape)
  }

  /// The same as float32 always.
  func float32Matrix(_ name: String, shape: [Int]) throws -> StoredMatrix {
    try StoredMatrix(float32(name, shape: shape), as: .f32, kernels)
  }

  func plainMatrix(_ name: String, shape: [Int]) throws -> StoredMatrix {
    try held(try checked(name, shape))
  }

  /// A matrix whose file may hold it with rows and columns exchanged.
  /// - Parameter shape: as transformers has it; the matrix is the transposed one
  func transposedMatrix(_ name: String, shape: [Int]) throws -> StoredMatrix {
    let tensor = try checked(prefix + name, shape)
    // What transformers would transpose lies in the file as it is wanted.
    if tensor.layout == .transposed { return try held(tensor.asStored) }
    let view = try float32(name, shape: shape).transposed()
    return try StoredMatrix(view, as: wanted(tensor), kernels)
  }

  private func held(_ tensor: StoredTensor) throws -> StoredMatrix {
    let isKept = type.map { tensor.type == .plain($0) } ?? true
    let own = isKept ? StoredMatrix(tensor, kernels) : nil
    let result =
      try own
      ?? namingFile(store.path) { try StoredMatrix(tensor.float32(), as: wanted(tensor), kernels) }
    guard result.isFinite else { throw nonFinite(tensor.name) }
    return result
  }

  /// The type that values are held in where they are not kept as stored.
  private func wanted(_ tensor: StoredTensor) -> TensorType {
    if let type { return type }
    if case .plain(let stored) = tensor.type, [.f16, .bf16].contains(stored) { return stored }
    return .f32
  }

  private func checked(_ name: String, _ shape: [Int]) throws -> StoredTensor {
    let tensor = try store.tensor(name)
    guard tensor.shape == shape else {
      throw LorascError(
        .format,
        "\(store.path): tensor \(name) has shape \(tensor.shape), the configuration says \(shape)",
        subject: name)
    }
    return tensor
  }

  private func nonFinite(_ name: String) -> LorascError {
    LorascError(
      .nonFinite, "\(store.path): tensor \(name) holds NaN or infinity", subject: name)
  }
}
