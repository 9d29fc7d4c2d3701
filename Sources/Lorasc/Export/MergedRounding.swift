import CSupport

/// Rounds merged tensors to the element type of the output, once, hands them out, and counts
/// what changed.
final class MergedRounding {
  var report = MergeReport()
  private let compute: Compute
  private var changedElements = 0
  private var lostElements = 0
  /// Per lane two parts of a tensor, as the output reads back.
  private let scratch: FloatBuffer

  /// Elements that are worked on at a time: whole blocks of every type.
  private static let part = 1 << 15

  init(_ compute: Compute) throws {
    self.compute = compute
    scratch = try FloatBuffer(count: 2 * Self.part * compute.threads, what: "rounded weights")
  }

  /// What a part of a tensor has become.
  private struct Part {
    var isFinite = true
    var changed = 0
    var lost = 0
    var largest: Float = 0
  }

  /// Hands out values in an element type: f32, f16, bf16 or Q8_0.
  /// - Parameter base: what the values were before; nil: no part of the report
  /// - Throws: `.nonFinite` with the tensor's name, `.unsupported` for other types
  func write(
    _ values: FloatBuffer, as type: StoredType, _ name: String, base: FloatView? = nil,
    to write: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    let output = try Output(type, values, name)
    let count = values.count
    var parts = [Part](repeating: Part(), count: (count + Self.part - 1) / Self.part)
    parts.withUnsafeMutableBufferPointer { parts in
      // Safe: because each task writes its own part alone.
      nonisolated(unsafe) let parts = parts
      withExtendedLifetime((values, output, base)) {
        compute.forTasks(parts.count) { task, lane in
          let start = task * Self.part
          parts[task] = part(
            start..<min(count, start + Self.part), values, base?.pointer, output, lane)
        }
      }
    }
    guard parts.allSatisfy(\.isFinite) else {
      throw LorascError(
        .nonFinite, "merged \(name) holds NaN or infinity, or values beyond its element type",
        subject: name)
    }
    try withExtendedLifetime(output) { try write(output.bytes) }
    if base != nil { add(parts, name, elements: count) }
  }

  private func part(
    _ range: Range<Int>, _ values: FloatBuffer, _ base: UnsafePointer<Float>?, _ output: Output,
    _ lane: Int
  ) -> Part {
    let kernels = compute.kernels
    let merged = UnsafePointer(values.pointer + range.lowerBound)
    var part = Part()
    func isFinite(_ values: UnsafePointer<Float>) -> Bool {
      kernels.max_abs(values, range.count).isFinite
    }
    let own = scratch.pointer + 2 * Self.part * lane
    part.isFinite = isFinite(merged)
    if let encode = output.encode {
      encode(merged, range, kernels)
      output.read(range, kernels, to: own)
      part.isFinite = part.isFinite && isFinite(own)
    }
    guard let base = base.map({ $0 + range.lowerBound }) else { return part }
    Self.compare(merged, base, range.count, &part)
    if part.changed > 0, output.encode != nil {
      let untouched = own + Self.part
      output.readAsRounded(base, range.count, kernels, to: untouched)
      for index in 0..<range.count
      where merged[index] != base[index] && own[index] == untouched[index] {
        part.lost += 1
      }
    }
    return part
  }

  /// Counts and measures what differs.
  private static func compare(
    _ merged: UnsafePointer<Float>, _ base: UnsafePointer<Float>, _ count: Int, _ part: inout Part
  ) {
    typealias Lanes = SIMD8<Float>
    var changed = SIMD8<Int32>()
    var largest = Lanes()
    let whole = count / Lanes.scalarCount * Lanes.scalarCount
    for index in stride(from: 0, to: whole, by: Lanes.scalarCount) {
      // Safe: because index + 8 <= count.
      let after = UnsafeRawPointer(merged + index).loadUnaligned(as: Lanes.self)
      let before = UnsafeRawPointer(base + index).loadUnaligned(as: Lanes.self)
      let change = after - before
      let size = change.replacing(with: -change, where: change .< 0)
      largest = largest.replacing(with: size, where: size .> largest)
      changed &+= SIMD8<Int32>().replacing(with: 1, where: after .!= before)
    }
    part.changed = Int(changed.wrappedSum())
    part.largest = largest.max()
    for index in whole..<count where merged[index] != base[index] {
      part.changed += 1
      part.largest = max(part.largest, abs(merged[index] - base[index]))
    }
  }

