// Softmax of rows, in place. A row that holds NaN or +inf, or nothing but -inf,
// becomes NaN, as in PyTorch: a caller masks with -inf and leaves one key.

func softmaxForward(
  _ x: UnsafeMutablePointer<Float>, _ rows: Int, _ cols: Int, _ ld: Int, _ scale: Float,
  _ lse: UnsafeMutablePointer<Float>?
) {
  guard cols > 0 else { return }
  for r in 0..<max(rows, 0) {
    let row = x + r * ld
    let (largest, total) = exponentials(row, cols, scale)
    let inverse = Lanes(repeating: Float(1 / Double(total)))
    @inline(__always)
    func normalized(_ v: Lanes) -> Lanes { v * inverse }
    map(UnsafePointer(row), row, cols, normalized)
    if let lse {
      lse[r] = total > 0 ? Float(Double(largest) + logarithm(Double(total))) : .nan
    }
  }
}

/// x = exp(scale x - largest); the largest scale x and the sum of the results.
@inline(__always)
private func exponentials(
  _ x: UnsafeMutablePointer<Float>, _ n: Int, _ scale: Float
) -> (largest: Float, total: Float) {
  let whole = n & ~15
  let k = Lanes(repeating: scale)
  let lowest = Lanes(repeating: -.infinity)
  var end = lowest
  var top = lowest
  if whole != n {
    end = loadEnd(x, n)
    top = lowest.replacing(with: end * k, where: newLanes(n))
  }
  var i = 0
  while i < whole {
    top = larger(load(x, i) * k, top)
    i &+= 16
  }
  let largest = largestLane(top)
  let shift = Lanes(repeating: -largest)
  var sum = Lanes(repeating: 0)
  i = 0
  while i < whole {
    let e = exponential(multiplyAdd(load(x, i), k, shift))
    store(e, x, i)
    sum += e
    i &+= 16
  }
  if whole != n {
    let e = exponential(multiplyAdd(end, k, shift))
    storeEnd(e, x, n)
    sum += Lanes(repeating: 0).replacing(with: e, where: newLanes(n))
  }
  return (largest, sumOfLanes(sum))
}

/// x = exp(scale x - lse).
func softmaxAgain(
  _ x: UnsafeMutablePointer<Float>, _ rows: Int, _ cols: Int, _ ld: Int, _ scale: Float,
  _ lse: UnsafePointer<Float>, _ lseStride: Int
) {
  guard cols > 0 else { return }
  let k = Lanes(repeating: scale)
  for r in 0..<max(rows, 0) {
    let shift = Lanes(repeating: -lse[r * lseStride])
    let row = x + r * ld
    @inline(__always)
    func probability(_ v: Lanes) -> Lanes { exponential(multiplyAdd(v, k, shift)) }
    map(UnsafePointer(row), row, cols, probability)
  }
}

/// dp = scale p (dp - delta).
func softmaxBackward(
  _ p: UnsafePointer<Float>, _ dp: UnsafeMutablePointer<Float>, _ rows: Int, _ cols: Int,
  _ ld: Int, _ scale: Float, _ delta: UnsafePointer<Float>, _ deltaStride: Int
) {
  guard cols > 0 else { return }
  let k = Lanes(repeating: scale)
  for r in 0..<max(rows, 0) {
    let shift = Lanes(repeating: delta[r * deltaStride])
    let row = dp + r * ld
    @inline(__always)
    func gradient(_ p: Lanes, _ dp: Lanes) -> Lanes { k * p * (dp - shift) }
    map(p + r * ld, UnsafePointer(row), row, cols, gradient)
  }
}
