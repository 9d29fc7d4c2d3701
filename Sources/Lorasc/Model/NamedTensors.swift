import CSupport

/// A model's tensors under the names of its bare backbone, whatever prefix the file uses
/// ("bert.encoder…" in a BertForSequenceClassification, "encoder…" in a BertModel).
struct NamedTensors {
  let store: TensorStore
  /// "bert." or "".
  let prefix: String
  private let maxAbs: (UnsafePointer<Float>, Int) -> Float

  init(_ store: TensorStore, prefix: String, kernels: lorasc_kernels) {
    self.store = store
    self.prefix = store.names.contains { $0.hasPrefix(prefix) } ? prefix : ""
    maxAbs = { kernels.max_abs($0, $1) }
  }

  func contains(_ name: String) -> Bool { store.contains(prefix + name) }

  /// - Throws: `.notFound`, `.format` for another shape, `.nonFinite` for NaN or infinity.
  func float32(_ name: String, shape: [Int]) throws -> FloatView {
    try Self.checked(store, prefix + name, shape: shape, maxAbs)
  }

  /// A tensor outside the encoder, under its full name.
  func plain(_ name: String, shape: [Int]) throws -> FloatView {
    try Self.checked(store, name, shape: shape, maxAbs)
  }

  private static func checked(
    _ store: TensorStore, _ name: String, shape: [Int],
    _ maxAbs: (UnsafePointer<Float>, Int) -> Float
  ) throws -> FloatView {
    let view = try store.float32(name)
    guard view.shape == shape else {
      throw LorascError(
        .format, "\(store.path): tensor \(name) has shape \(view.shape), config.json says \(shape)",
        subject: name)
    }
    guard withExtendedLifetime(view, { maxAbs(view.pointer, view.count) }).isFinite else {
      throw LorascError(
        .nonFinite, "\(store.path): tensor \(name) holds NaN or infinity", subject: name)
    }
    return view
  }
}
