// exp and what is built on it: tanh, the logistic function, the normal
// distribution. Polynomials were fitted by Lawson-weighted least squares in 40
// digits; the errors given are those of the polynomial before rounding.
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

/// x = n ln 2 + r with n whole. Adding 1.5 * 2^23 rounds to a whole number and
/// leaves it in the low bits. ln 2 is taken off in two parts; the first has 9
/// bits, so n times it is exact without a fused multiply.
@_transparent
private func reduced(_ x: Lanes) -> (n: IntLanes, r: Lanes) {
  let magic = Lanes(repeating: 12_582_912)
  let shifted = multiplyAdd(x, Lanes(repeating: 1.44269504), magic)
  let n = bits(shifted) &- IntLanes(repeating: 0x4b40_0000)
  let whole = shifted - magic
  var r = multiplyAdd(whole, Lanes(repeating: -0.693359375), x)
  r = multiplyAdd(whole, Lanes(repeating: 2.12194440e-4), r)
  return (n, r)
}

/// exp(r) on |r| <= ln(2) / 2
@_transparent
private func fraction(_ r: Lanes) -> Lanes {
  multiplyAdd(r * r, exponentialTail(r), r) + Lanes(repeating: 1)
}

@_transparent
private func powerOfTwo(_ n: IntLanes) -> Lanes {
  floats((n &+ IntLanes(repeating: 127)) &<< IntLanes(repeating: 23))
}

/// exp(x) within 1 ulp; subnormal results too, -inf -> 0, NaN -> NaN. 2^n is
/// applied in two halves, since n runs from -150 to 128.
@_transparent
func exponential(_ x: Lanes) -> Lanes {
  let (n, r) = reduced(atLeast(atMost(x, 89), -104))
  let half = n &>> IntLanes(repeating: 1)
  return fraction(r) * powerOfTwo(half) * powerOfTwo(n &- half)
}

/// exp(x) of x <= 0 (up to 88, in fact) within 1 ulp in two thirds of the instructions: what would
/// be subnormal, x < -87.34, is 0. -inf -> 0, NaN -> NaN.
@_transparent
func negativeExponential(_ x: Lanes) -> Lanes { boundedExponential(atLeast(x, -104)) }

/// The same of x >= -1000.
@_transparent
private func boundedExponential(_ x: Lanes) -> Lanes {
  let (n, r) = reduced(x)
  let lowest = IntLanes(repeating: -127)
  // 2^-127 as `powerOfTwo` makes it is 0.
  return fraction(r) * powerOfTwo(n.replacing(with: lowest, where: n .< lowest))
}

/// tanh |x| = -e / (2 + e) with e = exp(-2|x|) - 1 = 2^n (exp(r) - 1) + (2^n - 1):
/// near 0, n = 0 and nothing cancels.
@_transparent
func hyperbolicTangent(_ x: Lanes) -> Lanes {
  let (n, r) = reduced(atLeast(magnitude(x) * Lanes(repeating: -2), -40))
  let scale = powerOfTwo(n)
  let u = multiplyAdd(r * r, exponentialTail(r), r)
  let e = multiplyAdd(scale, u, scale - Lanes(repeating: 1))
  return withSign(of: x, magnitude(e / (Lanes(repeating: 2) + e)))
}

/// 1 / (1 + exp(-x)).
@_transparent
func logistic(_ x: Lanes) -> Lanes {
  let one = Lanes(repeating: 1)
  return one / (one + exponential(-x))
}

/// s = 1 / (1 + exp(-x)) and 1 - s, both to full relative accuracy.
@_transparent
func logisticPair(_ x: Lanes) -> (s: Lanes, complement: Lanes) {
  let one = Lanes(repeating: 1)
  let e = negativeExponential(-magnitude(x))
  let large = one / (one + e)
  let small = e * large
  let negative = x .< Lanes(repeating: 0)
  return (
    large.replacing(with: small, where: negative), small.replacing(with: large, where: negative)
  )
}

/// The normal distribution's lower tail Phi(-a), and exp(-a^2 / 2), of 0 <= a <= 15.
///
/// a < 1: Phi(-a) = 1/2 - a P(a^2). Beyond: exp(-a^2 / 2) Q(a), Q = R(u) / (a + 3),
/// u = (a - 3) / (a + 3), R of degree 7 (error 1.4e-8). So the tail keeps its
/// relative accuracy where 1 - erf(a / sqrt 2) would cancel.
@_transparent
func normalTail(_ a: Lanes) -> (tail: Lanes, exponential: Lanes) {
  let square = a * a
  let e = boundedExponential(square * Lanes(repeating: -0.5))
  let inverse = Lanes(repeating: 1) / (a + Lanes(repeating: 3))
  let u = (a - Lanes(repeating: 3)) * inverse
  var q = Lanes(repeating: -0.001022758660838008)
  q = multiplyAdd(q, u, Lanes(repeating: 0.0009093951666727662))
  q = multiplyAdd(q, u, Lanes(repeating: 0.006983574479818344))
  q = multiplyAdd(q, u, Lanes(repeating: -0.010444322600960732))
  q = multiplyAdd(q, u, Lanes(repeating: -0.047265198081731796))
  q = multiplyAdd(q, u, Lanes(repeating: 0.23001675307750702))
  q = multiplyAdd(q, u, Lanes(repeating: -0.5093318819999695))
  q = multiplyAdd(q, u, Lanes(repeating: 0.7290837168693542))
  var p = Lanes(repeating: -7.496672878914978e-06)
  p = multiplyAdd(p, square, Lanes(repeating: 0.00011305885709589347))
  p = multiplyAdd(p, square, Lanes(repeating: -0.0011859077494591475))
  p = multiplyAdd(p, square, Lanes(repeating: 0.009973140433430672))
  p = multiplyAdd(p, square, Lanes(repeating: -0.06649032980203629))
  p = multiplyAdd(p, square, Lanes(repeating: 0.3989422917366028))
  let inner = multiplyAdd(-a, p, Lanes(repeating: 0.5))
  return ((q * inverse * e).replacing(with: inner, where: a .< Lanes(repeating: 1)), e)
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
