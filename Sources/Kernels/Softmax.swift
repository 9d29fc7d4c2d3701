// Softmax of rows, in place or rounded to bfloat16 elsewhere. A row that holds NaN or +inf, or
// nothing but -inf, becomes NaN, as in PyTorch: a caller masks with -inf and leaves one key.

func softmaxForward(
  _ x: UnsafeMutablePointer<Float>, _ rows: Int, _ cols: Int, _ ld: Int, _ scale: Float,
  _ lse: UnsafeMutablePointer<Float>?, _ rounded: UnsafeMutablePointer<UInt16>?
) {
  guard cols > 0 else { return }
  let output = Output(rounded == nil ? x : nil, rounded)
  // Pass by pass over the rows of a block: what one row waits for, another computes.
  let most = min(16, max(1, 4096 / cols))
  var start = 0
  while start < rows {
    let count = min(most, rows &- start)
    softmaxBlock(
      x + start * ld, count, cols, ld, scale, lse.map { $0 + start }, output + start * ld)
    start &+= count
  }
}

/// At most 16 rows, each with its largest element and its sum in a lane.
@inline(__always)
private func softmaxBlock(
  _ x: UnsafeMutablePointer<Float>, _ rows: Int, _ cols: Int, _ ld: Int, _ scale: Float,
  _ lse: UnsafeMutablePointer<Float>?, _ output: Output
) {
  let k = Lanes(repeating: scale)
  var largest = Lanes(repeating: 0)
  for r in 0..<rows { largest[r] = largestElement(x + r * ld, cols, k) }
  var totals = Lanes(repeating: 1)
  for r in 0..<rows { totals[r] = exponentials(x + r * ld, cols, k, -largest[r]) }
  let inverses = Lanes(repeating: 1) / totals
  for r in 0..<rows {
    let inverse = Lanes(repeating: inverses[r])
    @inline(__always)
    func normalized(_ v: Lanes) -> Lanes { v * inverse }
    map(UnsafePointer(x + r * ld), output + r * ld, cols, normalized)
  }
  guard let lse else { return }
  let logarithms = singles(doubles(largest) + logarithm(doubles(totals)))
  let isNumber = totals .> Lanes(repeating: 0)
  let nan = Lanes(repeating: .nan)
  storeStart(nan.replacing(with: logarithms, where: isNumber), lse, rows)
}

/// The largest scale x.
@inline(__always)
private func largestElement(_ x: UnsafeMutablePointer<Float>, _ n: Int, _ scale: Lanes) -> Float {
  let whole = n & ~15
  var top = Lanes(repeating: -.infinity)
  if whole != n { top = top.replacing(with: loadEnd(x, n) * scale, where: newLanes(n)) }
  var i = 0
  while i < whole {
    top = larger(load(x, i) * scale, top)
    i &+= 16
  }
  return largestLane(top)
}

/// x = exp(scale x + shift); their sum.
@inline(__always)
private func exponentials(
  _ x: UnsafeMutablePointer<Float>, _ n: Int, _ scale: Lanes, _ shift: Float
) -> Float {
  let whole = n & ~15
  let shift = Lanes(repeating: shift)
  let end = whole != n ? loadEnd(x, n) : shift
  var sum = Lanes(repeating: 0)
  var i = 0
  while i < whole {
    let e = exponential(multiplyAdd(load(x, i), scale, shift))
    store(e, x, i)
    sum += e
    i &+= 16
  }
  if whole != n {
    let e = exponential(multiplyAdd(end, scale, shift))
    storeEnd(e, x, n)
    sum += Lanes(repeating: 0).replacing(with: e, where: newLanes(n))
  }
  return sumOfLanes(sum)
}

/// x = exp(scale x - lse), rounded too where there is room for it.
func softmaxAgain(
  _ x: UnsafeMutablePointer<Float>, _ rows: Int, _ cols: Int, _ ld: Int, _ scale: Float,
  _ lse: UnsafePointer<Float>, _ lseStride: Int, _ rounded: UnsafeMutablePointer<UInt16>?
) {
  guard cols > 0 else { return }
  let output = Output(x, rounded)
  let k = Lanes(repeating: scale)
  for r in 0..<max(rows, 0) {
    let shift = Lanes(repeating: -lse[r * lseStride])
    @inline(__always)
    func probability(_ v: Lanes) -> Lanes { exponential(multiplyAdd(v, k, shift)) }
    map(UnsafePointer(x + r * ld), output + r * ld, cols, probability)
  }
}

/// dp = scale p (dp - delta), delta = sum of p dp.
func softmaxBackward(
  _ p: UnsafePointer<Float>, _ dp: UnsafeMutablePointer<Float>, _ rows: Int, _ cols: Int,
  _ ld: Int, _ scale: Float, _ rounded: UnsafeMutablePointer<UInt16>?
) {
  guard cols > 0 else { return }
  let k = Lanes(repeating: scale)
  let output = Output(rounded == nil ? dp : nil, rounded)
  for r in 0..<max(rows, 0) {
    let (p, dp) = (p + r * ld, UnsafePointer(dp + r * ld))
    let shift = Lanes(repeating: dot(p, dp, cols))
    @inline(__always)
    func gradient(_ p: Lanes, _ dp: Lanes) -> Lanes { k * p * (dp - shift) }
    map(p, dp, output + r * ld, cols, gradient)
  }
}
