import CSupport

// The products of an adapter: P = X F with few columns, F being Aᵀ or B; Y += P F with few terms, F
// being Bᵀ or A; and the sums over tokens C = Pᵀ X, gradients of A and B. A library copies its
// operands before it multiplies, which takes as long as such a product. Each sum is made in one
// order, whatever other rows and columns there are.

/// Some neighbouring sums of a row. What they add up is the product of one number with each of some
/// factors, or, of bfloat16, of a pair of numbers with each of some pairs.
protocol Sums {
  associatedtype Element
  associatedtype Factors

  /// Numbers that are multiplied at once: 1 or 2.
  static var depth: Int { get }
  init()
  static func load(_ p: UnsafePointer<Element>) -> Factors
  func adding(_ x: UnsafePointer<Element>, _ factors: Factors) -> Self
  /// The first n of them.
  func store(_ p: UnsafeMutablePointer<Float>, _ n: Int)
}

/// 16 sums.
protocol WideSums: Sums {
  var lanes: Lanes { get }
  init(_ lanes: Lanes)
  /// 32 columns of `depth` rows of X; `isLast`: of fewer.
  static func load(_ x: UnsafePointer<Element>, _ ldx: Int, isLast: Bool) -> (Factors, Factors)
  /// The sums of columns loaded so, in the columns' order.
  static func inOrder(_ low: Self, _ high: Self) -> (Lanes, Lanes)
}

/// Sums of four rows, `step` apart in memory.
private struct FourRows<S: Sums> {
  private var a: S
  private var b: S
  private var c: S
  private var d: S

  @inline(__always)
  init() { (a, b, c, d) = (S(), S(), S(), S()) }

  @inline(__always)
  mutating func add(_ x: UnsafePointer<S.Element>, _ step: Int, _ factors: S.Factors) {
    a = a.adding(x, factors)
    b = b.adding(x + step, factors)
    c = c.adding(x + 2 &* step, factors)
    d = d.adding(x + 3 &* step, factors)
  }

  /// n columns
  @inline(__always)
  func store(_ p: UnsafeMutablePointer<Float>, _ step: Int, _ n: Int) {
    a.store(p, n)
    b.store(p + step, n)
    c.store(p + 2 &* step, n)
    d.store(p + 3 &* step, n)
  }
}

extension FourRows where S: WideSums {
  @inline(__always)
  init(_ y: UnsafePointer<Float>, _ step: Int) {
    a = S(load(y))
    b = S(load(y + step))
    c = S(load(y + 2 &* step))
    d = S(load(y + 3 &* step))
  }

  /// Rows from the i-th on, the last at least.
  @inline(__always)
  func store<E: Element>(_ y: UnsafeMutablePointer<E>, _ step: Int, from i: Int) {
    if i < 1 { E.store(a.lanes, y) }
    if i < 2 { E.store(b.lanes, y + step) }
    if i < 3 { E.store(c.lanes, y + 2 &* step) }
    E.store(d.lanes, y + 3 &* step)
  }

  /// n of the rows, in 32 columns.
  @inline(__always)
  static func store(
    _ low: FourRows, _ high: FourRows, _ c: UnsafeMutablePointer<Float>, _ step: Int, _ n: Int,
    adds: Bool
  ) {
    if n > 0 { store(S.inOrder(low.a, high.a), c, adds: adds) }
    if n > 1 { store(S.inOrder(low.b, high.b), c + step, adds: adds) }
    if n > 2 { store(S.inOrder(low.c, high.c), c + 2 &* step, adds: adds) }
    if n > 3 { store(S.inOrder(low.d, high.d), c + 3 &* step, adds: adds) }
  }

  @inline(__always)
  private static func store(
    _ sums: (Lanes, Lanes), _ c: UnsafeMutablePointer<Float>, adds: Bool
  ) {
    Float.store(adds ? load(c) + sums.0 : sums.0, c)
    Float.store(adds ? load(c, 16) + sums.1 : sums.1, c + 16)
  }
}

/// Twelve rows from one on, as three times four: of the last ones some again where there are fewer,
/// and of fewer than four one row four times.
private struct TwelveRows {
  let starts: (Int, Int, Int)
  let isOne: Bool
  let next: Int