  private func add(_ parts: [Part], _ name: String, elements: Int) {
    let changed = parts.reduce(0) { $0 + $1.changed }
    let lost = parts.reduce(0) { $0 + $1.lost }
    let largest = Double(parts.map(\.largest).max() ?? 0)
    if changed > lost { report.changed += 1 }
    changedElements += changed
    lostElements += lost
    if changedElements > 0 { report.roundedAway = Double(lostElements) / Double(changedElements) }
    report.maxChange = max(report.maxChange, largest)
    report.changes.append(
      TensorChange(
        name: name, elements: elements, changed: changed, maxChange: largest,
        roundedAway: changed > 0 ? Double(lost) / Double(changed) : 0))
  }
}

/// A tensor's bytes in the output's element type, made part by part.
private final class Output {
  let bytes: UnsafeRawBufferPointer
  /// Rounds elements `range`, given from the first of them on; nil: they are written as they are.
  let encode: ((UnsafePointer<Float>, Range<Int>, lorasc_kernels) -> Void)?
  private let type: StoredType
  /// Keeps `bytes`.
  private let owner: AnyObject

  init(_ type: StoredType, _ values: FloatBuffer, _ name: String) throws {
    self.type = type
    switch type {
    case .plain(.f32): (bytes, owner, encode) = (values.raw, values, nil)
    case .plain(.f16), .plain(.bf16):
      let bits = try AlignedBuffer<UInt16>(count: values.count, what: "rounded weights")
      (bytes, owner) = (bits.raw, bits)
      let start = bits.pointer
      encode = {
        Self.encode($0, type, $1.count, $2, UnsafeMutableRawPointer(start + $1.lowerBound))
      }
    case .quantized(.q8_0):
      let (elements, size) = GGMLType.q8_0.block
      let blocks = try AlignedBuffer<UInt8>(
        count: values.count / elements * size, what: "quantised weights")
      (bytes, owner) = (blocks.raw, blocks)
      let start = blocks.pointer
      encode = {
        Self.encode(
          $0, type, $1.count, $2, UnsafeMutableRawPointer(start + $1.lowerBound / elements * size))
      }
    default:
      throw LorascError(
        .unsupported, "\(name): merged weights cannot be written as \(type.name)", subject: name)
    }
  }

  private static func encode(
    _ values: UnsafePointer<Float>, _ type: StoredType, _ count: Int, _ kernels: lorasc_kernels,
    _ out: UnsafeMutableRawPointer
  ) {
    // Safe: because `out` has room for `count` elements of the type and is aligned to it.
    switch type {
    case .plain(.f16): kernels.f32_to_f16(values, out.assumingMemoryBound(to: UInt16.self), count)
    case .plain(.bf16):
      kernels.f32_to_bf16(values, out.assumingMemoryBound(to: UInt16.self), count)
    default:
      kernels.quantize_q8_0(
        values, out.assumingMemoryBound(to: UInt8.self), count / GGMLType.q8_0.block.elements)
    }
  }

  /// Elements `range` as they read back.
  func read(_ range: Range<Int>, _ kernels: lorasc_kernels, to out: UnsafeMutablePointer<Float>) {
    BlockReader(type, bytes, kernels)?.copy(range, to: out)
  }

  /// Other values as they would read back.
  func readAsRounded(
    _ values: UnsafePointer<Float>, _ count: Int, _ kernels: lorasc_kernels,
    to out: UnsafeMutablePointer<Float>
  ) {
    // No type takes more bytes than float32.
    withUnsafeTemporaryAllocation(of: Float.self, capacity: count) { room in
      guard let start = room.baseAddress else { return }
      Self.encode(values, type, count, kernels, UnsafeMutableRawPointer(start))
      BlockReader(type, UnsafeRawBufferPointer(room), kernels)?.copy(0..<count, to: out)
    }
  }
}
