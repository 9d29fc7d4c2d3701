import CSupport

// The vector vocabulary of the kernels: 16 float32 lanes, whatever registers the
// CPU level has. Everything here is `@inline(__always)` and works on concrete
// types: generic members of the standard library's SIMD types (`sum()`,
// `SIMD16<Float>(SIMD16<Int32>)`, `evenHalf`) would be specialised into weak
// symbols, see README.md.

typealias Lanes = SIMD16<Float>
typealias IntLanes = SIMD16<Int32>
typealias WordLanes = SIMD16<UInt32>
typealias HalfLanes = SIMD16<UInt16>
typealias DoubleLanes = SIMD16<Double>
typealias LongLanes = SIMD16<Int64>
typealias LaneMask = SIMDMask<IntLanes>

// Computed: a stored global would be initialised lazily, under a lock.
@inline(__always)
var laneIndex: IntLanes { IntLanes(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) }

/// a b + c, fused where the level has an instruction for it.
@inline(__always)
func multiplyAdd(_ a: Lanes, _ b: Lanes, _ c: Lanes) -> Lanes {
  #if LORASC_FMA
    lorasc_lanes_multiply_add(a, b, c)
  #else
    a * b + c
  #endif
}

// MARK: Memory

@inline(__always)
func load<E: Element>(_ p: UnsafePointer<E>, _ i: Int = 0) -> Lanes { E.load(p + i) }

@inline(__always)
func load<E: Element>(_ p: UnsafeMutablePointer<E>, _ i: Int = 0) -> Lanes {
  load(UnsafePointer(p), i)
}

@inline(__always)
func store<E: Element>(_ v: Lanes, _ p: UnsafeMutablePointer<E>, _ i: Int = 0) {
  E.store(v, p + i)
}

// Arrays of n elements are walked as n / 16 whole vectors and, if 16 does not
// divide n, one *end vector*: the last 16 elements, of which only the top n % 16
// lanes are new. Elementwise kernels load the end vector before they store
// anything, so in-place calls compute the overlapping lanes twice from the same
// input and store the same bits twice. Arrays shorter than 16 sit in the top
// lanes, zeros below.

/// The end vector of p[0 ..< n], n >= 1.
@inline(__always)
func loadEnd<E: Element>(_ p: UnsafePointer<E>, _ n: Int) -> Lanes {
  n >= 16 ? load(p, n - 16) : E.loadFew(p, n)
}

@inline(__always)
func loadEnd<E: Element>(_ p: UnsafeMutablePointer<E>, _ n: Int) -> Lanes {
  loadEnd(UnsafePointer(p), n)
}

@inline(__always)
func storeEnd<E: Element>(_ v: Lanes, _ p: UnsafeMutablePointer<E>, _ n: Int) {
  if n >= 16 { return store(v, p, n - 16) }
  E.storeFew(v, p, n)
}

/// True in the lanes of the end vector that no whole vector covers.
@inline(__always)
func newLanes(_ n: Int) -> LaneMask {
  laneIndex .>= IntLanes(repeating: Int32(truncatingIfNeeded: 16 - n % 16))
}

/// p[0 ..< n], n <= 16, in the low lanes, zeros above.
@inline(__always)
func loadStart(_ p: UnsafePointer<Float>, _ n: Int) -> Lanes {
  if n == 16 { return load(p) }
  var v = Lanes(repeating: 0)
  for i in 0..<n { v[i] = p[i] }
  return v
}

/// The low n <= 16 lanes.
@inline(__always)
func storeStart(_ v: Lanes, _ p: UnsafeMutablePointer<Float>, _ n: Int) {
  if n == 16 { return store(v, p) }
  for i in 0..<n { p[i] = v[i] }
}

/// The first n <= 8 lanes.
@inline(__always)
func storeStart(_ v: SIMD8<Float>, _ p: UnsafeMutablePointer<Float>, _ n: Int) {
  if n == 8 {
    // Safe: because callers keep n elements within the array.
    UnsafeMutableRawPointer(p).storeBytes(of: v, as: SIMD8<Float>.self)
  } else {
    for i in 0..<n { p[i] = v[i] }
  }
}

// MARK: Lane arithmetic

/// min(v, bound) that keeps NaN.
@inline(__always)
func atMost(_ v: Lanes, _ bound: Float) -> Lanes {
  let b = Lanes(repeating: bound)
  return v.replacing(with: b, where: v .> b)
}

/// max(v, bound) that keeps NaN.
@inline(__always)
func atLeast(_ v: Lanes, _ bound: Float) -> Lanes {
  let b = Lanes(repeating: bound)
  return v.replacing(with: b, where: v .< b)
}

@inline(__always)
func bits(_ v: Lanes) -> IntLanes { unsafeBitCast(v, to: IntLanes.self) }

@inline(__always)
func floats(_ v: IntLanes) -> Lanes { unsafeBitCast(v, to: Lanes.self) }

