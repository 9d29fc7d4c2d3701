import CSupport

/// A frozen matrix as it is held in memory: float32, or 16-bit floats that are widened, exactly,
/// where they are used. Often the file's own bytes.
final class StoredMatrix: @unchecked Sendable {
  let count: Int
  private let storage: Storage
  private let kernels: lorasc_kernels

  private enum Storage {
    case float32(FloatView)
    /// - Parameter owner: keeps the bits
    case half(UnsafePointer<UInt16>, TensorType, owner: AnyObject)
  }

  /// The values in place, where they are float32.
  var float32: UnsafePointer<Float>? {
    if case .float32(let view) = storage { view.pointer } else { nil }
  }

  /// Fewer than 16 bits an element.
  var isQuantized: Bool { bytes < 2 * count }

  /// Bytes of the values.
  var bytes: Int { float32 == nil ? 2 * count : 4 * count }

  /// - Parameter type: f32, bf16 or f16; to the 16-bit types values are rounded to nearest.
  init(_ values: FloatView, as type: TensorType, _ kernels: lorasc_kernels) throws {
    count = values.count
    self.kernels = kernels
    guard type != .f32 else {
      storage = .float32(values)
      return
    }
    let bits = try AlignedBuffer<UInt16>(count: values.count, what: "16-bit weights")
    let convert = type == .f16 ? kernels.f32_to_f16 : kernels.f32_to_bf16
    values.withBuffer { convert(values.pointer, bits.pointer, $0.count) }
    storage = .half(UnsafePointer(bits.pointer), type, owner: bits)
  }

  /// The file's own 16-bit floats.
  /// - Parameter owner: keeps `bits`
  init(
    bits: UnsafePointer<UInt16>, count: Int, _ type: TensorType, owner: AnyObject,
    _ kernels: lorasc_kernels
  ) {
    self.count = count
    self.kernels = kernels
    storage = .half(bits, type, owner: owner)
  }

  /// Writes the elements of a range as float32.
  func copy(_ range: Range<Int>, to out: UnsafeMutablePointer<Float>) {
    switch storage {
    case .float32(let view):
      view.withBuffer { _ in
        out.update(from: view.pointer + range.lowerBound, count: range.count)
      }
    case .half(let bits, let type, _):
      let widen = type == .f16 ? kernels.f16_to_f32 : kernels.bf16_to_f32
      widen(bits + range.lowerBound, out, range.count)
    }
  }

  func copy(to out: UnsafeMutablePointer<Float>) { copy(0..<count, to: out) }

  /// The values as float32, in place or in memory of their own.
  func withFloats<Result>(_ body: (UnsafePointer<Float>) throws -> Result) throws -> Result {
    try withExtendedLifetime(self) {
      if let float32 { return try body(float32) }
      let copy = try FloatBuffer(count: count, what: "widened weights")
      self.copy(to: copy.pointer)
      return try withExtendedLifetime(copy) { try body(copy.pointer) }
    }
  }

  /// True where no value is NaN or infinite.
  var isFinite: Bool {
    let step = 1 << 16
    return withUnsafeTemporaryAllocation(of: Float.self, capacity: step) { part in
      guard let start = part.baseAddress else { return false }
      return stride(from: 0, to: count, by: step).allSatisfy { first in
        let end = min(count, first + step)
        copy(first..<end, to: start)
        return kernels.max_abs(start, end - first).isFinite
      }
    }
  }
}
