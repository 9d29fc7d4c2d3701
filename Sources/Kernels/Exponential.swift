// exp and what is built on it: tanh, the logistic function. Polynomials were fitted by
// Lawson-weighted least squares in 40 digits; the errors given are those of the polynomial before
// rounding.
//
// `@_transparent`, because the inliner passes over some uses of functions of this
// size with `@inline(__always)`, and a call per vector moves it through memory.

/// (exp(r) - 1 - r) / r^2 on |r| <= ln(2) / 2; relative error of exp 3.1e-9.
@_transparent
private func exponentialTail(_ r: Lanes) -> Lanes {
  var q = Lanes(repeating: 0.0013814318)
  q = multiplyAdd(q, r, Lanes(repeating: 0.008368852))
  q = multiplyAdd(q, r, Lanes(repeating: 0.0416684))
  q = multiplyAdd(q, r, Lanes(repeating: 0.1666652))
  return multiplyAdd(q, r, Lanes(repeating: 0.49999994))
}

/// x = n ln 2 + r with n whole, and 2^n, n from -126 to 128 (which is inf). Adding 1.5 * 2^23 rounds
/// to a whole number and leaves it in the low bits, all that a shift to the exponent keeps. ln 2 is
/// taken off in two parts; the first has 9 bits, so n times it is exact without a fused multiply.
@_transparent
private func reduced(_ x: Lanes) -> (power: Lanes, r: Lanes) {
  let magic = Lanes(repeating: 12_582_912)
  let shifted = multiplyAdd(x, Lanes(repeating: 1.44269504), magic)
  let power = (bits(shifted) &<< IntLanes(repeating: 23)) &+ IntLanes(repeating: 0x3f80_0000)
  let whole = shifted - magic
  var r = multiplyAdd(whole, Lanes(repeating: -0.693359375), x)
  r = multiplyAdd(whole, Lanes(repeating: 2.12194440e-4), r)
  return (floats(power), r)
}

/// exp(x) of x <= 89 within 1 ulp. What would be subnormal, x < -87.33, is 0; inf from 88.38 on;
/// NaN -> NaN.
@_transparent
func exponential(_ x: Lanes) -> Lanes {
  let (power, r) = reduced(x)
  let one = Lanes(repeating: 1)
  #if LORASC_FMA
    let fraction = multiplyAdd(multiplyAdd(exponentialTail(r), r, one), r, one)
  #else
    // The form above comes to 1.14 ulp where nothing is fused.
    let fraction = (r * r * exponentialTail(r) + r) + one
  #endif
  let e = power * fraction
  return e.replacing(with: Lanes(repeating: 0), where: x .< Lanes(repeating: -87.33))
}

/// Where `exponentialBelow` is 0: -127 ln 2.
var leastExponent: Float {
  @_transparent get { -88.02969 }
}

/// exp(x) of `leastExponent` <= x <= 0, in fewer steps where the level has tables; NaN -> NaN. Relative
/// error there 1e-7, and |x| times 3e-9.
@_transparent
func exponentialBelow(_ x: Lanes) -> Lanes {
  #if LORASC_TABLES
    // x = (n + i / 32) ln 2 + r: adding 1.5 * 2^18 rounds to whole 32nds and leaves n and i in the low
    // bits; of exp(r) - 1 the polynomial has an error of 6e-10.
    let magic = Lanes(repeating: 393_216)
    let shifted = multiplyAdd(x, Lanes(repeating: 1.44269504), magic)
    let whole = shifted - magic
    let r = multiplyAdd(whole, Lanes(repeating: -0.69314718), x)
    var slope = Lanes(repeating: 0.16667)
    slope = multiplyAdd(slope, r, Lanes(repeating: 0.5))
    slope = multiplyAdd(slope, r, Lanes(repeating: 1))
    let power = floats(
      bits(rootOfTwo(bits(shifted))) &+ (bits(shifted) &<< IntLanes(repeating: 18)))
    return multiplyAdd(power, slope * r, power)
  #else
    return exponential(x)
  #endif
}

#if LORASC_TABLES
  /// 2^(i / 32), i the index mod 32, of whose bits those of i were taken off where a shift of the
  /// index by 18 puts them.
  @_transparent
  private func rootOfTwo(_ index: IntLanes) -> Lanes {
    chosen(
      Lanes(
        1, 0.9953236, 0.99088687, 0.98669523, 0.9827539, 0.9790684, 0.9756443, 0.97248745,
        0.96960354, 0.9669987, 0.9646789, 0.9626505, 0.9609198, 0.95949334, 0.9583778, 0.95758),
      Lanes(
        0.95710677, 0.9569654, 0.9571631, 0.9577072, 0.9586054, 0.95986545, 0.96149516,
        0.96350276, 0.9658964, 0.9686847, 0.9718761, 0.97547954, 0.97950405, 0.98395884, 0.9888533,
        0.9941971),
      index)
  }
#endif

/// tanh |x| = -e / (2 + e) with e = exp(-2|x|) - 1 = 2^n (exp(r) - 1) + (2^n - 1):
/// near 0, n = 0 and nothing cancels.
@_transparent
func hyperbolicTangent(_ x: Lanes) -> Lanes {
  let (scale, r) = reduced(atLeast(magnitude(x) * Lanes(repeating: -2), -40))
  let u = multiplyAdd(r * r, exponentialTail(r), r)
  let e = multiplyAdd(scale, u, scale - Lanes(repeating: 1))
  return withSign(of: x, magnitude(e / (Lanes(repeating: 2) + e)))
}

/// 1 / (1 + exp(-x)).
@_transparent
func logistic(_ x: Lanes) -> Lanes {
  let one = Lanes(repeating: 1)
  return one / (one + exponential(atMost(-x, 89)))
}

/// s = 1 / (1 + exp(-x)) and 1 - s, both to full relative accuracy.
@_transparent
func logisticPair(_ x: Lanes) -> (s: Lanes, complement: Lanes) {
  let one = Lanes(repeating: 1)
  let e = exponential(-magnitude(x))
  let large = one / (one + e)
  let small = e * large
  let negative = x .< Lanes(repeating: 0)
  return (
    large.replacing(with: small, where: negative), small.replacing(with: large, where: negative)
  )
}

/// ln x for finite x > 0 to about 1e-10: x = 2^e m with m in [sqrt(1/2), sqrt 2),
/// s = (m - 1) / (m + 1), ln m = 2 (s + s^3 / 3 + s^5 / 5 + ...).
@_transparent
func logarithm(_ x: DoubleLanes) -> DoubleLanes {
  let pattern = unsafeBitCast(x, to: LongLanes.self)
  let exponent =
    (pattern &- LongLanes(repeating: 0x3fe6_a09e_667f_3bcd)) &>> LongLanes(repeating: 52)
  let m = unsafeBitCast(
    pattern &- (exponent &<< LongLanes(repeating: 52)), to: DoubleLanes.self)
  let one = DoubleLanes(repeating: 1)
  let s = (m - one) / (m + one)
  let z = s * s
  var series = DoubleLanes(repeating: 1.0 / 11)
  series = series * z + DoubleLanes(repeating: 1.0 / 9)
  series = series * z + DoubleLanes(repeating: 1.0 / 7)
  series = series * z + DoubleLanes(repeating: 1.0 / 5)
  series = series * z + DoubleLanes(repeating: 1.0 / 3)
  series = series * z + one
  return doubles(exponent) * DoubleLanes(repeating: 0.6931471805599453) + (s + s) * series
}
