import CSupport

// Gated feed-forward: y = f(gate) up, forward and backward.

func gateForward(
  _ kind: Int32, _ gate: UnsafePointer<Float>, _ up: UnsafePointer<Float>,
  _ y: UnsafeMutablePointer<Float>, _ n: Int
) {
  gated(kind, gate, up, y, n)
}

func gateForwardBF16(
  _ kind: Int32, _ gate: UnsafePointer<UInt16>, _ up: UnsafePointer<UInt16>,
  _ y: UnsafeMutablePointer<UInt16>, _ n: Int
) {
  gated(kind, gate, up, y, n)
}

@inline(__always)
private func gated<E: Element>(
  _ kind: Int32, _ gate: UnsafePointer<E>, _ up: UnsafePointer<E>, _ y: UnsafeMutablePointer<E>,
  _ n: Int
) {
  switch kind {
  case geluKind: gated(gate, up, y, n, geluForward)
  case geluTanhKind: gated(gate, up, y, n, geluTanhForward)
  case reluKind: gated(gate, up, y, n, reluForward)
  case siluKind: gated(gate, up, y, n, siluForward)
  case tangentKind: gated(gate, up, y, n, hyperbolicTangent)
  default: break
  }
}

func gateBackward(
  _ kind: Int32, _ gate: UnsafePointer<Float>, _ up: UnsafePointer<Float>,
  _ dy: UnsafePointer<Float>, _ dgate: UnsafeMutablePointer<Float>,
  _ dup: UnsafeMutablePointer<Float>, _ n: Int
) {
  gateGradients(kind, gate, up, dy, dgate, dup, n)
}

func gateBackwardBF16(
  _ kind: Int32, _ gate: UnsafePointer<UInt16>, _ up: UnsafePointer<UInt16>,
  _ dy: UnsafePointer<UInt16>, _ dgate: UnsafeMutablePointer<UInt16>,
  _ dup: UnsafeMutablePointer<UInt16>, _ n: Int
) {
  gateGradients(kind, gate, up, dy, dgate, dup, n)
}

@inline(__always)
private func gateGradients<E: Element>(
  _ kind: Int32, _ gate: UnsafePointer<E>, _ up: UnsafePointer<E>, _ dy: UnsafePointer<E>,
  _ dgate: UnsafeMutablePointer<E>, _ dup: UnsafeMutablePointer<E>, _ n: Int
) {
  switch kind {
  case geluKind: gateGradients(gate, up, dy, dgate, dup, n, geluBackward)
  case geluTanhKind: gateGradients(gate, up, dy, dgate, dup, n, geluTanhBackward)
  case reluKind: gateGradients(gate, up, dy, dgate, dup, n, reluBackward)
  case siluKind: gateGradients(gate, up, dy, dgate, dup, n, siluBackward)
  case tangentKind: gateGradients(gate, up, dy, dgate, dup, n, tangentBackward)
  default: break
  }
}

@inline(__always)
private func gated<E: Element>(
  _ gate: UnsafePointer<E>, _ up: UnsafePointer<E>, _ y: UnsafeMutablePointer<E>,
  _ n: Int, _ f: (Lanes) -> Lanes
) {
  @inline(__always)
  func product(_ g: Lanes, _ u: Lanes) -> Lanes { f(g) * u }
  map(gate, up, y, n, product)
}

/// Everything is loaded before anything is stored: outputs may lie over inputs.
@inline(__always)
private func gateGradients<E: Element>(
  _ gate: UnsafePointer<E>, _ up: UnsafePointer<E>, _ dy: UnsafePointer<E>,
  _ dgate: UnsafeMutablePointer<E>, _ dup: UnsafeMutablePointer<E>, _ n: Int,
  _ f: (Lanes, Lanes) -> ValueAndGradient
) {
  let whole = n & ~15
  let hasEnd = whole != n
  let zero = Lanes(repeating: 0)
  let (endG, endU, endD) =
    hasEnd ? (loadEnd(gate, n), loadEnd(up, n), loadEnd(dy, n)) : (zero, zero, zero)
  var i = 0
  while i < whole {
    let (g, u, d) = (load(gate, i), load(up, i), load(dy, i))
    let (value, gradient) = f(g, d * u)
    store(gradient, dgate, i)
    store(d * value, dup, i)
    i &+= 16
  }
  if hasEnd {
    let (value, gradient) = f(endG, endD * endU)
    storeEnd(gradient, dgate, n)
    storeEnd(endD * value, dup, n)
  }
}
