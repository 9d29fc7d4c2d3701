import CSupport

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3")
// and the distributions made of it. Counter words: block index low and high,
// stream low and high; key words: key low and high.
//
// Every level must give the same bits, so nothing in this file is fused: plain
// * and + only, which the compiler doesn't contract.

private typealias Blocks = SIMD8<UInt64>

@inline(__always)
private var low32: Blocks { Blocks(repeating: 0xffff_ffff) }

@_transparent
private func philoxRound(
  _ c: inout (Blocks, Blocks, Blocks, Blocks), _ key: UInt64, _ round: UInt32
) {
  let shift = Blocks(repeating: 32)
  let k0 = UInt32(truncatingIfNeeded: key) &+ round &* 0x9e37_79b9
  let k1 = UInt32(truncatingIfNeeded: key >> 32) &+ round &* 0xbb67_ae85
  let p0 = (c.0 & low32) &* Blocks(repeating: 0xd251_1f53)
  let p1 = (c.2 & low32) &* Blocks(repeating: 0xcd9e_8d57)
  c = (
    (p1 &>> shift) ^ c.1 ^ Blocks(repeating: UInt64(k0)), p1,
    (p0 &>> shift) ^ c.3 ^ Blocks(repeating: UInt64(k1)), p0
  )
}

/// The words of blocks block ..< block + 8: words 0 and 2 of each block
/// alternate in `even`, words 1 and 3 in `odd`.
///
/// A block's word sits in the low half of a 64-bit lane, so that the 32 x 32
/// product is one instruction; junk in the high halves is masked at the product.
@_transparent
private func philox(_ stream: lorasc_random_stream, _ block: UInt64) -> (
  even: WordLanes, odd: WordLanes
) {
  let index = Blocks(repeating: block) &+ Blocks(0, 1, 2, 3, 4, 5, 6, 7)
  let shift = Blocks(repeating: 32)
  var c = (
    index, index &>> shift, Blocks(repeating: stream.stream & 0xffff_ffff),
    Blocks(repeating: stream.stream >> 32)
  )
  // Written out: a loop would broadcast the round keys anew for each group of blocks.
  philoxRound(&c, stream.key, 0)
  philoxRound(&c, stream.key, 1)
  philoxRound(&c, stream.key, 2)
  philoxRound(&c, stream.key, 3)
  philoxRound(&c, stream.key, 4)
  philoxRound(&c, stream.key, 5)
  philoxRound(&c, stream.key, 6)
  philoxRound(&c, stream.key, 7)
  philoxRound(&c, stream.key, 8)
  philoxRound(&c, stream.key, 9)
  let (c0, c1, c2, c3) = c
  // Safe: because both types are 64 plain bytes.
  return (
    unsafeBitCast((c0 & low32) | (c2 &<< shift), to: WordLanes.self),
    unsafeBitCast((c1 & low32) | (c3 &<< shift), to: WordLanes.self)
  )
}

/// Walks elements first ..< first + n of a stream in groups of eight blocks:
/// `values` turns a group's words into its 32 values in order, `apply16` takes
/// 16 of them at an offset, `apply1` single ones at ragged starts and ends.
@inline(__always)
private func draw(
  _ stream: lorasc_random_stream, _ first: UInt64, _ n: Int,
  _ values: (WordLanes, WordLanes) -> (Lanes, Lanes), _ apply16: (Int, Lanes) -> Void,
  _ apply1: (Int, Float) -> Void
) {
  var block = first >> 2
  var skip = Int(first & 3)
  var i = 0
  while i < n {
    let words = philox(stream, block)
    let (a, b) = values(words.even, words.odd)
    if skip == 0 && n - i >= 32 {
      apply16(i, a)
      apply16(i + 16, b)
      i &+= 32
    } else {
      let count = min(32 - skip, n - i)
      for j in 0..<count {
        let lane = skip + j
        apply1(i + j, lane < 16 ? a[lane] : b[lane - 16])
      }
      i &+= count
      skip = 0
    }
    block &+= 8
  }
}