  @inline(__always)
  init(from row: Int, of rows: Int) {
    isOne = rows < 4
    starts =
      isOne
      ? (row, row, row)
      : (min(row, rows &- 4), min(row &+ 4, rows &- 4), min(row &+ 8, rows &- 4))
    next = row &+ (isOne ? 1 : 12)
  }
}

private struct TwelveSums<S: Sums> {
  var a: FourRows<S>
  var b: FourRows<S>
  var c: FourRows<S>

  @inline(__always)
  mutating func add(
    _ rows: TwelveRows, _ x: UnsafePointer<S.Element>, _ inner: Int, _ ldx: Int,
    _ f: UnsafePointer<S.Element>, _ ldf: Int
  ) {
    let step = rows.isOne ? 0 : ldx
    let (xa, xb, xc) = (
      x + rows.starts.0 &* ldx, x + rows.starts.1 &* ldx, x + rows.starts.2 &* ldx
    )
    var (k, values) = (0, f)
    while k < inner {
      let factors = S.load(values)
      a.add(xa + k, step, factors)
      b.add(xb + k, step, factors)
      c.add(xc + k, step, factors)
      k &+= S.depth
      values += S.depth &* ldf
    }
  }
}

// MARK: P = X F

/// By 16 columns of P, the last by 8 where there are no more: so many of each row of F are read.
@inline(__always)
func multiplyBySkinny<Wide: Sums, Narrow: Sums>(
  _: Wide.Type, _: Narrow.Type, _ x: UnsafePointer<Wide.Element>, _ rows: Int, _ inner: Int,
  _ ldx: Int, _ f: UnsafePointer<Wide.Element>, _ ldf: Int, _ p: UnsafeMutablePointer<Float>,
  _ columns: Int, _ ldp: Int
) where Narrow.Element == Wide.Element {
  var row = 0
  while row < rows {
    let twelve = TwelveRows(from: row, of: rows)
    var j = 0
    while j < columns {
      let n = min(16, columns &- j)
      if n > 8 {
        multiply(Wide.self, twelve, x, inner, ldx, f + Wide.depth &* j, ldf, p + j, n, ldp)
      } else {
        multiply(Narrow.self, twelve, x, inner, ldx, f + Wide.depth &* j, ldf, p + j, n, ldp)
      }
      j &+= 16
    }
    row = twelve.next
  }
}

/// n columns of some rows of P.
@inline(__always)
private func multiply<S: Sums>(
  _: S.Type, _ rows: TwelveRows, _ x: UnsafePointer<S.Element>, _ inner: Int, _ ldx: Int,
  _ f: UnsafePointer<S.Element>, _ ldf: Int, _ p: UnsafeMutablePointer<Float>, _ n: Int, _ ldp: Int
) {
  var sums = TwelveSums(a: FourRows<S>(), b: FourRows<S>(), c: FourRows<S>())
  sums.add(rows, x, inner, ldx, f, ldf)
  let step = rows.isOne ? 0 : ldp
  sums.a.store(p + rows.starts.0 &* ldp, step, n)
  sums.b.store(p + rows.starts.1 &* ldp, step, n)
  sums.c.store(p + rows.starts.2 &* ldp, step, n)
}

// MARK: Y + P F

/// To `out`, which may be y.
/// - Parameter columns: of Y, a multiple of 16
@inline(__always)
func addSkinny<S: WideSums, E: Element>(
  _: S.Type, _ p: UnsafePointer<S.Element>, _ rows: Int, _ inner: Int, _ ldp: Int,
  _ f: UnsafePointer<S.Element>, _ ldf: Int, _ y: UnsafePointer<Float>, _ columns: Int, _ ldy: Int,
  _ out: UnsafeMutablePointer<E>, _ ldo: Int
) {
  var row = 0
  while row < rows {
    let twelve = TwelveRows(from: row, of: rows)
    let (first, second, third) = twelve.starts
    let (from, to) = twelve.isOne ? (0, 0) : (ldy, ldo)
    var j = 0
    while j < columns {
      let (y, out) = (y + j, out + j)
      var sums = TwelveSums(
        a: FourRows<S>(y + first &* ldy, from), b: FourRows<S>(y + second &* ldy, from),
        c: FourRows<S>(y + third &* ldy, from))
      sums.add(twelve, p, inner, ldp, f + S.depth &* j, ldf)
      // Rows that the twelve before had are there.
      sums.a.store(out + first &* ldo, to, from: row &- first)
      sums.b.store(out + second &* ldo, to, from: row &- second)
      sums.c.store(out + third &* ldo, to, from: row &- third)
      j &+= 16
    }
    row = twelve.next
  }
}

