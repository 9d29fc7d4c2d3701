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
  @inline(__always)
  func largestOfRow(_ r: Int) -> Lanes { largestElements(x + r * ld, cols) }
  let largest = byFour(rows, largestOfRow, larger) * k
  @inline(__always)
  func sumsOfRow(_ r: Int) -> Lanes {
    exponentials(x + r * ld, cols, k, negated(allLanes(largest, lane(of: r))))
  }
  let totals = byFour(rows, sumsOfRow, wholeSum)
  let inverses = Lanes(repeating: 1) / totals
  for r in 0..<rows {
    let (x, inverse) = (x + r * ld, allLanes(inverses, lane(of: r)))
    if let halves = output.halves {
      multiply(x, inverse, halves + r * ld, cols)
    } else {
      multiply(x, inverse, x, cols)
    }
  }
  guard let lse else { return }
  let logarithms = singles(doubles(largest) + logarithm(doubles(totals)))
  let isNumber = totals .> Lanes(repeating: 0)
  let nan = Lanes(repeating: .nan)
  let v = nan.replacing(with: logarithms, where: isNumber)
  let ordered = Lanes(
    v[0], v[4], v[8], v[12], v[1], v[5], v[9], v[13], v[2], v[6], v[10], v[14], v[3], v[7], v[11],
    v[15])
  storeStart(ordered, lse, rows)
}

/// y = k x; y may be x. `map` with a function that captures k stays a call for each row.
@inline(__always)
private func multiply<E: Element>(
  _ x: UnsafeMutablePointer<Float>, _ k: Lanes, _ y: UnsafeMutablePointer<E>, _ n: Int
) {
  let whole = n & ~15
  let end = whole != n ? loadEnd(x, n) : k
  var i = 0
  while i < whole {
    store(load(x, i) * k, y, i)
    i &+= 16
  }
  if whole != n { storeEnd(end * k, y, n) }
}

/// Where what belongs to a row is, among 16: rows 0, 4, 8, 12, 1, ... in order.
@inline(__always)
private func lane(of row: Int) -> Int { (row & 3) &* 4 &+ row / 4 }

/// What `combine` makes of the lanes of `ofRow(r)`, for at most 16 rows; 1 for others. Four rows share
/// most of the steps, and each is in all lanes of its quarter then.
@inline(__always)
private func byFour(
  _ rows: Int, _ ofRow: (Int) -> Lanes, _ combine: (Lanes, Lanes) -> Lanes
) -> Lanes {
  var all = Lanes(repeating: 1)
  var r = 0
  while r < rows {
    let a = ofRow(r)
    let b = r &+ 1 < rows ? ofRow(r &+ 1) : a
    let c = r &+ 2 < rows ? ofRow(r &+ 2) : a
    let d = r &+ 3 < rows ? ofRow(r &+ 3) : a
    let place = IntLanes(repeating: Int32(truncatingIfNeeded: r / 4))
    all.replace(
      with: lanesOfFour(a, b, c, d, combine), where: laneIndex & IntLanes(repeating: 3) .== place)
    r &+= 4
  }
  return all
}

/// The lanes' largest x.
@inline(__always)
private func largestElements(_ x: UnsafeMutablePointer<Float>, _ n: Int) -> Lanes {
  let whole = n & ~15
  var top = Lanes(repeating: -.infinity)
  if whole != n { top = top.replacing(with: loadEnd(x, n), where: newLanes(n)) }
  var i = 0
  while i < whole {
    top = larger(load(x, i), top)
    i &+= 16
  }
  return top
}

/// x = exp(scale x + shift), what is raised at most 0; the lanes' sums.
@inline(__always)
private func exponentials(
  _ x: UnsafeMutablePointer<Float>, _ n: Int, _ scale: Lanes, _ shift: Lanes
) -> Lanes {
  let whole = n & ~15
  let end = whole != n ? loadEnd(x, n) : shift
  var sum = Lanes(repeating: 0)
  var i = 0
  while i < whole {
    let e = exponentialBelow(atLeast(multiplyAdd(load(x, i), scale, shift), leastExponent))
    store(e, x, i)
    sum += e
    i &+= 16
  }
  if whole != n {
    let e = exponentialBelow(atLeast(multiplyAdd(end, scale, shift), leastExponent))
    storeEnd(e, x, n)
    sum += Lanes(repeating: 0).replacing(with: e, where: newLanes(n))
  }
  return sum
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
