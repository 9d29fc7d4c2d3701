// LayerNorm, forward and backward. All reductions are over one row of `cols`
// elements, which stays in the first-level cache from pass to pass.

func layerNormForward(
  _ x: UnsafePointer<Float>, _ residual: UnsafePointer<Float>?, _ gamma: UnsafePointer<Float>,
  _ beta: UnsafePointer<Float>, _ eps: Float, _ sum: UnsafeMutablePointer<Float>,
  _ y: UnsafeMutablePointer<Float>?, _ rounded: UnsafeMutablePointer<UInt16>?,
  _ mean: UnsafeMutablePointer<Float>?, _ rstd: UnsafeMutablePointer<Float>?, _ rows: Int,
  _ cols: Int
) {
  guard cols > 0 else { return }
  let output = Output(y, rounded)
  for r in 0..<max(rows, 0) {
    let row = r * cols
    let s = sum + row
    let rough: Float
    if let residual {
      rough = addAndAverage(x + row, residual + row, s, cols)
    } else {
      if UnsafePointer(s) != x + row { map(x + row, s, cols, copied) }
      rough = average(s, cols)
    }
    let (rest, scale) = moments(s, rough, eps, cols)
    normalize(s, gamma, beta, output + row, rough, rest, scale, cols)
    mean?[r] = rough + rest
    rstd?[r] = scale
  }
}

/// s = x + residual; the mean of s.
@inline(__always)
private func addAndAverage(
  _ x: UnsafePointer<Float>, _ residual: UnsafePointer<Float>, _ s: UnsafeMutablePointer<Float>,
  _ n: Int
) -> Float {
  let whole = n & ~15
  var total = Lanes(repeating: 0)
  var end = Lanes(repeating: 0)
  if whole != n { end = loadEnd(x, n) + loadEnd(residual, n) }
  var i = 0
  while i < whole {
    let v = load(x, i) + load(residual, i)
    store(v, s, i)
    total += v
    i &+= 16
  }
  if whole != n {
    storeEnd(end, s, n)
    total += Lanes(repeating: 0).replacing(with: end, where: newLanes(n))
  }
  return Float(Double(sumOfLanes(total)) / Double(n))
}

@inline(__always)
private func average(_ s: UnsafeMutablePointer<Float>, _ n: Int) -> Float {
  let whole = n & ~15
  var total = Lanes(repeating: 0)
  var i = 0
  while i < whole {
    total += load(s, i)
    i &+= 16
  }
  if whole != n {
    total += Lanes(repeating: 0).replacing(with: loadEnd(s, n), where: newLanes(n))
  }
  return Float(Double(sumOfLanes(total)) / Double(n))
}

/// Second pass around the rough mean m: with d = s - m, the mean is m + avg(d)
/// and the variance avg(d^2) - avg(d)^2, where the correction is tiny and
/// nothing cancels.
@inline(__always)
private func moments(
  _ s: UnsafeMutablePointer<Float>, _ rough: Float, _ eps: Float, _ n: Int
) -> (rest: Float, scale: Float) {
  let center = Lanes(repeating: rough)
  let whole = n & ~15
  var first = Lanes(repeating: 0)
  var second = Lanes(repeating: 0)
  var i = 0
  while i < whole {
    let d = load(s, i) - center
    first += d
    second = multiplyAdd(d, d, second)
    i &+= 16
  }
  if whole != n {
    let d = Lanes(repeating: 0).replacing(with: loadEnd(s, n) - center, where: newLanes(n))
    first += d
    second = multiplyAdd(d, d, second)
  }
  let rest = Double(sumOfLanes(first)) / Double(n)
  let variance = Double(sumOfLanes(second)) / Double(n) - rest * rest
  let scale = 1 / (max(variance, 0) + Double(eps)).squareRoot()
  return (Float(rest), Float(scale))
}

@inline(__always)
private func normalize(
  _ s: UnsafeMutablePointer<Float>, _ gamma: UnsafePointer<Float>, _ beta: UnsafePointer<Float>,
  _ y: Output, _ rough: Float, _ rest: Float, _ scale: Float, _ n: Int
) {
  let whole = n & ~15
  let end = whole != n ? loadEnd(s, n) : Lanes(repeating: 0)
  let (m, d, k) = (Lanes(repeating: rough), Lanes(repeating: rest), Lanes(repeating: scale))
  var i = 0
  while i < whole {
    let standard = ((load(s, i) - m) - d) * k
    y.set(multiplyAdd(standard, load(gamma, i), load(beta, i)), i)
    i &+= 16
  }
  if whole != n {
    let standard = ((end - m) - d) * k
    y.setEnd(multiplyAdd(standard, loadEnd(gamma, n), loadEnd(beta, n)), n)
  }
}

