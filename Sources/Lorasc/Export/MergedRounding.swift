import CSupport

/// Rounds merged tensors to the element type of the output, once, hands them out, and counts
/// what changed.
final class MergedRounding {
  var report = MergeReport()
  private let kernels: lorasc_kernels
  private var changedElements = 0
  private var lostElements = 0

  init(_ kernels: lorasc_kernels) { self.kernels = kernels }

  /// Values in an element type, and as that type reads back.
  private struct Encoded {
    let bytes: UnsafeRawBufferPointer
    /// Keeps `bytes`.
    let owner: AnyObject
    let values: FloatBuffer
  }

  /// Hands out values in an element type: f32, f16, bf16 or Q8_0.
  /// - Parameter base: what the values were before; nil: no part of the report
  /// - Throws: `.nonFinite` with the tensor's name, `.unsupported` for other types
  func write(
    _ values: FloatBuffer, as type: StoredType, _ name: String, base: FloatView? = nil,
    to write: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    try checkFinite(values, name)
    let encoded = try encoded(values, as: type, name)
    try checkFinite(encoded.values, name)
    try withExtendedLifetime(encoded.owner) { try write(encoded.bytes) }
    guard let base else { return }
    let untouched = try FloatBuffer(count: base.count, what: name)
    base.withBuffer { _ = untouched.buffer.update(fromContentsOf: $0) }
    count(
      name, values, base, written: encoded.values,
      untouched: try self.encoded(untouched, as: type, name).values)
  }

  private func encoded(_ values: FloatBuffer, as type: StoredType, _ name: String) throws -> Encoded
  {
    let bytes: UnsafeRawBufferPointer
    let owner: AnyObject
    switch type {
    case .plain(.f32):
      return Encoded(bytes: values.raw, owner: values, values: values)
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
    withExtendedLifetime((values, owner)) {
      BlockReader(type, bytes, kernels)?.copy(0..<values.count, to: back.pointer)
    }
    return Encoded(bytes: bytes, owner: owner, values: back)
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
    if changedElements > 0 { report.roundedAway = Double(lostElements) / Double(changedElements) }
    report.maxChange = max(report.maxChange, Double(largest))
    report.changes.append(
      TensorChange(
        name: name, elements: merged.count, changed: changed, maxChange: Double(largest),
        roundedAway: changed > 0 ? Double(lost) / Double(changed) : 0))
  }

  private func checkFinite(_ values: FloatBuffer, _ name: String) throws {
    guard kernels.max_abs(values.pointer, values.count).isFinite else {
      throw LorascError(
        .nonFinite, "merged \(name) holds NaN or infinity, or values beyond its element type",
        subject: name)
    }
  }
}