@inline(__always)
func magnitude(_ v: Lanes) -> Lanes { floats(bits(v) & IntLanes(repeating: 0x7fff_ffff)) }

/// -v as a multiplication takes it without an instruction; `-v` is a subtraction from 0.
@inline(__always)
func negated(_ v: Lanes) -> Lanes { floats(bits(v) ^ IntLanes(repeating: Int32.min)) }

/// `size` with the sign of `sign`; `size` must be non-negative.
@inline(__always)
func withSign(of sign: Lanes, _ size: Lanes) -> Lanes {
  floats(bits(size) | (bits(sign) & IntLanes(repeating: Int32.min)))
}

@inline(__always)
func larger(_ a: Lanes, _ b: Lanes) -> Lanes {
  #if LORASC_TABLES
    lorasc_lanes_larger(a, b)
  #else
    b.replacing(with: a, where: a .> b)
  #endif
}

/// a + b, in one piece where few lanes of the result are used.
@inline(__always)
func wholeSum(_ a: Lanes, _ b: Lanes) -> Lanes {
  #if LORASC_TABLES
    lorasc_lanes_sum(a, b)
  #else
    a + b
  #endif
}

/// Lane i in all of them.
@inline(__always)
func allLanes(_ v: Lanes, _ i: Int) -> Lanes {
  #if LORASC_TABLES
    chosen(v, v, IntLanes(repeating: Int32(truncatingIfNeeded: i)))
  #else
    Lanes(repeating: v[i])
  #endif
}

#if LORASC_TABLES
  /// Lane i is element index[i] mod 32 of `low` and then `high`.
  @inline(__always)
  func chosen(_ low: Lanes, _ high: Lanes, _ index: IntLanes) -> Lanes {
    lorasc_lanes_chosen(low, high, index)
  }
#endif

/// The lanes' sum, halves first.
@inline(__always)
func sumOfLanes(_ v: Lanes) -> Float {
  let eight = v.lowHalf + v.highHalf
  let four = eight.lowHalf + eight.highHalf
  let two = four.lowHalf + four.highHalf
  return two.x + two.y
}

/// Whole vectors at each step: of halves the compiler takes the comparison apart.
@inline(__always)
func largestLane(_ v: Lanes) -> Float {
  let pairs = larger(v, exchanged(v, 8))
  let fours = larger(pairs, exchanged(pairs, 4))
  let eights = larger(fours, exchanged(fours, 2))
  return larger(eights, exchanged(eights, 1))[0]
}

/// What `combine` makes of all lanes of a, b, c and d, in all lanes of a quarter each.
@inline(__always)
func lanesOfFour(
  _ a: Lanes, _ b: Lanes, _ c: Lanes, _ d: Lanes, _ combine: (Lanes, Lanes) -> Lanes
) -> Lanes {
  let (ab, cd) = (halves(a, b, combine), halves(c, d, combine))
  let quarters = combine(
    Lanes(
      ab[0], ab[1], ab[2], ab[3], ab[8], ab[9], ab[10], ab[11], cd[0], cd[1], cd[2], cd[3], cd[8],
      cd[9], cd[10], cd[11]),
    Lanes(
      ab[4], ab[5], ab[6], ab[7], ab[12], ab[13], ab[14], ab[15], cd[4], cd[5], cd[6], cd[7],
      cd[12], cd[13], cd[14], cd[15]))
  let twos = combine(quarters, exchanged(quarters, 2))
  return combine(twos, exchanged(twos, 1))
}

/// Of a in the low half, of b in the high one.
@inline(__always)
private func halves(_ a: Lanes, _ b: Lanes, _ combine: (Lanes, Lanes) -> Lanes) -> Lanes {
  combine(
    Lanes(
      a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], b[0], b[1], b[2], b[3], b[4], b[5], b[6],
      b[7]),
    Lanes(
      a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15], b[8], b[9], b[10], b[11], b[12], b[13],
      b[14], b[15]))
}

/// Lane i of the result is lane i ^ d of v.
@inline(__always)
private func exchanged(_ v: Lanes, _ d: Int) -> Lanes {
  Lanes(
    v[d], v[1 ^ d], v[2 ^ d], v[3 ^ d], v[4 ^ d], v[5 ^ d], v[6 ^ d], v[7 ^ d], v[8 ^ d], v[9 ^ d],
    v[10 ^ d], v[11 ^ d], v[12 ^ d], v[13 ^ d], v[14 ^ d], v[15 ^ d])
}

// MARK: Conversions, lane by lane: the compiler makes one instruction of each

@inline(__always)
func doubles(_ v: Lanes) -> DoubleLanes {
  DoubleLanes(
    Double(v[0]), Double(v[1]), Double(v[2]), Double(v[3]), Double(v[4]), Double(v[5]),
    Double(v[6]), Double(v[7]), Double(v[8]), Double(v[9]), Double(v[10]), Double(v[11]),
    Double(v[12]), Double(v[13]), Double(v[14]), Double(v[15]))
}

