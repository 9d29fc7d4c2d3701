import CSupport

/// The merged view tensor by tensor, and what it changes.
final class MergedWeights {
  private let adapter: Adapter
  private let model: Model
  private let compute: Compute
  private let sources: [String: Source]
  private var report = MergeReport()
  private var changedElements = 0
  private var lostElements = 0

  /// Where a tensor's merged values come from.
  private enum Source {
    case matrix(Int)
    /// - Parameter matrix: that the parameter stands for, if it does
    case full(Int, matrix: Int?)
  }

  /// Values in an element type, and as that type reads back.
  private struct Encoded {
    let bytes: UnsafeRawBufferPointer
    /// Keeps `bytes`.
    let owner: AnyObject
    let values: FloatBuffer
  }

  init(_ adapter: Adapter) throws {
    self.adapter = adapter
    model = adapter.model
    compute = try model.compute(threads: model.threads)
    var sources: [String: Source] = [:]
    for matrix in adapter.targets.map(\.matrix) + adapter.masters.keys {
      sources[model.matrices[matrix].name + ".weight"] = .matrix(matrix)
    }
    for full in adapter.fullParameters where !full.place.isHead {
      let matrix: Int? = if case .weight(let index) = full.place { index } else { nil }
      sources[adapter.parameters.list[full.parameter].name] = .full(full.parameter, matrix: matrix)
    }
    self.sources = sources
  }

  /// The report of everything that was written.
  func finished(tensors: Int) -> MergeReport {
    report.tensors = tensors
    if changedElements > 0 { report.roundedAway = Double(lostElements) / Double(changedElements) }
    return report
  }

  /// Whether the adapter may change the tensor.
  func mayChange(_ tensor: StoredTensor) -> Bool { sources[model.bareName(tensor.name)] != nil }

  /// Hands out a tensor of the base, merged in float32 and rounded once.
  /// - Parameters:
  ///   - type: f32, f16, bf16, Q8_0; or the tensor's own, where the adapter doesn't change it
  ///   - asStored: in the layout of the base's file, else in that of transformers
  func write(
    _ tensor: StoredTensor, as type: StoredType, asStored: Bool,
    to write: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    let source = sources[model.bareName(tensor.name)]
    if source == nil, type == tensor.type, asStored || tensor.layout == .same {
      return try withExtendedLifetime(tensor.owner) { try write(tensor.bytes) }
    }
    let base = try (asStored ? tensor.asStored : tensor).float32()
    let merged = try FloatBuffer(count: base.count, what: tensor.name)
    switch source {
    case .matrix(let matrix):
      try adapter.weight(ofMatrix: matrix, .merged, into: merged.pointer, compute)
      try model.asStored(matrix, merged)
    case .full(let parameter, let matrix):
      adapter.fullValue(parameter, .merged, into: merged.pointer)
      if let matrix { try model.asStored(matrix, merged) }
    case nil:
      base.withBuffer { _ = merged.buffer.update(fromContentsOf: $0) }
    }
    if asStored, source != nil { try tensor.layout.store(merged, shape: tensor.shape) }
    let written = try self.write(merged, as: type, tensor.name, to: write)
    guard source != nil else { return }
    let untouched = try FloatBuffer(count: base.count, what: tensor.name)
    base.withBuffer { _ = untouched.buffer.update(fromContentsOf: $0) }
    count(
      tensor.name, merged, base, written: written,
      untouched: try encoded(untouched, as: type, tensor.name).values)
  }

  /// Hands out a tensor of the head.
  func write(
    head parameter: Int, as type: StoredType, to write: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    let description = adapter.parameters.list[parameter]
    let values = try FloatBuffer(count: description.count, what: description.name)
    adapter.fullValue(parameter, .merged, into: values.pointer)
    _ = try self.write(values, as: type, description.name, to: write)
  }

  /// - Returns: what was written, as float32
  private func write(
    _ values: FloatBuffer, as type: StoredType, _ name: String,
    to write: (UnsafeRawBufferPointer) throws -> Void
  ) throws -> FloatBuffer {
    try checkFinite(values, name)
    let encoded = try encoded(values, as: type, name)
    try checkFinite(encoded.values, name)
    try withExtendedLifetime(encoded.owner) { try write(encoded.bytes) }
    return encoded.values
  }

  private func encoded(_ values: FloatBuffer, as type: StoredType, _ name: String) throws -> Encoded
  {
    let kernels = compute.kernels
    guard type != .plain(.f32) else {
      return Encoded(bytes: values.raw, owner: values, values: values)
    }
    let bytes: UnsafeRawBufferPointer
    let owner: AnyObject
    switch type {
    case .plain(.f16), .plain(.bf16):
      let bits = try AlignedBuffer<UInt16>(count: values.count, what: "rounded weights")
      let round = type == .plain(.f16) ? kernels.f32_to_f16 : kernels.f32_to_bf16
      round(values.pointer, bits.pointer, values.count)
      (bytes, owner) = (bits.raw, bits)
    case .quantized(.q8_0):
      let (elements, size) = GGMLType.q8_0.block
      let count = values.count / elements
      let blocks = try AlignedBuffer<UInt8>(count: count * size, what: "quantised weights")
      kernels.quantize_q8_0(values.pointer, blocks.pointer, count)
      (bytes, owner) = (blocks.raw, blocks)
    default:
      throw LorascError(
        .unsupported, "\(name): merged weights cannot be written as \(type.name)", subject: name)
    }
    let back = try FloatBuffer(count: values.count, what: name)
    withExtendedLifetime(owner) {
      BlockReader(type, bytes, kernels)?.copy(0..<values.count, to: back.pointer)
    }
    return Encoded(bytes: bytes, owner: owner, values: back)
  }

  private func checkFinite(_ values: FloatBuffer, _ name: String) throws {
    guard compute.kernels.max_abs(values.pointer, values.count).isFinite else {
      throw LorascError(
        .nonFinite, "merged \(name) holds NaN or infinity, or values beyond its element type",
        subject: name)
    }
  }

  /// - Parameter untouched: what a merge without the adapter would have written
  private func count(
    _ name: String, _ merged: FloatBuffer, _ base: FloatView, written: FloatBuffer,
    untouched: FloatBuffer
  ) {
    defer { withExtendedLifetime((merged, base, written, untouched)) {} }
    var changed = 0
    var lost = 0
    var largest: Float = 0
    for index in 0..<merged.count {
      let before = base.pointer[index]
      guard merged.pointer[index] != before else { continue }
      changed += 1
      if written.pointer[index] == untouched.pointer[index] { lost += 1 }
      largest = max(largest, abs(merged.pointer[index] - before))
    }
    if changed > lost { report.changed += 1 }
    changedElements += changed
    lostElements += lost
    report.maxChange = max(report.maxChange, Double(largest))
    report.changes.append(
      TensorChange(
        name: name, elements: merged.count, changed: changed, maxChange: Double(largest),
        roundedAway: changed > 0 ? Double(lost) / Double(changed) : 0))
  }
}

extension Model {
  /// Values of a matrix from the module's layout to that of transformers' files.
  fileprivate func asStored(_ matrix: Int, _ values: FloatBuffer) throws {
    let module = matrices[matrix]
    guard module.kind == .conv1D else { return }
    try TensorLayout.transposed.store(values, shape: [module.rows, module.columns])
  }
}
