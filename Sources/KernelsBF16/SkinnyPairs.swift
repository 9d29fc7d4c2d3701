// Sums of bfloat16 pairs, as `Skinny.swift` takes them.

public import CSupport

#if LORASC_PAIRS
  @inline(__always)
  private func pair(_ x: UnsafePointer<UInt16>) -> Int32 {
    // Safe: because callers keep 2 elements within the array.
    UnsafeRawPointer(x).loadUnaligned(as: Int32.self)
  }

  private struct SixteenPairs: WideSums {
    let lanes: Lanes

    @inline(__always)
    static var depth: Int { 2 }

    @inline(__always)
    init() { self.init(Lanes(repeating: 0)) }

    @inline(__always)
    init(_ lanes: Lanes) { self.lanes = lanes }

    @inline(__always)
    static func load(_ p: UnsafePointer<UInt16>) -> IntLanes {
      // Safe: because callers keep 16 pairs within the array.
      UnsafeRawPointer(p).loadUnaligned(as: IntLanes.self)
    }

    @inline(__always)
    func adding(_ x: UnsafePointer<UInt16>, _ factors: IntLanes) -> SixteenPairs {
      SixteenPairs(
        lorasc_lanes_add_pairs(lanes, IntLanes(repeating: pair(x)), factors))
    }

    @inline(__always)
    func store(_ p: UnsafeMutablePointer<Float>, _ n: Int) { storeStart(lanes, p, n) }

    /// Columns 0, 2, 4 … and 1, 3, 5 … of both rows.
    @inline(__always)
    static func load(_ x: UnsafePointer<UInt16>, _ ldx: Int, isLast: Bool) -> (IntLanes, IntLanes) {
      let first = words(x)
      let second = isLast ? IntLanes(repeating: 0) : words(x + ldx)
      let (half, low) = (IntLanes(repeating: 16), IntLanes(repeating: 0xffff))
      let shifted = unsafeBitCast(
        unsafeBitCast(first, to: WordLanes.self) &>> WordLanes(repeating: 16), to: IntLanes.self)
      return ((first & low) | (second &<< half), shifted | (second & ~low))
    }

    @inline(__always)
    private static func words(_ x: UnsafePointer<UInt16>) -> IntLanes {
      // Safe: because callers keep 32 elements within the array.
      UnsafeRawPointer(x).loadUnaligned(as: IntLanes.self)
    }

    @inline(__always)
    static func inOrder(_ even: SixteenPairs, _ odd: SixteenPairs) -> (Lanes, Lanes) {
      interleaved(even.lanes, odd.lanes)
    }
  }

  private struct EightPairs: Sums {
    private var sums: SIMD8<Float>

    @inline(__always)
    static var depth: Int { 2 }

    @inline(__always)
    init() { self.init(SIMD8(repeating: 0)) }

    @inline(__always)
    private init(_ sums: SIMD8<Float>) { self.sums = sums }

    @inline(__always)
    static func load(_ p: UnsafePointer<UInt16>) -> SIMD8<Int32> {
      // Safe: because callers keep 8 pairs within the array.
      UnsafeRawPointer(p).loadUnaligned(as: SIMD8<Int32>.self)
    }

    @inline(__always)
    func adding(_ x: UnsafePointer<UInt16>, _ factors: SIMD8<Int32>) -> EightPairs {
      EightPairs(
        lorasc_eight_lanes_add_pairs(sums, SIMD8(repeating: pair(x)), factors))
    }

    @inline(__always)
    func store(_ p: UnsafeMutablePointer<Float>, _ n: Int) { storeStart(sums, p, n) }
  }

  private func skinnyProduct(
    _ x: UnsafePointer<UInt16>, _ rows: Int, _ inner: Int, _ ldx: Int, _ f: UnsafePointer<UInt16>,
    _ ldf: Int, _ p: UnsafeMutablePointer<Float>, _ columns: Int, _ ldp: Int
  ) {
    multiplyBySkinny(
      SixteenPairs.self, EightPairs.self, x, rows, inner, ldx, f, ldf, p, columns, ldp)
  }

  private func skinnyAdd(
    _ p: UnsafePointer<UInt16>, _ rows: Int, _ inner: Int, _ ldp: Int, _ f: UnsafePointer<UInt16>,
    _ ldf: Int, _ y: UnsafeMutablePointer<Float>, _ columns: Int, _ ldy: Int,
    _ rounded: UnsafeMutablePointer<UInt16>?, _ ldr: Int
  ) {
    if let rounded {
      addSkinny(SixteenPairs.self, p, rows, inner, ldp, f, ldf, y, columns, ldy, rounded, ldr)
    } else {
      addSkinny(SixteenPairs.self, p, rows, inner, ldp, f, ldf, y, columns, ldy, y, ldy)
    }
  }

  private func skinnySum(
    _ p: UnsafePointer<UInt16>, _ rows: Int, _ columns: Int, _ ldp: Int, _ x: UnsafePointer<UInt16>,
    _ width: Int, _ ldx: Int, _ c: UnsafeMutablePointer<Float>, _ ldc: Int
  ) {
    sumSkinny(SixteenPairs.self, p, rows, columns, ldp, x, width, ldx, c, ldc)
  }
#endif

/// Sets what CPUs with bfloat16's dot products (AVX512_BF16) have beyond the level `table` is of.
public func addBFloat16Products(to table: inout lorasc_kernels) {
  #if LORASC_PAIRS
    table.skinny_product_bf16 = skinnyProduct
    table.skinny_add_bf16 = skinnyAdd
    table.skinny_sum_bf16 = skinnySum
  #endif
}