/// out = base + value * factor, one multiply and one add.
@inline(__always)
private func drawOnto(
  _ base: UnsafePointer<Float>?, _ out: UnsafeMutablePointer<Float>, _ n: Int,
  _ stream: lorasc_random_stream, _ first: UInt64, _ factor: Float,
  _ values: (WordLanes, WordLanes) -> (Lanes, Lanes)
) {
  let k = Lanes(repeating: factor)
  // Without a base it is 0, and adding it turns -0 into 0 as a base of zeros does.
  @inline(__always)
  func apply16(_ i: Int, _ value: Lanes) {
    let start = if let base { load(base, i) } else { Lanes(repeating: 0) }
    store(start + value * k, out, i)
  }
  @inline(__always)
  func apply1(_ i: Int, _ value: Float) {
    out[i] = (base?[i] ?? 0) + value * factor
  }
  draw(stream, first, n, values, apply16, apply1)
}

// MARK: Uniform

/// u - 1/2 with u = (word >> 8) 2^-24: exact.
@inline(__always)
private func centered(_ words: WordLanes) -> Lanes {
  let top = unsafeBitCast(words &>> WordLanes(repeating: 8), to: IntLanes.self)
  return converted(top) * Lanes(repeating: 0x1p-24) - Lanes(repeating: 0.5)
}

@inline(__always)
private func uniforms(_ even: WordLanes, _ odd: WordLanes) -> (Lanes, Lanes) {
  interleaved(centered(even), centered(odd))
}

func addUniform(
  _ base: UnsafePointer<Float>?, _ out: UnsafeMutablePointer<Float>, _ n: Int,
  _ stream: lorasc_random_stream, _ first: UInt64, _ width: Float
) {
  drawOnto(base, out, n, stream, first, width, uniforms)
}

// MARK: Normal

/// ln x for x in [2^-24, 1] within 1 ulp: x = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt 2);
/// ln(1 + f) = f - f^2 / 2 + f^3 P(f), coefficients of Cephes' logf.
@_transparent
private func logarithm(_ x: Lanes) -> Lanes {
  let pattern = bits(x)
  let e = (pattern &- IntLanes(repeating: 0x3f35_04f3)) &>> IntLanes(repeating: 23)
  let f = floats(pattern &- (e &<< IntLanes(repeating: 23))) - Lanes(repeating: 1)
  var p = Lanes(repeating: 7.0376836292e-2)
  p = p * f + Lanes(repeating: -1.1514610310e-1)
  p = p * f + Lanes(repeating: 1.1676998740e-1)
  p = p * f + Lanes(repeating: -1.2420140846e-1)
  p = p * f + Lanes(repeating: 1.4249322787e-1)
  p = p * f + Lanes(repeating: -1.6668057665e-1)
  p = p * f + Lanes(repeating: 2.0000714765e-1)
  p = p * f + Lanes(repeating: -2.4999993993e-1)
  p = p * f + Lanes(repeating: 3.3333331174e-1)
  let z = f * f
  let exponent = converted(e)
  var y = f * z * p
  y = y + exponent * Lanes(repeating: -2.12194440e-4)
  y = y - Lanes(repeating: 0.5) * z
  return (f + y) + exponent * Lanes(repeating: 0.693359375)
}

