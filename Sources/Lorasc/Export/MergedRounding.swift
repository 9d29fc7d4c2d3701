import CSupport

/// Rounds merged tensors to the element type of the output, once, writes them, and counts what
/// changed.
final class MergedRounding {
  var report = MergeReport()
  private let kernels: lorasc_kernels
  private var changedElements = 0
  private var lostElements = 0

  init(_ kernels: lorasc_kernels) { self.kernels = kernels }

  /// - Parameter base: what the values were before; nil: no part of the report
  /// - Throws: `.nonFinite` with the tensor's name
  func append(
    _ values: FloatBuffer, as type: TensorType, _ name: String, base: FloatView? = nil,
    to writer: SafetensorsWriter
  ) throws {
    let written = try append(values, as: type, name, writer)
    guard let base else { return }
    let untouched = try FloatBuffer(count: base.count, what: name)
    base.withBuffer { _ = untouched.buffer.update(fromContentsOf: $0) }
    _ = try narrowed(untouched, type)
    count(name, values, base, written: written, untouched: untouched)
  }

  /// Writes values, once rounded.
  /// - Returns: what was written, as float32
  private func append(
    _ values: FloatBuffer, as type: TensorType, _ name: String, _ writer: SafetensorsWriter
  ) throws -> FloatBuffer {
    try checkFinite(values, name)
    guard type != .f32 else {
      try withExtendedLifetime(values) { try writer.append(UnsafeBufferPointer(values.buffer)) }
      return values
    }
    let rounded = try FloatBuffer(count: values.count, what: name)
    rounded.pointer.update(from: values.pointer, count: values.count)
    let bits = try narrowed(rounded, type)
    try checkFinite(rounded, name)
    if let bits {
      try withExtendedLifetime(bits) {
        try writer.append(UnsafeRawBufferPointer(rebasing: bits.raw.prefix(values.count * 2)))
      }
    }
    withExtendedLifetime(values) {}
    return rounded
  }

  /// Rounds values in place to an element type.
  /// - Returns: their bits in that type, nil for float32
  private func narrowed(_ values: FloatBuffer, _ type: TensorType) throws -> AlignedBuffer<UInt16>?
  {
    guard type != .f32 else { return nil }
    let bits = try AlignedBuffer<UInt16>(count: values.count, what: "rounded weights")
    if type == .f16 {
      kernels.f32_to_f16(values.pointer, bits.pointer, values.count)
      kernels.f16_to_f32(bits.pointer, values.pointer, values.count)
    } else {
      kernels.f32_to_bf16(values.pointer, bits.pointer, values.count)
      kernels.bf16_to_f32(bits.pointer, values.pointer, values.count)
    }
    return bits
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
