import CSupport
import Testing

@testable import Lorasc

@Suite struct ConversionTests {
  static let everyHalf = (0...UInt16.max).map { $0 }

  /// Every pattern near a rounding boundary of either format, all exponents, both signs.
  static let floats: [Float] = {
    var patterns: [UInt32] = []
    for top in 0...UInt32(0xffff) {
      for low: UInt32 in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] { patterns.append(top << 16 | low) }
    }
    for half in UInt16.min...UInt16.max {
      let exact = bits(ofHalf: half)
      for offset: UInt32 in [0x0fff, 0x1000, 0x1001, 0x1fff] { patterns.append(exact &+ offset) }
    }
    for i in 0..<5000 { patterns.append(0x3300_0000 - 2500 + UInt32(i)) }
    return patterns.map(Float.init(bitPattern:))
  }()

  /// float16 to float32 by arithmetic, one value.
  static func bits(ofHalf h: UInt16) -> UInt32 {
    let sign: Float = h & 0x8000 == 0 ? 1 : -1
    let exponent = Int(h >> 10) & 0x1f
    let fraction = Float(h & 0x3ff) / 1024
    let value: Float =
      switch exponent {
      case 0: Float(sign: .plus, exponent: -14, significand: 1) * fraction
      case 31: h & 0x3ff == 0 ? .infinity : .nan
      default: Float(sign: .plus, exponent: exponent - 15, significand: 1 + fraction)
      }
    return value.isNaN ? Float.nan.bitPattern : (sign * value).bitPattern
  }

  @Test(arguments: levels)
  func everyFloat16ToFloat32(level: KernelLevel) throws {
    let y = Guarded(count: 65536)
    try level.table().f16_to_f32(Self.everyHalf, y.p, 65536)
    for (h, value) in zip(Self.everyHalf, y.values) {
      let exact = Float(bitPattern: Self.bits(ofHalf: h))
      #expect(value.isNaN ? exact.isNaN : value.bitPattern == exact.bitPattern, "\(h)")
      #expect((h & 0x7fff > 0x7c00) == value.isNaN)
      #if arch(x86_64) && os(Linux)
        if !value.isNaN { #expect(Float(Float16(bitPattern: h)).bitPattern == value.bitPattern) }
      #endif
    }
  }

  @Test(arguments: levels)
  func everyFloat16ThereAndBack(level: KernelLevel) throws {
    let kernels = try level.table()
    let y = Guarded(count: 65536)
    let back = Guarded([UInt16](repeating: 0, count: 65536))
    kernels.f16_to_f32(Self.everyHalf, y.p, 65536)
    kernels.f32_to_f16(y.p, back.p, 65536)
    for (h, b) in zip(Self.everyHalf, back.values) {
      // A signalling NaN may come back quiet.
      #expect(h & 0x7fff > 0x7c00 ? b | 0x200 == h | 0x200 && b & 0x7fff > 0x7c00 : b == h, "\(h)")
    }
    #expect(back.isIntact)
  }

  @Test(arguments: levels)
  func everyBFloat16ThereAndBack(level: KernelLevel) throws {
    let kernels = try level.table()
    let y = Guarded(count: 65536)
    let back = Guarded([UInt16](repeating: 0, count: 65536))
    kernels.bf16_to_f32(Self.everyHalf, y.p, 65536)
    #expect(bitPatterns(y.values) == Self.everyHalf.map { UInt32($0) << 16 })
    kernels.f32_to_bf16(y.p, back.p, 65536)
    for (h, b) in zip(Self.everyHalf, back.values) {
      #expect(h & 0x7fff > 0x7f80 ? b == h | 0x40 : b == h, "\(h)")
    }
  }

  @Test(arguments: levels)
  func float32RoundsToNearestEven(level: KernelLevel) throws {
    let kernels = try level.table()
    let x = Self.floats
    let half = Guarded([UInt16](repeating: 0, count: x.count))
    let brain = Guarded([UInt16](repeating: 0, count: x.count))
    kernels.f32_to_f16(x, half.p, x.count)
    kernels.f32_to_bf16(x, brain.p, x.count)
    #expect(half.isIntact && brain.isIntact)
    var wrong = 0
    for (i, value) in x.enumerated() {
      let (h, b) = (half.p[i], brain.p[i])
      if value.isNaN {
        if h & 0x7fff <= 0x7c00 || b & 0x7fff <= 0x7f80 { wrong += 1 }
        continue
      }
      #if arch(x86_64) && os(Linux)
        if Float16(value).bitPattern != h { wrong += 1 }
      #endif
      // bfloat16: of the two neighbours the nearer, or the even one.
      let below = UInt16(truncatingIfNeeded: value.bitPattern >> 16)
      let rest = value.bitPattern & 0xffff
      let up = rest > 0x8000 || (rest == 0x8000 && below & 1 == 1)
      if b != below &+ (up ? 1 : 0) { wrong += 1 }
    }
    #expect(wrong == 0)
  }

  @Test(arguments: levels)
  func everyLength(level: KernelLevel) throws {
    let kernels = try level.table()
    var random = TestRandom(1)
    for n in lengths {
      let x = random.floats(n)
      let halves = x.map { UInt16(truncatingIfNeeded: $0.bitPattern >> 16) }
      let narrow = Guarded([UInt16](repeating: 1, count: n))
      let wide = Guarded(count: n)
      kernels.bf16_to_f32(halves, wide.p, n)
      kernels.f32_to_bf16(wide.p, narrow.p, n)
      #expect(narrow.values == halves && wide.isIntact && narrow.isIntact)
      kernels.f32_to_f16(x, narrow.p, n)
      kernels.f16_to_f32(narrow.p, wide.p, n)
      #expect(largestError(wide.values, x.map(Double.init)) < 5e-4)
      #expect(wide.isIntact && narrow.isIntact)
    }
  }
}