/// cos and sin of 2 pi u, u = (word >> 8) 2^-24. The angle is the nearest whole
/// number q of quarter turns and an exact rest f of at most half a quarter turn;
/// sin(pi f / 2) = f S(f^2), cos(pi f / 2) = 1 + f^2 C(f^2), errors 5e-9 and 5e-11.
@_transparent
private func cosineAndSine(_ words: WordLanes) -> (Lanes, Lanes) {
  let h = unsafeBitCast(words &>> WordLanes(repeating: 8), to: IntLanes.self)
  let q = (h &+ IntLanes(repeating: 1 << 21)) &>> IntLanes(repeating: 22)
  let f = converted(h &- (q &<< IntLanes(repeating: 22))) * Lanes(repeating: 0x1p-22)
  let z = f * f
  var s = Lanes(repeating: -0.004602177068591118)
  s = s * z + Lanes(repeating: 0.07968022674322128)
  s = s * z + Lanes(repeating: -0.6459634900093079)
  s = s * z + Lanes(repeating: 1.5707963705062866)
  s = s * f
  var c = Lanes(repeating: 0.0009040216100402176)
  c = c * z + Lanes(repeating: -0.02086028829216957)
  c = c * z + Lanes(repeating: 0.25366923213005066)
  c = c * z + Lanes(repeating: -1.2337005138397217)
  c = c * z + Lanes(repeating: 1)
  let one = IntLanes(repeating: 1)
  let swapped = (q & one) .== one
  let sign = IntLanes(repeating: 31)
  let negateSine = (q &>> one) &<< sign
  let negateCosine = ((q &+ one) &>> one) &<< sign
  return (
    floats(bits(c.replacing(with: s, where: swapped)) ^ negateCosine),
    floats(bits(s.replacing(with: c, where: swapped)) ^ negateSine)
  )
}

/// Box-Muller: radius sqrt(-2 ln u), u = ((word >> 8) + 1) 2^-24 in (0, 1], from
/// the pair's first word, angle from its second; z = radius (cos, sin), |z| < 5.8.
@_transparent
private func normals(_ even: WordLanes, _ odd: WordLanes) -> (Lanes, Lanes) {
  let top = unsafeBitCast(even &>> WordLanes(repeating: 8), to: IntLanes.self)
  let u = converted(top &+ IntLanes(repeating: 1)) * Lanes(repeating: 0x1p-24)
  let square = Lanes(repeating: -2) * logarithm(u)
  // ln 1 is computed as 0 and -2 * 0 = -0: the bound keeps the root's sign plain.
  let radius = atLeast(square, 0).squareRoot()
  let (c, s) = cosineAndSine(odd)
  return interleaved(radius * c, radius * s)
}

func addNormal(
  _ base: UnsafePointer<Float>?, _ out: UnsafeMutablePointer<Float>, _ n: Int,
  _ stream: lorasc_random_stream, _ first: UInt64, _ deviation: Float
) {
  drawOnto(base, out, n, stream, first, deviation, normals)
}

// MARK: Dropout

/// A word keeps its element when word >= p 2^32. p <= 0 keeps all; p >= 1 none.
func dropout(
  _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ n: Int,
  _ stream: lorasc_random_stream, _ first: UInt64, _ p: Float
) {
  guard p > 0 else { return map(x, y, n, copied) }
  guard p < 1 else {
    @inline(__always)
    func dropped(_ v: Lanes) -> Lanes { v * Lanes(repeating: 0) }
    return map(x, y, n, dropped)
  }
  let exact = Double(p) * 0x1p32
  let floor = UInt32(exact)
  let threshold = Double(floor) < exact ? floor + 1 : floor
  let limit = WordLanes(repeating: threshold)
  let factor = Lanes(repeating: 1 / (1 - p))
  let zero = Lanes(repeating: 0)
  @inline(__always)
  func factors(_ even: WordLanes, _ odd: WordLanes) -> (Lanes, Lanes) {
    interleaved(
      zero.replacing(with: factor, where: keepMask(even, limit)),
      zero.replacing(with: factor, where: keepMask(odd, limit)))
  }
  @inline(__always)
  func apply16(_ i: Int, _ value: Lanes) { store(load(x, i) * value, y, i) }
  @inline(__always)
  func apply1(_ i: Int, _ value: Float) { y[i] = x[i] * value }
  draw(stream, first, n, factors, apply16, apply1)
}

@inline(__always)
private func keepMask(_ words: WordLanes, _ limit: WordLanes) -> LaneMask {
  // Flipping the top bit makes the unsigned comparison a signed one.
  let flip = WordLanes(repeating: 0x8000_0000)
  return unsafeBitCast(words ^ flip, to: IntLanes.self)
    .>= unsafeBitCast(limit ^ flip, to: IntLanes.self)
}
