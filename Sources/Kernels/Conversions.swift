// float32 from and to bfloat16 and float16, by integer arithmetic at every
// level: same bits, and the host's flush-to-zero mode doesn't matter.

@inline(__always)
func loadHalves(_ p: UnsafePointer<UInt16>) -> HalfLanes {
  // Safe: because callers keep 16 elements within the array.
  UnsafeRawPointer(p).loadUnaligned(as: HalfLanes.self)
}

@inline(__always)
func storeHalves(_ v: HalfLanes, _ p: UnsafeMutablePointer<UInt16>) {
  // Safe: because callers keep 16 elements within the array.
  UnsafeMutableRawPointer(p).storeBytes(of: v, as: HalfLanes.self)
}

@inline(__always)
private func widen(
  _ x: UnsafePointer<UInt16>, _ y: UnsafeMutablePointer<Float>, _ n: Int,
  _ f: (HalfLanes) -> Lanes
) {
  var i = 0
  while i + 16 <= n {
    store(f(loadHalves(x + i)), y, i)
    i &+= 16
  }
  guard i < n else { return }
  var rest = HalfLanes(repeating: 0)
  for j in 0..<(n - i) { rest[j] = x[i + j] }
  let v = f(rest)
  for j in 0..<(n - i) { y[i + j] = v[j] }
}

@inline(__always)
private func narrow(
  _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<UInt16>, _ n: Int,
  _ f: (Lanes) -> HalfLanes
) {
  var i = 0
  while i + 16 <= n {
    storeHalves(f(load(x, i)), y + i)
    i &+= 16
  }
  guard i < n else { return }
  let v = f(loadStart(x + i, n - i))
  for j in 0..<(n - i) { y[i + j] = v[j] }
}

@inline(__always)
private func all(_ value: UInt32) -> WordLanes { WordLanes(repeating: value) }

/// Comparisons are done signed, SSE and AVX2 have no others; the operands here
/// are below 2^31.
@inline(__always)
private func select(_ yes: WordLanes, _ no: WordLanes, _ mask: LaneMask) -> WordLanes {
  no.replacing(with: yes, where: mask)
}

@inline(__always)
private func signed(_ v: WordLanes) -> IntLanes { unsafeBitCast(v, to: IntLanes.self) }

@inline(__always)
private func floats(_ v: WordLanes) -> Lanes { unsafeBitCast(v, to: Lanes.self) }

@inline(__always)
private func words(_ v: Lanes) -> WordLanes { unsafeBitCast(v, to: WordLanes.self) }

// MARK: bfloat16, the top half of a float32

@inline(__always)
func float32(_ v: HalfLanes) -> Lanes { floats(widened(v) &<< all(16)) }

/// Nearest even by adding half a unit less one, plus the kept part's last bit; a
/// NaN is cut and made quiet, rounding could carry it into infinity.
@inline(__always)
func bfloat16(_ value: Lanes) -> HalfLanes {
  let v = words(value)
  let high = v &>> all(16)
  let rounded = (v &+ all(0x7fff) &+ (high & all(1))) &>> all(16)
  return narrowed(select(high | all(0x40), rounded, value .!= value))
}

func bf16ToF32(_ x: UnsafePointer<UInt16>, _ y: UnsafeMutablePointer<Float>, _ n: Int) {
  widen(x, y, n, float32)
}

func f32ToBF16(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<UInt16>, _ n: Int) {
  narrow(x, y, n, bfloat16)
}

// MARK: float16, after F. Giesen's float->half variants

/// Normal numbers: exponent and mantissa move up 13 bits and the exponent is
/// rebiased by 112; infinity and NaN by 112 more. A subnormal h 2^-24 is made as
/// (2^-14 + h 2^-24) - 2^-14, which is exact.
func f16ToF32(_ x: UnsafePointer<UInt16>, _ y: UnsafeMutablePointer<Float>, _ n: Int) {
  @inline(__always)
  func single(_ half: HalfLanes) -> Lanes {
    let h = widened(half)
    let size = (h & all(0x7fff)) &<< all(13)
    let exponent = size & all(0x0f80_0000)
    let normal = size &+ all(112 << 23)
    let special = normal &+ all(112 << 23)
    let tiny = Float(bitPattern: 113 << 23)
    let subnormal = words(floats(size &+ all(113 << 23)) - Lanes(repeating: tiny))
    let finite = select(subnormal, normal, signed(exponent) .== IntLanes(repeating: 0))
    let value = select(special, finite, signed(exponent) .== IntLanes(repeating: 0x0f80_0000))
    return floats(value | ((h & all(0x8000)) &<< all(16)))
  }
  widen(x, y, n, single)
}

/// Below 2^-14 the addition of 0.5 shifts the result's bits to the bottom of the
/// mantissa and rounds them to nearest even in hardware.
func f32ToF16(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<UInt16>, _ n: Int) {
  @inline(__always)
  func float16(_ single: Lanes) -> HalfLanes {
    let v = words(single)
    let size = v & all(0x7fff_ffff)
    let odd = (size &>> all(13)) & all(1)
    let normal = (size &- all(112 << 23) &+ all(0xfff) &+ odd) &>> all(13)
    let half = all(126 << 23)
    let subnormal = words(floats(size) + floats(half)) &- half
    let finite = select(subnormal, normal, signed(size) .< IntLanes(repeating: 113 << 23))
    let nan = all(0x7e00) | ((size &>> all(13)) & all(0x1ff))
    let special = select(nan, all(0x7c00), signed(size) .> IntLanes(repeating: 0x7f80_0000))
    let value = select(special, finite, signed(size) .>= IntLanes(repeating: 143 << 23))
    return narrowed(value | ((v &>> all(16)) & all(0x8000)))
  }
  narrow(x, y, n, float16)
}

/// Two rows of bfloat16 in one of pairs.
func pairRows(
  _ x: UnsafePointer<Float>, _ rows: Int, _ cols: Int, _ ldx: Int, _ scale: Float,
  _ y: UnsafeMutablePointer<UInt16>, _ ldy: Int
) {
  let k = Lanes(repeating: scale)
  var row = 0
  while row < rows {
    let (from, to) = (x + row &* ldx, y + row &* ldy)
    let hasSecond = row &+ 1 < rows
    var c = 0
    while c < cols {
      let n = min(16, cols &- c)
      let low = bfloat16(k * loadStart(from + c, n))
      let high = hasSecond ? bfloat16(k * loadStart(from + (ldx &+ c), n)) : HalfLanes(repeating: 0)
      if n == 16 {
        let pairs = widened(low) | widened(high) &<< all(16)
        // Safe: because 16 pairs are left in the row.
        UnsafeMutableRawPointer(to + 2 &* c).storeBytes(of: pairs, as: WordLanes.self)
      } else {
        for i in 0..<n { (to[2 &* (c &+ i)], to[2 &* (c &+ i) &+ 1]) = (low[i], high[i]) }
      }
      c &+= 16
    }
    row &+= 2
  }
}
