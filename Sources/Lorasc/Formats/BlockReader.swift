import CSupport

/// Stored values that are widened to float32 where they are used: 16-bit floats, or blocks of
/// quantised ones. Whoever makes it keeps the bytes. A class: a table of kernels is large to copy.
final class BlockReader {
  private let type: GGMLType
  private let start: UnsafeRawPointer
  private let byteCount: Int
  private let kernels: lorasc_kernels

  /// nil for other types, and for 16-bit floats at an odd address.
  init?(_ type: StoredType, _ bytes: UnsafeRawBufferPointer, _ kernels: lorasc_kernels) {
    guard let start = bytes.baseAddress else { return nil }
    switch type {
    case .plain(.f16): self.type = .f16
    case .plain(.bf16): self.type = .bf16
    case .quantized(let type) where type.scaleOffsets != nil: self.type = type
    default: return nil
    }
    guard self.type.scaleOffsets != nil || Int(bitPattern: start) % 2 == 0 else { return nil }
    self.start = start
    byteCount = bytes.count
    self.kernels = kernels
  }

  /// Where they are a mapped file's own, lets the system take their pages.
  func releasePages(of owner: AnyObject) {
    (owner as? MappedFile)?
      .releasePages(UnsafeRawBufferPointer(start: start, count: byteCount))
  }

  /// Elements `range`, which may start and end within blocks.
  func copy(_ range: Range<Int>, to out: UnsafeMutablePointer<Float>) {
    let size = type.block.elements
    var (position, out) = (range.lowerBound, out)
    while position < range.upperBound {
      let (block, place) = (position / size, position % size)
      let whole = (range.upperBound - position) / size
      let count: Int
      if place == 0, whole > 0 {
        count = whole * size
        widen(block..<block + whole, to: out)
      } else {
        count = min(size - place, range.upperBound - position)
        withUnsafeTemporaryAllocation(of: Float.self, capacity: size) { values in
          guard let first = values.baseAddress else { return }
          widen(block..<block + 1, to: first)
          out.update(from: first + place, count: count)
        }
      }
      position += count
      out += count
    }
  }

  private func widen(_ blocks: Range<Int>, to out: UnsafeMutablePointer<Float>) {
    // Safe: because callers ask for elements of the tensor, whose blocks are all there, checked
    // when the header was read; 16-bit floats start at an even address.
    let first = start + blocks.lowerBound * type.block.bytes
    switch type {
    case .f16: kernels.f16_to_f32(first.assumingMemoryBound(to: UInt16.self), out, blocks.count)
    case .bf16: kernels.bf16_to_f32(first.assumingMemoryBound(to: UInt16.self), out, blocks.count)
    default:
      kernels.dequantize(
        Int32(type.rawValue), first.assumingMemoryBound(to: UInt8.self), out, blocks.count)
    }
  }

  /// Whether all values are finite, told by the scales of quantised blocks: a value is a float16
  /// times small integers, or a difference of two such, so it is finite exactly where they are.
  /// nil for 16-bit floats.
  var hasFiniteScales: Bool? {
    type.scaleOffsets.map { offsets in
      stride(from: 0, to: byteCount, by: type.block.bytes).allSatisfy { block in
        offsets.allSatisfy { offset in
          // Safe: because a block of the type has two bytes there.
          let bits = start.loadUnaligned(fromByteOffset: block + offset, as: UInt16.self)
          return UInt16(littleEndian: bits) & 0x7C00 != 0x7C00
        }
      }
    }
  }
}

extension GGMLType {
  /// Where a block has its float16 scales and offsets; nil for types whose values are not read.
  fileprivate var scaleOffsets: [Int]? {
    switch self {
    case .q4_0, .q5_0, .q8_0: [0]
    case .q4_1, .q5_1, .q4_K, .q5_K: [0, 2]
    case .q2_K: [80, 82]
    case .q3_K: [108]
    case .q6_K: [208]
    default: nil
    }
  }
}
