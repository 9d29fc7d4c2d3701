import CSupport

// Each activation side by side with its backward, which gives the value too: a gate's needs both,
// and they have most of the work in common. Unknown kinds do nothing; the option table lets none
// through.

let geluKind = Int32(bitPattern: LORASC_ACTIVATION_GELU.rawValue)
let geluTanhKind = Int32(bitPattern: LORASC_ACTIVATION_GELU_TANH.rawValue)
let reluKind = Int32(bitPattern: LORASC_ACTIVATION_RELU.rawValue)
let siluKind = Int32(bitPattern: LORASC_ACTIVATION_SILU.rawValue)
let tangentKind = Int32(bitPattern: LORASC_ACTIVATION_TANH.rawValue)

func activationForward(
  _ kind: Int32, _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ n: Int
) {
  activate(kind, x, y, n)
}

func activationForwardBF16(
  _ kind: Int32, _ x: UnsafePointer<UInt16>, _ y: UnsafeMutablePointer<UInt16>, _ n: Int
) {
  activate(kind, x, y, n)
}

@inline(__always)
private func activate<E: Element>(
  _ kind: Int32, _ x: UnsafePointer<E>, _ y: UnsafeMutablePointer<E>, _ n: Int
) {
  switch kind {
  case geluKind: map(x, y, n, geluForward)
  case geluTanhKind: map(x, y, n, geluTanhForward)
  case reluKind: map(x, y, n, reluForward)
  case siluKind: map(x, y, n, siluForward)
  case tangentKind: map(x, y, n, hyperbolicTangent)
  default: break
  }
}

func activationBackward(
  _ kind: Int32, _ x: UnsafePointer<Float>, _ dy: UnsafePointer<Float>,
  _ dx: UnsafeMutablePointer<Float>, _ n: Int
) {
  activationGradient(kind, x, dy, dx, n)
}

func activationBackwardBF16(
  _ kind: Int32, _ x: UnsafePointer<UInt16>, _ dy: UnsafePointer<UInt16>,
  _ dx: UnsafeMutablePointer<UInt16>, _ n: Int
) {
  activationGradient(kind, x, dy, dx, n)
}

@inline(__always)
private func activationGradient<E: Element>(
  _ kind: Int32, _ x: UnsafePointer<E>, _ dy: UnsafePointer<E>, _ dx: UnsafeMutablePointer<E>,
  _ n: Int
) {
  switch kind {
  case geluKind: activationGradient(x, dy, dx, n, geluBackward)
  case geluTanhKind: activationGradient(x, dy, dx, n, geluTanhBackward)
  case reluKind: activationGradient(x, dy, dx, n, reluBackward)
  case siluKind: activationGradient(x, dy, dx, n, siluBackward)
  case tangentKind: activationGradient(x, dy, dx, n, tangentBackward)
  default: break
  }
}

/// f(x), and dy f'(x).
typealias ValueAndGradient = (value: Lanes, gradient: Lanes)

@inline(__always)
private func activationGradient<E: Element>(
  _ x: UnsafePointer<E>, _ dy: UnsafePointer<E>, _ dx: UnsafeMutablePointer<E>, _ n: Int,
  _ f: (Lanes, Lanes) -> ValueAndGradient
) {
  @inline(__always)
  func gradient(_ x: Lanes, _ dy: Lanes) -> Lanes { f(x, dy).gradient }
  map(x, dy, dx, n, gradient)
}

// MARK: GELU, x Phi(x). With a = |x| and the lower tail Phi(-a): max(x, 0) - a Phi(-a). At its
// bound the tail is 0; the bound keeps inf from making inf * 0.

@_transparent
func geluForward(_ x: Lanes) -> Lanes {
  let a = atMost(magnitude(x), tailBound)
  return multiplyAdd(negated(a), normalTail(a).tail, atLeast(x, 0))
}

/// Phi(x) + x phi(x), phi(x) = exp(-x^2 / 2) / sqrt(2 pi): t = Phi(-a) - a phi(a) left of 0, 1 - t
/// right of it. Beyond a's bound the slope is 0 or 1 to the last bit.
@_transparent
func geluBackward(_ x: Lanes, _ dy: Lanes) -> ValueAndGradient {
  let a = atMost(magnitude(x), tailBound)
  let (tail, e) = normalTail(a)
  let t = multiplyAdd(a * Lanes(repeating: -0.3989422804), e, tail)
  let right = Lanes(repeating: 1) - t
  return (
    multiplyAdd(negated(a), tail, atLeast(x, 0)),
    dy * t.replacing(with: right, where: x .> Lanes(repeating: 0))
  )
}

// MARK: GELU, tanh form: x (1 + tanh t) / 2 = x / (1 + exp(-2t)),
// t = sqrt(2 / pi) (x + 0.044715 x^3); 2t = x (c0 + c1 x^2)

@_transparent
func geluTanhForward(_ x: Lanes) -> Lanes {
  let inner = multiplyAdd(
    x * x, Lanes(repeating: 0.0713548162726009), Lanes(repeating: 1.5957691216057308))
  return x * logistic(x * inner)
}

/// s + x s (1 - s) (2t)', (2t)' = c0 + 3 c1 x^2; 0 or 1 to the last bit beyond 10.
@_transparent
func geluTanhBackward(_ x: Lanes, _ dy: Lanes) -> ValueAndGradient {
  let bounded = atLeast(atMost(x, 10), -10)
  let square = bounded * bounded
  let inner = multiplyAdd(
    square, Lanes(repeating: 0.0713548162726009), Lanes(repeating: 1.5957691216057308))
  let (s, complement) = logisticPair(bounded * inner)
  let slope = multiplyAdd(
    square, Lanes(repeating: 0.2140644488178027), Lanes(repeating: 1.5957691216057308))
  return (x * s, dy * multiplyAdd(bounded * slope, s * complement, s))
}

// MARK: ReLU; its derivative at 0 is 0, as in PyTorch

@_transparent
func reluForward(_ x: Lanes) -> Lanes { atLeast(x, 0) }

@_transparent
func reluBackward(_ x: Lanes, _ dy: Lanes) -> ValueAndGradient {
  let zero = Lanes(repeating: 0)
  return (atLeast(x, 0), dy.replacing(with: zero, where: x .<= zero))
}

// MARK: SiLU, x / (1 + exp(-x))

@_transparent
func siluForward(_ x: Lanes) -> Lanes {
  x / (Lanes(repeating: 1) + exponential(atMost(-x, 89)))
}

/// s (1 + x (1 - s)); 0 or 1 to the last bit beyond 110.
@_transparent
func siluBackward(_ x: Lanes, _ dy: Lanes) -> ValueAndGradient {
  let bounded = atLeast(atMost(x, 110), -110)
  let (s, complement) = logisticPair(bounded)
  return (x * s, dy * multiplyAdd(s * bounded, complement, s))
}

// MARK: tanh

/// 1 - tanh^2 x = 4 s (1 - s) with s = 1 / (1 + exp(-2x)): no cancellation.
@_transparent
func tangentBackward(_ x: Lanes, _ dy: Lanes) -> ValueAndGradient {
  let (s, complement) = logisticPair(x + x)
  return (hyperbolicTangent(x), dy * (Lanes(repeating: 4) * s * complement))
}
