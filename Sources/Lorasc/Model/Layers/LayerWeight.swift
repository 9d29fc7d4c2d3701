/// The weight of a linear layer as its products use it: W (out, in), read in place, or expanded
/// by tiles of rows.
struct LayerWeight {
  let inFeatures: Int
  let outFeatures: Int
  var source: WeightSource
  /// nil: the source is float32
  var expansion: Expansion?

  /// Y = X Wᵀ + beta Y
  ///
  /// - Parameters:
  ///   - x: (rows, in), rows `ldx` apart
  ///   - y: (rows, out), rows `ldy` apart
  func multiply(
    _ x: UnsafePointer<Float>, ldx: Int, _ y: UnsafeMutablePointer<Float>, ldy: Int, rows: Int,
    beta: Float = 0, _ compute: Compute
  ) {
    forTiles(compute) { tile, values in
      compute.gemm(
        rows, tile.count, inFeatures, a: x, lda: ldx, b: values, ldb: inFeatures, transposeB: true,
        c: y + tile.lowerBound, ldc: ldy, beta: beta)
    }
  }

  /// dX = alpha G W + beta dX
  ///
  /// - Parameters:
  ///   - g: (rows, out), rows `ldg` apart
  ///   - dx: (rows, in), rows `lddx` apart
  func multiplyTransposed(
    _ g: UnsafePointer<Float>, ldg: Int, _ dx: UnsafeMutablePointer<Float>, lddx: Int, rows: Int,
    alpha: Float = 1, beta: Float = 0, _ compute: Compute
  ) {
    forTiles(compute) { tile, values in
      compute.gemm(
        rows, inFeatures, tile.count, a: g + tile.lowerBound, lda: ldg, b: values, ldb: inFeatures,
        c: dx, ldc: lddx, alpha: alpha, beta: tile.lowerBound == 0 ? beta : 1)
    }
  }

  private func forTiles(
    _ compute: Compute, _ body: (_ rows: Range<Int>, _ values: UnsafePointer<Float>) -> Void
  ) {
    if case .float32(let values) = source { return body(0..<outFeatures, values) }
    expansion?.forTiles(source, rows: outFeatures, columns: inFeatures, compute, body)
  }
}
