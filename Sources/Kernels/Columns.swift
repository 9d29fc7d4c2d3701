// Layers with a factor an output: columns are weighed.

/// y = k y + bias by columns.
func scaleColumns(
  _ k: UnsafePointer<Float>, _ bias: UnsafePointer<Float>?, _ y: UnsafeMutablePointer<Float>,
  _ rows: Int, _ cols: Int, _ ldy: Int
) {
  guard cols > 0 else { return }
  for r in 0..<max(rows, 0) { scaleRow(k, bias, y + r * ldy, cols) }
}

@inline(__always)
private func scaleRow(
  _ k: UnsafePointer<Float>, _ bias: UnsafePointer<Float>?, _ y: UnsafeMutablePointer<Float>,
  _ n: Int
) {
  let whole = n & ~15
  let zero = Lanes(repeating: 0)
  let end = whole != n ? loadEnd(y, n) : zero
  var i = 0
  while i < whole {
    store(multiplyAdd(load(k, i), load(y, i), bias.map { load($0, i) } ?? zero), y, i)
    i &+= 16
  }
  if whole != n {
    storeEnd(multiplyAdd(loadEnd(k, n), end, bias.map { loadEnd($0, n) } ?? zero), y, n)
  }
}

/// dx = k dy; dk += column sums of dy x, in blocks of rows as `columnSums`.
func scaleColumnsBackward(
  _ k: UnsafePointer<Float>, _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>,
  _ dx: UnsafeMutablePointer<Float>, _ dk: UnsafeMutablePointer<Float>, _ rows: Int, _ cols: Int,
  _ lddy: Int, _ ldx: Int, _ lddx: Int
) {
  scaleBackward(k, dy, x, dx, dk, rows, cols, lddy, ldx, lddx)
}

func scaleColumnsBackwardBF16(
  _ k: UnsafePointer<Float>, _ dy: UnsafePointer<UInt16>, _ x: UnsafePointer<Float>,
  _ dx: UnsafeMutablePointer<UInt16>, _ dk: UnsafeMutablePointer<Float>, _ rows: Int, _ cols: Int,
  _ lddy: Int, _ ldx: Int, _ lddx: Int
) {
  scaleBackward(k, dy, x, dx, dk, rows, cols, lddy, ldx, lddx)
}

@inline(__always)
private func scaleBackward<E: Element>(
  _ k: UnsafePointer<Float>, _ dy: UnsafePointer<E>, _ x: UnsafePointer<Float>,
  _ dx: UnsafeMutablePointer<E>, _ dk: UnsafeMutablePointer<Float>, _ rows: Int, _ cols: Int,
  _ lddy: Int, _ ldx: Int, _ lddx: Int
) {
  var start = 0
  while start < rows {
    let stop = min(start + 64, rows)
    var c = 0
    // Four cache lines of a row at a time: rows are far apart.
    while c + 64 <= cols {
      scaleWide(k + c, dy + c, x + c, dx + c, dk + c, start, stop, lddy, ldx, lddx)
      c += 64
    }
    while c < cols {
      scaleNarrow(
        k + c, dy + c, x + c, dx + c, dk + c, start, stop, lddy, ldx, lddx, min(16, cols - c))
      c += 16
    }
    start = stop
  }
}

/// The same of some rows of n <= 16 columns.
@inline(__always)
private func scaleNarrow<E: Element>(
  _ k: UnsafePointer<Float>, _ dy: UnsafePointer<E>, _ x: UnsafePointer<Float>,
  _ dx: UnsafeMutablePointer<E>, _ dk: UnsafeMutablePointer<Float>, _ start: Int, _ stop: Int,
  _ lddy: Int, _ ldx: Int, _ lddx: Int, _ n: Int
) {
  let factors = loadEnd(k, n)
  var total = Lanes(repeating: 0)
  for r in start..<stop {
    let gradient = loadEnd(dy + r * lddy, n)
    total = multiplyAdd(gradient, loadEnd(x + r * ldx, n), total)
    storeEnd(factors * gradient, dx + r * lddx, n)
  }
  storeEnd(loadEnd(dk, n) + total, dk, n)
}

/// The same of some rows of 64 columns.
@inline(__always)
private func scaleWide<E: Element>(
  _ k: UnsafePointer<Float>, _ dy: UnsafePointer<E>, _ x: UnsafePointer<Float>,
  _ dx: UnsafeMutablePointer<E>, _ dk: UnsafeMutablePointer<Float>, _ start: Int, _ stop: Int,
  _ lddy: Int, _ ldx: Int, _ lddx: Int
) {
  let factors = (load(k, 0), load(k, 16), load(k, 32), load(k, 48))
  let zero = Lanes(repeating: 0)
  var (a, b, c, d) = (zero, zero, zero, zero)
  for r in start..<stop {
    let (row, other, to) = (dy + r * lddy, x + r * ldx, dx + r * lddx)
    let gradients = (load(row, 0), load(row, 16), load(row, 32), load(row, 48))
    a = multiplyAdd(gradients.0, load(other, 0), a)
    b = multiplyAdd(gradients.1, load(other, 16), b)
    c = multiplyAdd(gradients.2, load(other, 32), c)
    d = multiplyAdd(gradients.3, load(other, 48), d)
    store(factors.0 * gradients.0, to, 0)
    store(factors.1 * gradients.1, to, 16)
    store(factors.2 * gradients.2, to, 32)
    store(factors.3 * gradients.3, to, 48)
  }
  store(load(dk, 0) + a, dk, 0)
  store(load(dk, 16) + b, dk, 16)
  store(load(dk, 32) + c, dk, 32)
  store(load(dk, 48) + d, dk, 48)
}

/// y += k x by columns.
func addScaledColumns(
  _ k: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>,
  _ rows: Int, _ cols: Int, _ ldx: Int, _ ldy: Int
) {
  guard cols > 0 else { return }
  for r in 0..<max(rows, 0) { addScaledRow(k, x + r * ldx, y + r * ldy, cols) }
}

@inline(__always)
private func addScaledRow(
  _ k: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ n: Int
) {
  let whole = n & ~15
  var end = Lanes(repeating: 0)
  if whole != n { end = multiplyAdd(loadEnd(k, n), loadEnd(x, n), loadEnd(y, n)) }
  var i = 0
  while i < whole {
    store(multiplyAdd(load(k, i), load(x, i), load(y, i)), y, i)
    i &+= 16
  }
  if whole != n { storeEnd(end, y, n) }
}
