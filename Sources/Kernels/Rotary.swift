// Rotary positions: each pair (a, b) of columns i and i + half of a head becomes
// (a c - b s, b c + a s).

func rotate(
  _ x: UnsafeMutablePointer<Float>, _ rows: Int, _ heads: Int, _ headSize: Int, _ ld: Int,
  _ cosines: UnsafePointer<Float>, _ sines: UnsafePointer<Float>,
  _ positions: UnsafePointer<Int32>, _ direction: Float
) {
  turnHeads(x, rows, heads, headSize, ld, cosines, sines, positions, direction)
}

func rotateBF16(
  _ x: UnsafeMutablePointer<UInt16>, _ rows: Int, _ heads: Int, _ headSize: Int, _ ld: Int,
  _ cosines: UnsafePointer<Float>, _ sines: UnsafePointer<Float>,
  _ positions: UnsafePointer<Int32>, _ direction: Float
) {
  turnHeads(x, rows, heads, headSize, ld, cosines, sines, positions, direction)
}

@inline(__always)
private func turnHeads<E: Element>(
  _ x: UnsafeMutablePointer<E>, _ rows: Int, _ heads: Int, _ headSize: Int, _ ld: Int,
  _ cosines: UnsafePointer<Float>, _ sines: UnsafePointer<Float>,
  _ positions: UnsafePointer<Int32>, _ direction: Float
) {
  let half = headSize / 2
  guard half > 0 else { return }
  for r in 0..<max(rows, 0) {
    let table = Int(positions[r]) * half
    for head in 0..<max(heads, 0) {
      let first = x + (r * ld + head * headSize)
      turn(first, first + half, cosines + table, sines + table, direction, half)
    }
  }
}

@inline(__always)
private func turn<E: Element>(
  _ a: UnsafeMutablePointer<E>, _ b: UnsafeMutablePointer<E>,
  _ cosines: UnsafePointer<Float>, _ sines: UnsafePointer<Float>, _ direction: Float, _ n: Int
) {
  let sign = Lanes(repeating: direction)
  let whole = n & ~15
  let zero = Lanes(repeating: 0)
  var (endA, endB) = (zero, zero)
  if whole != n {
    // The end vectors overlap what is stored before: from the values as they were.
    let (u, v, c, s) = (loadEnd(a, n), loadEnd(b, n), loadEnd(cosines, n), loadEnd(sines, n) * sign)
    endA = u * c - v * s
    endB = v * c + u * s
  }
  var i = 0
  while i < whole {
    let (u, v, c, s) = (load(a, i), load(b, i), load(cosines, i), load(sines, i) * sign)
    store(u * c - v * s, a, i)
    store(v * c + u * s, b, i)
    i &+= 16
  }
  if whole != n {
    storeEnd(endA, a, n)
    storeEnd(endB, b, n)
  }
}
