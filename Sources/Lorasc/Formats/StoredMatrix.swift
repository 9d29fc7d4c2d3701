import CSupport

/// A frozen matrix as it is held in memory: float32, or 16-bit floats or quantised blocks that
/// are widened, exactly, where they are used. Often the file's own bytes.
final class StoredMatrix: @unchecked Sendable {
  let count: Int
  /// Of the values.
  let bytes: Int
  private let storage: Storage
  private let kernels: lorasc_kernels

  private enum Storage {
    case float32(FloatView)
    /// - Parameter owner: keeps what the reader reads
    case blocks(BlockReader, TensorLayout, columns: Int, owner: AnyObject)
  }

  /// The values in place, where they are float32.
  var float32: UnsafePointer<Float>? {
    if case .float32(let view) = storage { view.pointer } else { nil }
  }

  /// Fewer than 16 bits an element.
  var isQuantized: Bool { bytes < 2 * count }

  /// - Parameter type: f32, bf16 or f16; to the 16-bit types values are rounded to nearest.
  init(_ values: FloatView, as type: TensorType, _ kernels: lorasc_kernels) throws {
    count = values.count
    self.kernels = kernels
    guard type != .f32 else {
      storage = .float32(values)
      bytes = 4 * values.count
      return
    }
    let bits = try AlignedBuffer<UInt16>(count: values.count, what: "16-bit weights")
    let convert = type == .f16 ? kernels.f32_to_f16 : kernels.f32_to_bf16
    values.withBuffer { convert(values.pointer, bits.pointer, $0.count) }
    guard let reader = BlockReader(.plain(type), bits.raw, kernels) else {
      throw LorascError(.internal, "weights cannot be held as \(type.rawValue)")
    }
    storage = .blocks(reader, .same, columns: values.count, owner: bits)
    bytes = bits.raw.count
  }

  /// The file's own 16-bit floats or quantised blocks; nil for other types, transposed matrices
  /// and 16-bit floats at an odd address.
  init?(_ tensor: StoredTensor, _ kernels: lorasc_kernels) {
    guard tensor.layout != .transposed,
      let reader = BlockReader(tensor.type, tensor.bytes, kernels)
    else { return nil }
    count = tensor.elementCount
    bytes = tensor.bytes.count
    self.kernels = kernels
    storage = .blocks(
      reader, tensor.layout, columns: max(1, tensor.shape.last ?? 1), owner: tensor.owner)
  }

  /// The values won't be read for a while: where they are a mapped file's own, the system may take
  /// their pages.
  func releasePages() {
    switch storage {
    case .float32(let view): view.releasePages()
    case .blocks(let reader, _, _, let owner): reader.releasePages(of: owner)
    }
  }

  /// Writes the elements of a range as float32.
  func copy(_ range: Range<Int>, to out: UnsafeMutablePointer<Float>) {
    switch storage {
    case .float32(let view):
      view.withBuffer { _ in
        out.update(from: view.pointer + range.lowerBound, count: range.count)
      }
    case .blocks(let reader, .same, _, _): reader.copy(range, to: out)
    case .blocks(let reader, let layout, let columns, _):
      var (position, out) = (range.lowerBound, out)
      while position < range.upperBound {
        let (row, column) = (position / columns, position % columns)
        let part = min(columns - column, range.upperBound - position)
        let first = layout.stored(row: row) * columns + column
        reader.copy(first..<first + part, to: out)
        position += part
        out += part
      }
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
    if case .blocks(let reader, _, _, _) = storage, let isFinite = reader.hasFiniteScales {
      return isFinite
    }
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
