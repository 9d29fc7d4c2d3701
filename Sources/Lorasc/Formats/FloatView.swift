/// A tensor's values as float32: in place in the file where they lie there aligned as
/// F32, else a converted copy of its own.
///
/// F16 and BF16 convert exactly (also infinities, subnormals and NaN payloads); F64 is
/// rounded to the nearest, values beyond float32 become infinite.
///
/// `pointer` and `buffer` are valid while the view is alive. Swift may release an object
/// after its last use: keep the view in a stored property, or use `withBuffer`.
final class FloatView: @unchecked Sendable {
  let shape: [Int]
  let count: Int
  let pointer: UnsafePointer<Float>
  /// True when the values are the file's own bytes.
  let isInPlace: Bool
  /// Keeps `pointer` valid: the file or the buffer.
  private let owner: AnyObject

  var buffer: UnsafeBufferPointer<Float> { UnsafeBufferPointer(start: pointer, count: count) }

  /// Keeps the view alive while `body` runs.
  func withBuffer<Result>(
    _ body: (UnsafeBufferPointer<Float>) throws -> Result
  ) rethrows -> Result {
    try withExtendedLifetime(self) { try body(buffer) }
  }

  /// Where the values are a mapped file's own, lets the system take their pages.
  func releasePages() {
    (owner as? MappedFile)?.releasePages(UnsafeRawBufferPointer(buffer))
  }

  /// A copy.
  var values: [Float] { withBuffer { Array($0) } }

  /// A matrix with rows and columns exchanged, in memory of its own.
  func transposed() throws -> FloatView {
    guard shape.count == 2 else {
      throw LorascError(.format, "a tensor of shape \(shape) cannot be transposed")
    }
    let (rows, columns) = (shape[0], shape[1])
    let copy = try FloatBuffer(count: count, what: "transposed tensor")
    withBuffer { _ in transpose(pointer, rows: rows, columns: columns, to: copy.pointer) }
    return FloatView(shape: [columns, rows], copy)
  }

  /// Memory that stays valid by itself.
  init(inPlace values: UnsafePointer<Float>, count: Int) {
    shape = [count]
    self.count = count
    pointer = values
    isInPlace = true
    owner = Nothing.shared
  }

  private final class Nothing: Sendable { static let shared = Nothing() }

  init(shape: [Int], _ values: FloatBuffer) {
    self.shape = shape
    count = values.count
    pointer = UnsafePointer(values.pointer)
    isInPlace = false
    owner = values
  }

  /// The values in the file's order.
  /// - Throws: `.unsupported` for a type that holds no such floats; `.outOfMemory`.
  init(_ tensor: StoredTensor) throws {
    shape = tensor.shape
    count = tensor.elementCount
    let bytes = tensor.bytes
    if tensor.type == .plain(.f32), let start = bytes.baseAddress, Int(bitPattern: start) % 4 == 0 {
      // Safe: because the span holds elementCount floats and starts aligned; it is
      // only read, and as nothing else than floats.
      pointer = start.assumingMemoryBound(to: Float.self)
      isInPlace = true
      owner = tensor.owner
      return
    }
    func unreadable() -> LorascError {
      LorascError(
        .unsupported,
        "tensor \(quoted(tensor.name)): \(tensor.type.name) cannot be read as float32",
        subject: tensor.name)
    }
    guard tensor.type.isFloat else { throw unreadable() }
    let copy = try FloatBuffer(count: tensor.elementCount, what: tensor.name)
    switch tensor.type {
    case .plain(let type):
      Self.convert(bytes, type, to: copy.pointer, count: tensor.elementCount)
    case .quantized:
      // The same bits at each level.
      let kernels = try KernelLevel.best.table()
      guard let reader = BlockReader(tensor.type, bytes, kernels) else { throw unreadable() }
      reader.copy(0..<tensor.elementCount, to: copy.pointer)
    }
    pointer = UnsafePointer(copy.pointer)
    isInPlace = false
    owner = copy
  }

  /// Rows of a matrix, or elements of a vector, in another order, in memory of its own.
  /// - Parameter source: which row becomes row i
  func rows(_ source: (Int) -> Int) throws -> FloatView {
    let columns = count / max(1, shape.first ?? 1)
    let copy = try FloatBuffer(count: count, what: "reordered tensor")
    withBuffer { _ in
      for row in 0..<(columns > 0 ? count / columns : 0) {
        (copy.pointer + row * columns).update(from: pointer + source(row) * columns, count: columns)
      }
    }
    return FloatView(shape: shape, copy)
  }

  /// Safe: because the callers give `count` elements of `type` in `bytes` (checked when
  /// the header was read) and as many floats at `out`.
  private static func convert(
    _ bytes: UnsafeRawBufferPointer, _ type: TensorType, to out: UnsafeMutablePointer<Float>,
    count: Int
  ) {
    switch type {
    case .f16:
      for index in 0..<count {
        out[index] = float(half: bytes.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self))
      }
    case .bf16:
      for index in 0..<count {
        let bits = bytes.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self)
        out[index] = Float(bitPattern: UInt32(bits) << 16)
      }
    case .f64:
      for index in 0..<count {
        out[index] = Float(bytes.loadUnaligned(fromByteOffset: index * 8, as: Double.self))
      }
    default:
      UnsafeMutableRawBufferPointer(start: out, count: count * 4).copyMemory(from: bytes)
    }
  }

  /// IEEE half to single. Normal numbers: the exponent is rebiased by 127 − 15 after
  /// the 10 fraction bits have moved up by 13. Subnormals: fraction × 2⁻²⁴, exact.
  @inline(__always)
  static func float(half: UInt16) -> Float {
    let sign = UInt32(half & 0x8000) << 16
    let magnitude = UInt32(half & 0x7FFF)
    if magnitude >= 0x7C00 {
      return Float(bitPattern: sign | 0x7F80_0000 | (magnitude & 0x3FF) << 13)
    }
    if magnitude >= 0x0400 {
      return Float(bitPattern: sign | (magnitude << 13 &+ 112 << 23))
    }
    let value = Float(Int32(bitPattern: magnitude)) * 0x1p-24
    return Float(bitPattern: sign | value.bitPattern)
  }
}
