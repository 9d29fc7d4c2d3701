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

@_transparent
private func powerOfTwo(_ n: IntLanes) -> Lanes {
  floats((n &+ IntLanes(repeating: 127)) &<< IntLanes(repeating: 23))
}

/// exp(x) within 1 ulp; subnormal results too, -inf -> 0, NaN -> NaN. 2^n is
/// applied in two halves, since n runs from -150 to 128.
@_transparent
func exponential(_ x: Lanes) -> Lanes {
  let (n, r) = reduced(atLeast(atMost(x, 89), -104))
  let p = multiplyAdd(r * r, exponentialTail(r), r) + Lanes(repeating: 1)
  let half = n &>> IntLanes(repeating: 1)
  return p * powerOfTwo(half) * powerOfTwo(n &- half)
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
  let e = exponential(-magnitude(x))
  let large = one / (one + e)
  let small = e * large
  let negative = x .< Lanes(repeating: 0)
  return (
    large.replacing(with: small, where: negative), small.replacing(with: large, where: negative)
  )
}

/// Phi(x), the normal distribution, and exp(-x^2 / 2).
///
/// |x| < 1: Phi = 1/2 + x P(x^2). Beyond, with a = |x|:
/// Phi(-a) = exp(-a^2 / 2) Q(a), Q = R(u) / (a + 3), u = (a - 3) / (a + 3),
/// R of degree 7 on 1 <= a <= 15 (error 1.4e-8). So the tail keeps its relative
/// accuracy where 1 + erf(x / sqrt 2) would cancel.
@_transparent
func normalDistribution(_ x: Lanes) -> (cumulative: Lanes, exponential: Lanes) {
  let a = atMost(magnitude(x), 15)
  let square = a * a
  let e = exponential(square * Lanes(repeating: -0.5))
  let inverse = Lanes(repeating: 1) / (a + Lanes(repeating: 3))
  let u = (a - Lanes(repeating: 3)) * inverse
  var tail = Lanes(repeating: -0.001022758660838008)
  tail = multiplyAdd(tail, u, Lanes(repeating: 0.0009093951666727662))
  tail = multiplyAdd(tail, u, Lanes(repeating: 0.006983574479818344))
  tail = multiplyAdd(tail, u, Lanes(repeating: -0.010444322600960732))
  tail = multiplyAdd(tail, u, Lanes(repeating: -0.047265198081731796))
  tail = multiplyAdd(tail, u, Lanes(repeating: 0.23001675307750702))
  tail = multiplyAdd(tail, u, Lanes(repeating: -0.5093318819999695))
  tail = multiplyAdd(tail, u, Lanes(repeating: 0.7290837168693542))
  tail *= inverse * e
  let positive = x .> Lanes(repeating: 0)
  let outer = tail.replacing(with: Lanes(repeating: 1) - tail, where: positive)
  var p = Lanes(repeating: -7.496672878914978e-06)
  p = multiplyAdd(p, square, Lanes(repeating: 0.00011305885709589347))
  p = multiplyAdd(p, square, Lanes(repeating: -0.0011859077494591475))
  p = multiplyAdd(p, square, Lanes(repeating: 0.009973140433430672))
  p = multiplyAdd(p, square, Lanes(repeating: -0.06649032980203629))
  p = multiplyAdd(p, square, Lanes(repeating: 0.3989422917366028))
  let inner = multiplyAdd(p, x, Lanes(repeating: 0.5))
  return (outer.replacing(with: inner, where: a .< Lanes(repeating: 1)), e)
}

/// ln x for finite x > 0, one value, to about 1e-10: x = 2^e m with m in
/// [sqrt(1/2), sqrt 2), s = (m - 1) / (m + 1), ln m = 2 (s + s^3 / 3 + s^5 / 5 + ...).
@_transparent
func logarithm(_ x: Double) -> Double {
  let pattern = x.bitPattern
  let exponent = Int64(bitPattern: pattern &- 0x3fe6_a09e_667f_3bcd) >> 52
  let m = Double(bitPattern: pattern &- UInt64(bitPattern: exponent << 52))
  let s = (m - 1) / (m + 1)
  let z = s * s
  let series = 1 + z * (1.0 / 3 + z * (1.0 / 5 + z * (1.0 / 7 + z * (1.0 / 9 + z * (1.0 / 11)))))
  return Double(exponent) * 0.6931471805599453 + 2 * s * series
}
