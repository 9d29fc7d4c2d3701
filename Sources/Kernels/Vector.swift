// Rows, columns, sums.

func broadcastRows(
  _ bias: UnsafePointer<Float>?, _ y: UnsafeMutablePointer<Float>, _ rows: Int, _ cols: Int,
  _ ld: Int
) {
  guard cols > 0 else { return }
  for r in 0..<max(rows, 0) {
    if let bias { map(bias, y + r * ld, cols, copied) } else { fill(0, y + r * ld, cols) }
  }
}

/// Blocks of 64 rows keep the rounding error of long columns at the order of
/// sqrt(64) + sqrt(rows / 64) half-ulps instead of sqrt(rows).
func columnSums(
  _ x: UnsafePointer<Float>, _ rows: Int, _ cols: Int, _ ld: Int, _ out: UnsafeMutablePointer<Float>
) {
  var start = 0
  while start < rows {
    let stop = min(start + 64, rows)
    var c = 0
    while c + 64 <= cols {
      let zero = Lanes(repeating: 0)
      var (a, b, d, e) = (zero, zero, zero, zero)
      for r in start..<stop {
        let p = x + (r * ld + c)
        a += load(p)
        b += load(p, 16)
        d += load(p, 32)
        e += load(p, 48)
      }
      store(load(out, c) + a, out, c)
      store(load(out, c + 16) + b, out, c + 16)
      store(load(out, c + 32) + d, out, c + 32)
      store(load(out, c + 48) + e, out, c + 48)
      c += 64
    }
    while c < cols {
      let n = min(16, cols - c)
      var a = Lanes(repeating: 0)
      for r in start..<stop { a += loadStart(x + (r * ld + c), n) }
      for i in 0..<n { out[c + i] += a[i] }
      c += 16
    }
    start = stop
  }
}

func fill(_ value: Float, _ y: UnsafeMutablePointer<Float>, _ n: Int) {
  let v = Lanes(repeating: value)
  let whole = n & ~15
  var i = 0
  while i < whole {
    store(v, y, i)
    i &+= 16
  }
  while i < n {
    y[i] = value
    i &+= 1
  }
}

func axpby(
  _ alpha: Float, _ x: UnsafePointer<Float>, _ beta: Float, _ y: UnsafeMutablePointer<Float>,
  _ n: Int
) {
  let a = Lanes(repeating: alpha)
  let b = Lanes(repeating: beta)
  @inline(__always)
  func scaled(_ x: Lanes) -> Lanes { a * x }
  @inline(__always)
  func accumulated(_ x: Lanes, _ y: Lanes) -> Lanes { multiplyAdd(a, x, y) }
  @inline(__always)
  func combined(_ x: Lanes, _ y: Lanes) -> Lanes { multiplyAdd(a, x, b * y) }
  if beta == 0 {
    map(x, y, n, scaled)
  } else if beta == 1 {
    map(x, UnsafePointer(y), y, n, accumulated)
  } else {
    map(x, UnsafePointer(y), y, n, combined)
  }
}

/// Four accumulators of 16 lanes hide the latency of the additions.
func dot(_ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>, _ n: Int) -> Float {
  let zero = Lanes(repeating: 0)
  var (a, b, c, d) = (zero, zero, zero, zero)
  var i = 0
  while i + 64 <= n {
    a = multiplyAdd(load(x, i), load(y, i), a)
    b = multiplyAdd(load(x, i + 16), load(y, i + 16), b)
    c = multiplyAdd(load(x, i + 32), load(y, i + 32), c)
    d = multiplyAdd(load(x, i + 48), load(y, i + 48), d)
    i &+= 64
  }
  while i + 16 <= n {
    a = multiplyAdd(load(x, i), load(y, i), a)
    i &+= 16
  }
  if i < n { b = multiplyAdd(loadStart(x + i, n - i), loadStart(y + i, n - i), b) }
  return sumOfLanes((a + b) + (c + d))
}

// MARK: float64 sums: element i to lane i mod 16, lanes added in order, no fused
// multiply, so all levels give the same bits

@inline(__always)
private func sumInOrder(_ x: UnsafePointer<Float>, _ n: Int, _ f: (DoubleLanes) -> DoubleLanes)
  -> Double
{
  var total = DoubleLanes(repeating: 0)
  var i = 0
  while i + 16 <= n {
    total += f(doubles(load(x, i)))
    i &+= 16
  }
  if i < n {
    let last = f(doubles(loadStart(x + i, n - i)))
    for lane in 0..<(n - i) { total[lane] += last[lane] }
  }
  var sum = total[0]
  for lane in 1..<16 { sum += total[lane] }
  return sum
}

func sum(_ x: UnsafePointer<Float>, _ n: Int) -> Double {
  @inline(__always)
  func itself(_ v: DoubleLanes) -> DoubleLanes { v }
  return sumInOrder(x, n, itself)
}

func sumSquaredDeviations(_ x: UnsafePointer<Float>, _ center: Double, _ n: Int) -> Double {
  let c = DoubleLanes(repeating: center)
  @inline(__always)
  func squaredDeviation(_ v: DoubleLanes) -> DoubleLanes { (v - c) * (v - c) }
  return sumInOrder(x, n, squaredDeviation)
}

/// Without its sign bit a float's pattern orders as an integer, infinity above
/// every number and NaN above infinity.
func maxAbs(_ x: UnsafePointer<Float>, _ n: Int) -> Float {
  let mask = IntLanes(repeating: 0x7fff_ffff)
  var top = IntLanes(repeating: 0)
  var i = 0
  while i + 16 <= n {
    let v = bits(load(x, i)) & mask
    top = top.replacing(with: v, where: v .> top)
    i &+= 16
  }
  if i < n {
    let v = bits(loadStart(x + i, n - i)) & mask
    top = top.replacing(with: v, where: v .> top)
  }
  var largest: Int32 = 0
  for lane in 0..<16 where top[lane] > largest { largest = top[lane] }
  return largest >= 0x7f80_0000 ? .infinity : Float(bitPattern: UInt32(bitPattern: largest))
}
