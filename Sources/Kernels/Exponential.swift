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
