import CSupport
import Testing

@testable import Lorasc

/// Quantised blocks against a reference that takes each value from its bits on its own.
@Suite struct DequantizationTests {
  struct Kind: Sendable {
    let type: GGMLType
    /// Where a block's float16 scales and offsets are.
    let scales: [Int]
    /// Value i of a block.
    let value: @Sendable ([UInt8], Int) -> Float
  }

  static let kinds = [
    Kind(type: .q4_0, scales: [0]) { b, i in half(b, 0) * Float(nibble(b, 2, i) - 8) },
    Kind(type: .q4_1, scales: [0, 2]) { b, i in
      half(b, 0) * Float(nibble(b, 4, i)) + half(b, 2)
    },
    Kind(type: .q5_0, scales: [0]) { b, i in
      half(b, 0) * Float(nibble(b, 6, i) + 16 * bit(b, 2, i) - 16)
    },
    Kind(type: .q5_1, scales: [0, 2]) { b, i in
      half(b, 0) * Float(nibble(b, 8, i) + 16 * bit(b, 4, i)) + half(b, 2)
    },
    Kind(type: .q8_0, scales: [0]) { b, i in
      half(b, 0) * Float(Int(Int8(bitPattern: b[2 + i])))
    },
    Kind(type: .q2_K, scales: [80, 82]) { b, i in
      let scale = Int(b[i / 16])
      let q = Int(b[16 + i / 128 * 32 + i % 32]) >> (i % 128 / 32 * 2) & 3
      return half(b, 80) * Float(scale & 15) * Float(q) - half(b, 82) * Float(scale >> 4)
    },
    Kind(type: .q3_K, scales: [108]) { b, i in
      let j = i / 16
      let low = Int(b[96 + j % 8]) >> (j / 8 * 4) & 15
      let scale = low + 16 * (Int(b[104 + j % 4]) >> (j / 4 * 2) & 3) - 32
      let q = Int(b[32 + i / 128 * 32 + i % 32]) >> (i % 128 / 32 * 2) & 3
      let third = Int(b[i % 32]) >> (i / 32) & 1
      return half(b, 108) * Float(scale) * Float(q + 4 * third - 4)
    },
    Kind(type: .q4_K, scales: [0, 2]) { b, i in
      let (scale, offset) = sixBits(b, i / 32)
      let q = Int(b[16 + i / 64 * 32 + i % 32]) >> (i % 64 / 32 * 4) & 15
      return half(b, 0) * Float(scale) * Float(q) - half(b, 2) * Float(offset)
    },
    Kind(type: .q5_K, scales: [0, 2]) { b, i in
      let (scale, offset) = sixBits(b, i / 32)
      let low = Int(b[48 + i / 64 * 32 + i % 32]) >> (i % 64 / 32 * 4) & 15
      let q = low + 16 * (Int(b[16 + i % 32]) >> (i / 32) & 1)
      return half(b, 0) * Float(scale) * Float(q) - half(b, 2) * Float(offset)
    },
    Kind(type: .q6_K, scales: [208]) { b, i in
      let (side, place) = (i / 128, i % 128)
      let low = Int(b[64 * side + place % 64]) >> (place / 64 * 4) & 15
      let high = Int(b[128 + 32 * side + place % 32]) >> (place / 32 * 2) & 3
      let scale = Int(Int8(bitPattern: b[192 + i / 16]))
      return half(b, 208) * Float(scale) * Float(low + 16 * high - 32)
    },
  ]

  private static func half(_ b: [UInt8], _ at: Int) -> Float {
    Float(bitPattern: ConversionTests.bits(ofHalf: UInt16(b[at]) | UInt16(b[at + 1]) << 8))
  }

  /// Of 32 values in 16 bytes: low halves, then high ones.
  private static func nibble(_ b: [UInt8], _ at: Int, _ i: Int) -> Int {
    Int(b[at + i % 16]) >> (i / 16 * 4) & 15
  }

  private static func bit(_ b: [UInt8], _ at: Int, _ i: Int) -> Int {
    Int(b[at + i / 8]) >> (i % 8) & 1
  }

  private static func sixBits(_ b: [UInt8], _ j: Int) -> (Int, Int) {
    let s = b[4..<16].map(Int.init)
    guard j >= 4 else { return (s[j] & 63, s[j + 4] & 63) }
    return (s[j + 4] & 15 | (s[j - 4] >> 6) << 4, s[j + 4] >> 4 | (s[j] >> 6) << 4)
  }

