/// What a kernel's arrays hold: float32, or the bits of bfloat16. Generic over this the kernels'
/// `@inline(__always)` bodies become one function for each type; nothing else here is generic.
protocol Element: BitwiseCopyable {
  /// p[0 ..< 16]
  static func load(_ p: UnsafePointer<Self>) -> Lanes
  static func store(_ v: Lanes, _ p: UnsafeMutablePointer<Self>)
  /// p[0 ..< n], n < 16, in the top lanes, zeros below.
  static func loadFew(_ p: UnsafePointer<Self>, _ n: Int) -> Lanes
  static func storeFew(_ v: Lanes, _ p: UnsafeMutablePointer<Self>, _ n: Int)
  static func output(_ p: UnsafeMutablePointer<Self>) -> Output
}

extension Float: Element {
  @inline(__always)
  static func load(_ p: UnsafePointer<Float>) -> Lanes {
    // Safe: because callers keep 16 elements within the array.
    UnsafeRawPointer(p).loadUnaligned(as: Lanes.self)
  }

  @inline(__always)
  static func store(_ v: Lanes, _ p: UnsafeMutablePointer<Float>) {
    // Safe: because callers keep 16 elements within the array.
    UnsafeMutableRawPointer(p).storeBytes(of: v, as: Lanes.self)
  }

  @inline(__always)
  static func loadFew(_ p: UnsafePointer<Float>, _ n: Int) -> Lanes {
    var v = Lanes(repeating: 0)
    for i in 0..<n { v[16 - n + i] = p[i] }
    return v
  }

  @inline(__always)
  static func storeFew(_ v: Lanes, _ p: UnsafeMutablePointer<Float>, _ n: Int) {
    for i in 0..<n { p[i] = v[16 - n + i] }
  }

  @inline(__always)
  static func output(_ p: UnsafeMutablePointer<Float>) -> Output { Output(p, nil) }
}

extension UInt16: Element {
  @inline(__always)
  static func load(_ p: UnsafePointer<UInt16>) -> Lanes { float32(loadHalves(p)) }

  @inline(__always)
  static func store(_ v: Lanes, _ p: UnsafeMutablePointer<UInt16>) { storeHalves(bfloat16(v), p) }

  @inline(__always)
  static func loadFew(_ p: UnsafePointer<UInt16>, _ n: Int) -> Lanes {
    var v = HalfLanes(repeating: 0)
    for i in 0..<n { v[16 - n + i] = p[i] }
    return float32(v)
  }

  @inline(__always)
  static func storeFew(_ v: Lanes, _ p: UnsafeMutablePointer<UInt16>, _ n: Int) {
    let v = bfloat16(v)
    for i in 0..<n { p[i] = v[16 - n + i] }
  }

  @inline(__always)
  static func output(_ p: UnsafeMutablePointer<UInt16>) -> Output { Output(nil, p) }
}

/// Where a kernel writes float32 values, rounded ones, or both.
struct Output {
  let floats: UnsafeMutablePointer<Float>?
  let halves: UnsafeMutablePointer<UInt16>?

  @inline(__always)
  init(_ floats: UnsafeMutablePointer<Float>?, _ halves: UnsafeMutablePointer<UInt16>?) {
    self.floats = floats
    self.halves = halves
  }

  @inline(__always)
  static func + (output: Output, offset: Int) -> Output {
    Output(output.floats.map { $0 + offset }, output.halves.map { $0 + offset })
  }

  @inline(__always)
  func set(_ v: Lanes, _ i: Int) {
    if let floats { store(v, floats, i) }
    if let halves { store(v, halves, i) }
  }

  @inline(__always)
  func setEnd(_ v: Lanes, _ n: Int) {
    if let floats { storeEnd(v, floats, n) }
    if let halves { storeEnd(v, halves, n) }
  }
}
