// Sums of float32, as `Skinny.swift` takes them.

#if LORASC_AVX512
  private struct SixteenSums: WideSums {
    let lanes: Lanes

    @inline(__always)
    static var depth: Int { 1 }

    @inline(__always)
    init() { self.init(Lanes(repeating: 0)) }

    @inline(__always)
    init(_ lanes: Lanes) { self.lanes = lanes }

    @inline(__always)
    static func load(_ p: UnsafePointer<Float>) -> Lanes { Float.load(p) }

    @inline(__always)
    func adding(_ x: UnsafePointer<Float>, _ factors: Lanes) -> SixteenSums {
      SixteenSums(multiplyAdd(Lanes(repeating: x[0]), factors, lanes))
    }

    @inline(__always)
    func store(_ p: UnsafeMutablePointer<Float>, _ n: Int) { storeStart(lanes, p, n) }

    @inline(__always)
    static func load(_ x: UnsafePointer<Float>, _ ldx: Int, isLast: Bool) -> (Lanes, Lanes) {
      (Float.load(x), Float.load(x + 16))
    }

    @inline(__always)
    static func inOrder(_ low: SixteenSums, _ high: SixteenSums) -> (Lanes, Lanes) {
      (low.lanes, high.lanes)
    }
  }

  private struct EightSums: Sums {
    private var sums: SIMD8<Float>

    @inline(__always)
    static var depth: Int { 1 }

    @inline(__always)
    init() { self.init(SIMD8(repeating: 0)) }

    @inline(__always)
    private init(_ sums: SIMD8<Float>) { self.sums = sums }

    @inline(__always)
    static func load(_ p: UnsafePointer<Float>) -> SIMD8<Float> {
      // Safe: because callers keep 8 elements within the array.
      UnsafeRawPointer(p).loadUnaligned(as: SIMD8<Float>.self)
    }

    @inline(__always)
    func adding(_ x: UnsafePointer<Float>, _ factors: SIMD8<Float>) -> EightSums {
      #if LORASC_FMA
        EightSums(sums.addingProduct(SIMD8(repeating: x[0]), factors))
      #else
        EightSums(SIMD8(repeating: x[0]) * factors + sums)
      #endif
    }

    @inline(__always)
    func store(_ p: UnsafeMutablePointer<Float>, _ n: Int) { storeStart(sums, p, n) }
  }

  func skinnyProduct(
    _ x: UnsafePointer<Float>, _ rows: Int, _ inner: Int, _ ldx: Int, _ f: UnsafePointer<Float>,
    _ ldf: Int, _ p: UnsafeMutablePointer<Float>, _ columns: Int, _ ldp: Int
  ) {
    multiplyBySkinny(
      SixteenSums.self, EightSums.self, x, rows, inner, ldx, f, ldf, p, columns, ldp)
  }

  func skinnySum(
    _ p: UnsafePointer<Float>, _ rows: Int, _ columns: Int, _ ldp: Int, _ x: UnsafePointer<Float>,
    _ width: Int, _ ldx: Int, _ c: UnsafeMutablePointer<Float>, _ ldc: Int
  ) {
    sumSkinny(SixteenSums.self, p, rows, columns, ldp, x, width, ldx, c, ldc)
  }
#endif