  /// Random bytes with scales that are finite: of all sizes, some subnormal or zero.
  static func blocks(_ kind: Kind, _ count: Int, _ random: inout TestRandom) -> [UInt8] {
    let size = kind.type.block.bytes
    var bytes = (0..<count * size).map { _ in UInt8(truncatingIfNeeded: random.word() >> 40) }
    for block in 0..<count {
      for offset in kind.scales {
        let place = block * size + offset
        if bytes[place + 1] & 0x7c == 0x7c { bytes[place + 1] ^= 0x40 }
        if block % 16 == 3 { bytes[place + 1] &= 0x83 }
        if block % 16 == 5 { (bytes[place], bytes[place + 1]) = (0, bytes[place + 1] & 0x80) }
      }
    }
    return bytes
  }

  @Test(arguments: levels)
  func sameBitsAsTheReference(level: KernelLevel) throws {
    let kernels = try level.table()
    var random = TestRandom(4)
    for kind in Self.kinds {
      let (elements, size) = kind.type.block
      for count in [0, 1, 2, 7, 300] {
        let bytes = Self.blocks(kind, count, &random)
        // The margin makes the address odd.
        let input = Guarded<UInt8>(bytes, sentinel: 0xA5)
        let output = Guarded(count: count * elements)
        kernels.dequantize(Int32(kind.type.rawValue), input.p, output.p, count)
        let expected = (0..<count).flatMap { block in
          let own = Array(bytes[block * size..<(block + 1) * size])
          return (0..<elements).map { kind.value(own, $0) }
        }
        #expect(bitPatterns(output.values) == bitPatterns(expected), "\(kind.type) \(count)")
        #expect(input.isIntact && output.isIntact, "\(kind.type) \(count)")
      }
    }
  }

  @Test(arguments: levels)
  func otherKindsAndCountsDoNothing(level: KernelLevel) throws {
    let kernels = try level.table()
    let input = Guarded<UInt8>([UInt8](repeating: 3, count: 300), sentinel: 1)
    let output = Guarded(count: 256, of: 5)
    for kind in [-1, 0, 1, 4, 9, 15, 30, 1000] as [Int32] {
      kernels.dequantize(kind, input.p, output.p, 1)
    }
    kernels.dequantize(8, input.p, output.p, -1)
    kernels.quantize_q8_0(output.p, input.p, -1)
    #expect(output.values == [Float](repeating: 5, count: 256) && input.isIntact)
  }

  /// d = max |x| / 127, q = x (1 / d) to the nearest, halves away from zero.
  private static func quantized(_ x: [Float]) -> [UInt8] {
    let d = (x.map(abs).max() ?? 0) / 127
    let inverse = d == 0 ? 0 : 1 / d
    let bits = halves(d)
    return [UInt8(bits & 255), UInt8(bits >> 8)]
      + x.map { value in
        let q = (value * inverse).rounded(.toNearestOrAwayFromZero)
        return q.isFinite ? UInt8(bitPattern: Int8(q)) : 0
      }
  }

  /// The nearest float16 of a value >= 0: of all that are, the halfway ones to the even side.
  private static func halves(_ value: Float) -> UInt16 {
    let all = 0..<UInt16(0x7C00)
    let above = all.first { Float(bitPattern: ConversionTests.bits(ofHalf: $0)) >= value } ?? 0x7C00
    guard above > 0 else { return 0 }
    let (low, high) = (
      Double(Float(bitPattern: ConversionTests.bits(ofHalf: above - 1))),
      Double(Float(bitPattern: ConversionTests.bits(ofHalf: above)))
    )
    let (down, up) = (Double(value) - low, high - Double(value))
    return down < up || (down == up && above % 2 == 1) ? above - 1 : above
  }

  @Test(arguments: levels)
  func quantizesAsTheReference(level: KernelLevel) throws {
    let kernels = try level.table()
    var random = TestRandom(9)
    var rows = [[Float]](repeating: [], count: 0)
    for scale: Float in [1, 1e-3, 300, 1e5, 1e-7, 1e-38, 0x1p-140] {
      for _ in 0..<3 { rows.append(random.floats(32).map { $0 * scale }) }
    }
    rows.append([Float](repeating: 0, count: 32))
    rows.append([Float](repeating: -0.0, count: 32))
    // Halves: with 127 among them d is 1.
    rows.append((0..<32).map { Float($0) - 15.5 } + [])
    rows[rows.count - 1][7] = 127
    let x = Guarded(rows.flatMap { $0 })
    let blocks = Guarded<UInt8>(
      [UInt8](repeating: 0, count: rows.count * 34 + 1), sentinel: 0x77)
    // Blocks start at an even address.
    let start = Int(bitPattern: blocks.p) % 2
    kernels.quantize_q8_0(x.p, blocks.p + start, rows.count)
    let found = Array(blocks.values[start..<start + rows.count * 34])
    for (row, values) in rows.enumerated() {
      #expect(Array(found[row * 34..<(row + 1) * 34]) == Self.quantized(values), "row \(row)")
    }
    #expect(blocks.isIntact && x.isIntact)
  }
}