/// With h = (sum - mean) rstd and g = dy gamma:
/// dx = add + rstd (g - avg(g) - h avg(g h)), dgamma += dy h, dbeta += dy.
func layerNormBackward(
  _ dy: UnsafePointer<Float>, _ sum: UnsafePointer<Float>, _ gamma: UnsafePointer<Float>,
  _ mean: UnsafePointer<Float>, _ rstd: UnsafePointer<Float>, _ add: UnsafePointer<Float>?,
  _ dx: UnsafeMutablePointer<Float>, _ rounded: UnsafeMutablePointer<UInt16>?,
  _ dgamma: UnsafeMutablePointer<Float>?, _ dbeta: UnsafeMutablePointer<Float>?, _ rows: Int,
  _ cols: Int
) {
  guard cols > 0 else { return }
  let output = Output(dx, rounded)
  for r in 0..<max(rows, 0) {
    let (d, s) = (dy + r * cols, sum + r * cols)
    let m = Lanes(repeating: mean[r])
    let k = Lanes(repeating: rstd[r])
    if let dgamma { accumulateScale(d, s, m, k, dgamma, cols) }
    if let dbeta { map(d, UnsafePointer(dbeta), dbeta, cols, added) }
    inputGradient(d, s, gamma, m, k, add.map { $0 + r * cols }, output + r * cols, cols)
  }
}

@inline(__always)
func added(_ a: Lanes, _ b: Lanes) -> Lanes { a + b }

@inline(__always)
func accumulateScale(
  _ dy: UnsafePointer<Float>, _ s: UnsafePointer<Float>, _ m: Lanes, _ k: Lanes,
  _ dgamma: UnsafeMutablePointer<Float>, _ n: Int
) {
  let whole = n & ~15
  var end = Lanes(repeating: 0)
  if whole != n {
    end = multiplyAdd(loadEnd(dy, n), (loadEnd(s, n) - m) * k, loadEnd(dgamma, n))
  }
  var i = 0
  while i < whole {
    store(multiplyAdd(load(dy, i), (load(s, i) - m) * k, load(dgamma, i)), dgamma, i)
    i &+= 16
  }
  if whole != n { storeEnd(end, dgamma, n) }
}

@inline(__always)
private func inputGradient(
  _ dy: UnsafePointer<Float>, _ s: UnsafePointer<Float>, _ gamma: UnsafePointer<Float>, _ m: Lanes,
  _ k: Lanes, _ add: UnsafePointer<Float>?, _ dx: Output, _ n: Int
) {
  let whole = n & ~15
  var sumG = Lanes(repeating: 0)
  var sumGH = Lanes(repeating: 0)
  var i = 0
  while i < whole {
    let g = load(dy, i) * load(gamma, i)
    sumG += g
    sumGH = multiplyAdd(g, (load(s, i) - m) * k, sumGH)
    i &+= 16
  }
  var endG = Lanes(repeating: 0)
  var endH = Lanes(repeating: 0)
  if whole != n {
    endG = loadEnd(dy, n) * loadEnd(gamma, n)
    endH = (loadEnd(s, n) - m) * k
    let fresh = Lanes(repeating: 0).replacing(with: endG, where: newLanes(n))
    sumG += fresh
    sumGH += Lanes(repeating: 0).replacing(with: endG * endH, where: newLanes(n))
  }
  let averageG = Lanes(repeating: Float(Double(sumOfLanes(sumG)) / Double(n)))
  let averageGH = Lanes(repeating: Float(Double(sumOfLanes(sumGH)) / Double(n)))
  // What dx may overwrite is loaded before.
  let endAdd = whole != n ? add.map { loadEnd($0, n) } ?? Lanes(repeating: 0) : averageG
  i = 0
  while i < whole {
    let g = load(dy, i) * load(gamma, i)
    let h = (load(s, i) - m) * k
    let gradient = k * ((g - averageG) - h * averageGH)
    if let add { dx.set(load(add, i) + gradient, i) } else { dx.set(gradient, i) }
    i &+= 16
  }
  if whole != n { dx.setEnd(endAdd + k * ((endG - averageG) - endH * averageGH), n) }
}