// MARK: C = Pᵀ X

/// By blocks of rows, so that each is read from memory once.
/// - Parameters:
///   - p: (rows, columns), `S.depth` rows interleaved
///   - width: of X and C, 32 at least
@inline(__always)
func sumSkinny<S: WideSums>(
  _: S.Type, _ p: UnsafePointer<S.Element>, _ rows: Int, _ columns: Int, _ ldp: Int,
  _ x: UnsafePointer<S.Element>, _ width: Int, _ ldx: Int, _ c: UnsafeMutablePointer<Float>,
  _ ldc: Int
) {
  // Where the columns don't come out even the last 32 are summed anew.
  let whole = width & ~31
  sum(S.self, p, rows, columns, ldp, x, whole, ldx, c, ldc)
  if whole != width {
    sum(S.self, p, rows, columns, ldp, x + (width &- 32), 32, ldx, c + (width &- 32), ldc)
  }
}

/// The same of a multiple of 32 columns.
@inline(__always)
private func sum<S: WideSums>(
  _: S.Type, _ p: UnsafePointer<S.Element>, _ rows: Int, _ columns: Int, _ ldp: Int,
  _ x: UnsafePointer<S.Element>, _ width: Int, _ ldx: Int, _ c: UnsafeMutablePointer<Float>,
  _ ldc: Int
) {
  let most = 16 &* S.depth
  var start = 0
  repeat {
    let count = min(most, rows &- start)
    // Rows of the next block are asked for one after the other while these are summed.
    let aheadRows = min(most, rows &- start &- count)
    var (column, ahead) = (0, 0)
    while column < width {
      while ahead < (column &+ 32) &* aheadRows / width {
        prefetch(x + (start &+ most &+ ahead) &* ldx, width)
        ahead &+= 1
      }
      var j = 0
      while j < columns {
        let n = columns &- j
        add(
          S.self, p + start &* ldp, count, j, n, ldp, x + (start &* ldx &+ column), ldx, c + column,
          ldc, adds: start > 0)
        j &+= n < 4 ? 1 : n < 8 ? 4 : 8
      }
      column &+= 32
    }
    start &+= most
  } while start < rows
}

@inline(__always)
private func prefetch<E>(_ row: UnsafePointer<E>, _ n: Int) {
  var i = 0
  while i < n {
    lorasc_prefetch(row + i)
    i &+= 64 / MemoryLayout<E>.stride
  }
}

/// 32 columns of some rows of C: eight from row j on, or four where there are fewer, or one. Those
/// that are not there are made of others and not stored.
@inline(__always)
private func add<S: WideSums>(
  _: S.Type, _ p: UnsafePointer<S.Element>, _ rows: Int, _ j: Int, _ n: Int, _ ldp: Int,
  _ x: UnsafePointer<S.Element>, _ ldx: Int, _ c: UnsafeMutablePointer<Float>, _ ldc: Int,
  adds: Bool
) {
  let step = n < 4 ? 0 : S.depth
  let second = n < 8 ? j : j &+ 4
  var (a, b) = (FourRows<S>(), FourRows<S>())
  var (d, e) = (FourRows<S>(), FourRows<S>())
  var (row, from) = (0, x)
  var (pa, pb) = (p + S.depth &* j, p + S.depth &* second)
  while row < rows {
    let (low, high) = S.load(from, ldx, isLast: row &+ S.depth > rows)
    a.add(pa, step, low)
    b.add(pa, step, high)
    d.add(pb, step, low)
    e.add(pb, step, high)
    row &+= S.depth
    from += S.depth &* ldx
    pa += S.depth &* ldp
    pb += S.depth &* ldp
  }
  FourRows.store(a, b, c + j &* ldc, ldc, n < 4 ? 1 : 4, adds: adds)
  FourRows.store(d, e, c + second &* ldc, ldc, n < 8 ? 0 : 4, adds: adds)
}
