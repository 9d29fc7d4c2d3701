// Optimizer steps in place, formulas as in torch.optim (see kernels.h).

func adamw(
  _ p: UnsafeMutablePointer<Float>, _ grad: UnsafePointer<Float>, _ m: UnsafeMutablePointer<Float>,
  _ v: UnsafeMutablePointer<Float>, _ n: Int, _ gradScale: Double, _ lr: Double,
  _ beta1: Double, _ beta2: Double, _ eps: Double, _ weightDecay: Double,
  _ correction1: Double, _ sqrtCorrection2: Double
) {
  let b1 = Lanes(repeating: Float(beta1))
  let c1 = Lanes(repeating: Float(1 - beta1))
  let b2 = Lanes(repeating: Float(beta2))
  let c2 = Lanes(repeating: Float(1 - beta2))
  let keep = Lanes(repeating: Float(1 - lr * weightDecay))
  let step = Lanes(repeating: Float(lr / correction1))
  let scale = Lanes(repeating: Float(gradScale))
  let root = Lanes(repeating: Float(sqrtCorrection2))
  let e = Lanes(repeating: Float(eps))

  @inline(__always)
  func update(_ old: Lanes, _ gradient: Lanes, _ m: Lanes, _ v: Lanes) -> (Lanes, Lanes, Lanes) {
    let g = gradient * scale
    let first = multiplyAdd(b1, m, c1 * g)
    let second = multiplyAdd(b2, v, c2 * g * g)
    let change = step * first / (second.squareRoot() / root + e)
    return (old * keep - change, first, second)
  }

  let whole = n & ~15
  let zero = Lanes(repeating: 0)
  var end = (zero, zero, zero)
  if whole != n { end = update(loadEnd(p, n), loadEnd(grad, n), loadEnd(m, n), loadEnd(v, n)) }
  var i = 0
  while i < whole {
    let new = update(load(p, i), load(grad, i), load(m, i), load(v, i))
    store(new.0, p, i)
    store(new.1, m, i)
    store(new.2, v, i)
    i &+= 16
  }
  if whole != n {
    storeEnd(end.0, p, n)
    storeEnd(end.1, m, n)
    storeEnd(end.2, v, n)
  }
}

func sgd(
  _ p: UnsafeMutablePointer<Float>, _ grad: UnsafePointer<Float>,
  _ buf: UnsafeMutablePointer<Float>?, _ n: Int, _ gradScale: Double, _ lr: Double,
  _ momentum: Double, _ weightDecay: Double, _ first: Int32
) {
  let scale = Lanes(repeating: Float(gradScale))
  let decay = Lanes(repeating: Float(weightDecay))
  let rate = Lanes(repeating: Float(-lr))
  guard let buf else {
    @inline(__always)
    func plain(_ old: Lanes, _ gradient: Lanes) -> Lanes {
      multiplyAdd(rate, multiplyAdd(decay, old, scale * gradient), old)
    }
    return map(UnsafePointer(p), grad, p, n, plain)
  }
  let keep = Lanes(repeating: Float(momentum))

  @inline(__always)
  func update(_ old: Lanes, _ gradient: Lanes, _ velocity: Lanes) -> (Lanes, Lanes) {
    let g = multiplyAdd(decay, old, scale * gradient)
    // The first step must not read the buffer, 0 * NaN would stay NaN.
    let new = first != 0 ? g : multiplyAdd(keep, velocity, g)
    return (multiplyAdd(rate, new, old), new)
  }

  let whole = n & ~15
  let zero = Lanes(repeating: 0)
  var end = (zero, zero)
  if whole != n { end = update(loadEnd(p, n), loadEnd(grad, n), loadEnd(buf, n)) }
  var i = 0
  while i < whole {
    let new = update(load(p, i), load(grad, i), load(buf, i))
    store(new.0, p, i)
    store(new.1, buf, i)
    i &+= 16
  }
  if whole != n {
    storeEnd(end.0, p, n)
    storeEnd(end.1, buf, n)
  }
}
