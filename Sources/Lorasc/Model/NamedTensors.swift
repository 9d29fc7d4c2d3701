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
    try check(name, shape)
    let view = try store.float32(name)
    let largest = view.withBuffer { _ in kernels.max_abs(view.pointer, view.count) }
    guard largest.isFinite else { throw nonFinite(name) }
    return view
  }

  /// A matrix as it will be held.
  func matrix(_ name: String, shape: [Int]) throws -> StoredMatrix {
    try plainMatrix(prefix + name, shape: shape)
  }

  func plainMatrix(_ name: String, shape: [Int]) throws -> StoredMatrix {
    try check(name, shape)
    let entry = try store.entry(name)
    let wanted = held(entry.type)
    var matrix: StoredMatrix?
    if wanted == entry.type, wanted != .f32 {
      let bytes = try store.bytes(name)
      // Safe: because the span holds the shape's product of 16-bit elements, checked when the
      // header was read; a start that isn't aligned takes the other way.
      if let start = bytes.baseAddress, Int(bitPattern: start) % 2 == 0 {
        matrix = StoredMatrix(
          bits: start.assumingMemoryBound(to: UInt16.self), count: entry.elementCount, wanted,
          owner: store, kernels)
      }
    }
    let result = try matrix ?? StoredMatrix(try store.float32(name), as: wanted, kernels)
    guard result.isFinite else { throw nonFinite(name) }
    return result
  }

  /// A matrix whose file holds it with rows and columns exchanged.
  /// - Parameter shape: in the file
  func transposedMatrix(_ name: String, shape: [Int]) throws -> StoredMatrix {
    let view = try float32(name, shape: shape).transposed()
    return try StoredMatrix(view, as: held(try store.entry(prefix + name).type), kernels)
  }

  private func held(_ stored: TensorType) -> TensorType {
    type ?? ([.f16, .bf16].contains(stored) ? stored : .f32)
  }

  private func check(_ name: String, _ shape: [Int]) throws {
    let found = try store.entry(name).shape
    guard found == shape else {
      throw LorascError(
        .format, "\(store.path): tensor \(name) has shape \(found), config.json says \(shape)",
        subject: name)
    }
  }

  private func nonFinite(_ name: String) -> LorascError {
    LorascError(
      .nonFinite, "\(store.path): tensor \(name) holds NaN or infinity", subject: name)
  }
}
