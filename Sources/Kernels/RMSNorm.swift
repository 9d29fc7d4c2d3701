// RMSNorm, forward and backward. All reductions are over one row of `cols` elements, which stays
// in the first-level cache from pass to pass.

func rmsNormForward(
  _ x: UnsafePointer<Float>, _ residual: UnsafePointer<Float>?, _ gamma: UnsafePointer<Float>,
  _ eps: Float, _ sum: UnsafeMutablePointer<Float>, _ y: UnsafeMutablePointer<Float>?,
  _ rounded: UnsafeMutablePointer<UInt16>?, _ rstd: UnsafeMutablePointer<Float>?, _ rows: Int,
  _ cols: Int
) {
  guard cols > 0 else { return }
  let output = Output(y, rounded)
  for r in 0..<max(rows, 0) {
    let row = r * cols
    let s = sum + row
    if let residual {
      map(x + row, residual + row, s, cols, added)
    } else if UnsafePointer(s) != x + row {
      map(x + row, s, cols, copied)
    }
    let average = Double(sumOfSquares(s, cols)) / Double(cols)
    let scale = Float(1 / (average + Double(eps)).squareRoot())
    let k = Lanes(repeating: scale)
    @inline(__always)
    func scaled(_ value: Lanes, _ weight: Lanes) -> Lanes { value * k * weight }
    map(s, gamma, output + row, cols, scaled)
    rstd?[r] = scale
  }
}

@inline(__always)
private func sumOfSquares(_ s: UnsafeMutablePointer<Float>, _ n: Int) -> Float {
  let whole = n & ~15
  var total = Lanes(repeating: 0)
  var i = 0
  while i < whole {
    let v = load(s, i)
    total = multiplyAdd(v, v, total)
    i &+= 16
  }
  if whole != n {
    let v = Lanes(repeating: 0).replacing(with: loadEnd(s, n), where: newLanes(n))
    total = multiplyAdd(v, v, total)
  }
  return sumOfLanes(total)
}

/// With h = sum rstd and g = dy gamma: dx = add + rstd (g - h avg(g h)), dgamma += dy h.
func rmsNormBackward(
  _ dy: UnsafePointer<Float>, _ sum: UnsafePointer<Float>, _ gamma: UnsafePointer<Float>,
  _ rstd: UnsafePointer<Float>, _ add: UnsafePointer<Float>?, _ dx: UnsafeMutablePointer<Float>,
  _ rounded: UnsafeMutablePointer<UInt16>?, _ dgamma: UnsafeMutablePointer<Float>?, _ rows: Int,
  _ cols: Int
) {
  guard cols > 0 else { return }
  let output = Output(dx, rounded)
  for r in 0..<max(rows, 0) {
    let (d, s) = (dy + r * cols, sum + r * cols)
    let k = Lanes(repeating: rstd[r])
    if let dgamma { accumulateScale(d, s, Lanes(repeating: 0), k, dgamma, cols) }
    let dot = gradientDot(d, s, gamma, k, cols)
    let average = Lanes(repeating: Float(Double(dot) / Double(cols)))
    inputGradient(d, s, gamma, k, average, add.map { $0 + r * cols }, output + r * cols, cols)
  }
}

/// Σ g h
@inline(__always)
private func gradientDot(
  _ dy: UnsafePointer<Float>, _ s: UnsafePointer<Float>, _ gamma: UnsafePointer<Float>,
  _ k: Lanes, _ n: Int
) -> Float {
  let whole = n & ~15
  var total = Lanes(repeating: 0)
  var i = 0
  while i < whole {
    total = multiplyAdd(load(dy, i) * load(gamma, i), load(s, i) * k, total)
    i &+= 16
  }
  if whole != n {
    let product = loadEnd(dy, n) * loadEnd(gamma, n) * loadEnd(s, n) * k
    total += Lanes(repeating: 0).replacing(with: product, where: newLanes(n))
  }
  return sumOfLanes(total)
}

@inline(__always)
private func inputGradient(
  _ dy: UnsafePointer<Float>, _ s: UnsafePointer<Float>, _ gamma: UnsafePointer<Float>,
  _ k: Lanes, _ average: Lanes, _ add: UnsafePointer<Float>?, _ dx: Output, _ n: Int
) {
  let whole = n & ~15
  var end = Lanes(repeating: 0)
  if whole != n {
    // What dx may overwrite is loaded before.
    end = k * (loadEnd(dy, n) * loadEnd(gamma, n) - loadEnd(s, n) * k * average)
    if let add { end += loadEnd(add, n) }
  }
  var i = 0
  while i < whole {
    let gradient = k * (load(dy, i) * load(gamma, i) - load(s, i) * k * average)
    if let add { dx.set(load(add, i) + gradient, i) } else { dx.set(gradient, i) }
    i &+= 16
  }
  if whole != n { dx.setEnd(end, n) }
}
