// Columns weighed or multiplied with each other, for layers with a factor an output.

/// y[r,c] = k[c] x[r,c] + beta y[r,c], beta 0 or 1; beta = 0 never reads y.
func scaleColumns(
  _ k: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ beta: Float,
  _ y: UnsafeMutablePointer<Float>, _ rows: Int, _ cols: Int, _ ldx: Int, _ ldy: Int
) {
  guard cols > 0 else { return }
  for r in 0..<max(rows, 0) {
    let (from, to) = (x + r * ldx, y + r * ldy)
    if beta == 0 {
      map(k, from, to, cols, multiplied)
    } else {
      addMultiplied(k, from, to, cols)
    }
  }
}

@inline(__always)
private func multiplied(_ a: Lanes, _ b: Lanes) -> Lanes { a * b }

@inline(__always)
private func addMultiplied(
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

/// out[c] += sum over r of x[r,c] y[r,c], in blocks of rows as `columnSums`.
func columnDots(
  _ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>, _ rows: Int, _ cols: Int, _ ldx: Int,
  _ ldy: Int, _ out: UnsafeMutablePointer<Float>
) {
  var start = 0
  while start < rows {
    let stop = min(start + 64, rows)
    var c = 0
    // Four cache lines of a row at a time: rows are far apart.
    while c + 64 <= cols {
      addDots(x + c, y + c, start, stop, ldx, ldy, out + c)
      c += 64
    }
    while c < cols {
      let n = min(16, cols - c)
      var total = Lanes(repeating: 0)
      if n == 16 {
        for r in start..<stop {
          total = multiplyAdd(load(x, r * ldx + c), load(y, r * ldy + c), total)
        }
      } else {
        for r in start..<stop {
          total = multiplyAdd(
            loadStart(x + (r * ldx + c), n), loadStart(y + (r * ldy + c), n), total)
        }
      }
      for i in 0..<n { out[c + i] += total[i] }
      c += 16
    }
    start = stop
  }
}

/// out[c] += sum over some r of x[r,c] y[r,c], of 64 columns.
@inline(__always)
private func addDots(
  _ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>, _ start: Int, _ stop: Int, _ ldx: Int,
  _ ldy: Int, _ out: UnsafeMutablePointer<Float>
) {
  let zero = Lanes(repeating: 0)
  var (a, b, c, d) = (zero, zero, zero, zero)
  for r in start..<stop {
    let (row, other) = (x + r * ldx, y + r * ldy)
    a = multiplyAdd(load(row, 0), load(other, 0), a)
    b = multiplyAdd(load(row, 16), load(other, 16), b)
    c = multiplyAdd(load(row, 32), load(other, 32), c)
    d = multiplyAdd(load(row, 48), load(other, 48), d)
  }
  store(load(out, 0) + a, out, 0)
  store(load(out, 16) + b, out, 16)
  store(load(out, 32) + c, out, 32)
  store(load(out, 48) + d, out, 48)
}