@inline(__always)
func doubles(_ v: LongLanes) -> DoubleLanes {
  DoubleLanes(
    Double(v[0]), Double(v[1]), Double(v[2]), Double(v[3]), Double(v[4]), Double(v[5]),
    Double(v[6]), Double(v[7]), Double(v[8]), Double(v[9]), Double(v[10]), Double(v[11]),
    Double(v[12]), Double(v[13]), Double(v[14]), Double(v[15]))
}

/// To the nearest.
@inline(__always)
func singles(_ v: DoubleLanes) -> Lanes {
  Lanes(
    Float(v[0]), Float(v[1]), Float(v[2]), Float(v[3]), Float(v[4]), Float(v[5]), Float(v[6]),
    Float(v[7]), Float(v[8]), Float(v[9]), Float(v[10]), Float(v[11]), Float(v[12]), Float(v[13]),
    Float(v[14]), Float(v[15]))
}

@inline(__always)
func converted(_ v: IntLanes) -> Lanes {
  Lanes(
    Float(v[0]), Float(v[1]), Float(v[2]), Float(v[3]), Float(v[4]), Float(v[5]), Float(v[6]),
    Float(v[7]), Float(v[8]), Float(v[9]), Float(v[10]), Float(v[11]), Float(v[12]), Float(v[13]),
    Float(v[14]), Float(v[15]))
}

@inline(__always)
func widened(_ v: HalfLanes) -> WordLanes {
  WordLanes(
    UInt32(v[0]), UInt32(v[1]), UInt32(v[2]), UInt32(v[3]), UInt32(v[4]), UInt32(v[5]),
    UInt32(v[6]), UInt32(v[7]), UInt32(v[8]), UInt32(v[9]), UInt32(v[10]), UInt32(v[11]),
    UInt32(v[12]), UInt32(v[13]), UInt32(v[14]), UInt32(v[15]))
}

/// The low 16 bits of each lane.
@inline(__always)
func narrowed(_ v: WordLanes) -> HalfLanes {
  HalfLanes(
    low(v[0]), low(v[1]), low(v[2]), low(v[3]), low(v[4]), low(v[5]),
    low(v[6]), low(v[7]), low(v[8]), low(v[9]), low(v[10]), low(v[11]),
    low(v[12]), low(v[13]), low(v[14]), low(v[15]))
}

@inline(__always)
private func low(_ word: UInt32) -> UInt16 { UInt16(truncatingIfNeeded: word) }

/// a0 b0 a1 b1 ... a15 b15.
@inline(__always)
func interleaved(_ a: Lanes, _ b: Lanes) -> (Lanes, Lanes) {
  (
    Lanes(
      a[0], b[0], a[1], b[1], a[2], b[2], a[3], b[3], a[4], b[4], a[5], b[5], a[6], b[6], a[7],
      b[7]),
    Lanes(
      a[8], b[8], a[9], b[9], a[10], b[10], a[11], b[11], a[12], b[12], a[13], b[13], a[14], b[14],
      a[15], b[15])
  )
}

// MARK: Elementwise loops. Pass them functions, local ones if they capture, marked
// `@inline(__always)`: a closure literal that is used twice stays a call per vector.

@inline(__always)
func copied(_ v: Lanes) -> Lanes { v }

/// y = f(x); x may be y.
@inline(__always)
func map<E: Element>(
  _ x: UnsafePointer<E>, _ y: UnsafeMutablePointer<E>, _ n: Int, _ f: (Lanes) -> Lanes
) {
  map(x, E.output(y), n, f)
}

@inline(__always)
func map<E: Element>(_ x: UnsafePointer<E>, _ y: Output, _ n: Int, _ f: (Lanes) -> Lanes) {
  let whole = n & ~15
  let hasEnd = whole != n
  let end = hasEnd ? loadEnd(x, n) : Lanes(repeating: 0)
  var i = 0
  while i < whole {
    y.set(f(load(x, i)), i)
    i &+= 16
  }
  if hasEnd { y.setEnd(f(end), n) }
}

/// out = f(x, y); out may be either.
@inline(__always)
func map<E: Element>(
  _ x: UnsafePointer<E>, _ y: UnsafePointer<E>, _ out: UnsafeMutablePointer<E>, _ n: Int,
  _ f: (Lanes, Lanes) -> Lanes
) {
  map(x, y, E.output(out), n, f)
}

@inline(__always)
func map<E: Element>(
  _ x: UnsafePointer<E>, _ y: UnsafePointer<E>, _ out: Output, _ n: Int,
  _ f: (Lanes, Lanes) -> Lanes
) {
  let whole = n & ~15
  let hasEnd = whole != n
  let endX = hasEnd ? loadEnd(x, n) : Lanes(repeating: 0)
  let endY = hasEnd ? loadEnd(y, n) : Lanes(repeating: 0)
  var i = 0
  while i < whole {
    out.set(f(load(x, i), load(y, i)), i)
    i &+= 16
  }
  if hasEnd { out.setEnd(f(endX, endY), n) }
}
