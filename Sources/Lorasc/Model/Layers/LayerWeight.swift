/// The weight of a linear layer as its products use it: W (out, in), read in place, or expanded
/// by tiles of rows, or packed.
struct LayerWeight {
  let inFeatures: Int
  let outFeatures: Int
  var source: WeightSource {
    didSet { packed?.changed(to: source) }
  }
  /// Whoever sets a source that isn't float32 or zero sees to one; nil: there is none such.
  var expansion: Expansion?
  /// nil: products use the source itself.
  var packed: PackedWeight?
  /// nil: all values are held as float32.
  var widening: Widening?
  /// nil: X Wᵀ is multiplied from W always.
  var transposition: Transposition?

  /// Y = alpha X Wᵀ + b + beta Y
  ///
  /// - Parameters:
  ///   - x: (rows, in), rows `ldx` apart
  ///   - y: (rows, out), rows `ldy` apart
  ///   - bias: (out), or nil; only with alpha = 1 and beta = 0
  func multiply(
    _ x: UnsafePointer<Float>, ldx: Int, _ y: UnsafeMutablePointer<Float>, ldy: Int, rows: Int,
    bias: UnsafePointer<Float>? = nil, alpha: Float = 1, beta: Float = 0, _ compute: Compute
  ) {
    if alpha == 1, beta == 0 || beta == 1, let packed = packed?.forward(source) {
      return packed.multiply(
        Values(reading: x), ldx: ldx, Values(y), ldy: ldy, rows: rows, bias: bias,
        adds: beta == 1, compute, then: { _, _ in })
    }
    if bias != nil { broadcast(bias, y, ldy: ldy, rows: rows, compute) }
    let beta: Float = bias != nil ? 1 : beta
    if case .zero = source { return clear(y, ldy, rows, outFeatures, beta, compute) }
    forTiles(compute) { tile, values in
      multiply(
        x, ldx, by: values, tile.count, y + tile.lowerBound, ldy, rows: rows, alpha: alpha,
        beta: beta, compute)
    }
  }

  /// Of some rows of W.
  private func multiply(
    _ x: UnsafePointer<Float>, _ ldx: Int, by w: UnsafePointer<Float>, _ columns: Int,
    _ y: UnsafeMutablePointer<Float>, _ ldy: Int, rows: Int, alpha: Float, beta: Float,
    _ compute: Compute
  ) {
    guard let transposition = transposition(rows) else {
      return compute.gemm(
        rows, columns, inFeatures, a: x, lda: ldx, b: w, ldb: inFeatures, transposeB: true, c: y,
        ldc: ldy, alpha: alpha, beta: beta)
    }
    transposition.forBlocks(w, rows: columns, columns: inFeatures, compute) { block, transposed in
      compute.gemm(
        rows, block.count, inFeatures, a: x, lda: ldx, b: transposed.values, ldb: transposed.ld,
        c: y + block.lowerBound, ldc: ldy, alpha: alpha, beta: beta)
    }
  }

  /// nil: a product with so many rows is better made from W.
  private func transposition(_ rows: Int) -> Transposition? {
    Transposition.pays(rows: rows) ? transposition : nil
  }

  /// Y = b, or 0 without one
  private func broadcast(
    _ bias: UnsafePointer<Float>?, _ y: UnsafeMutablePointer<Float>, ldy: Int, rows: Int,
    _ compute: Compute
  ) {
    let (broadcast, outFeatures) = (compute.kernels.broadcast_rows, outFeatures)
    compute.forRows(rows, cost: outFeatures) { start, end in
      broadcast(bias, y + start * ldy, end - start, outFeatures, ldy)
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
    if alpha == 1, beta == 0 || beta == 1, let packed = packed?.backward(source) {
      return packed.multiply(
        Values(reading: g), ldx: ldg, Values(dx), ldy: lddx, rows: rows, bias: nil,
        adds: beta == 1, compute, then: { _, _ in })
    }
    if case .zero = source { return clear(dx, lddx, rows, inFeatures, beta, compute) }
    forTiles(compute) { tile, values in
      compute.gemm(
        rows, inFeatures, tile.count, a: g + tile.lowerBound, lda: ldg, b: values, ldb: inFeatures,
        c: dx, ldc: lddx, alpha: alpha, beta: tile.lowerBound == 0 ? beta : 1)
    }
  }

  /// What beta leaves of the output where there is no weight; beta is 0 or 1.
  private func clear(
    _ out: UnsafeMutablePointer<Float>, _ ld: Int, _ rows: Int, _ columns: Int, _ beta: Float,
    _ compute: Compute
  ) {
    guard beta == 0 else { return }
    for row in 0..<rows { compute.kernels.fill(0, out + row * ld, columns) }
  }

  private func forTiles(
    _ compute: Compute, _ body: (_ rows: Range<Int>, _ values: UnsafePointer<Float>) -> Void
  ) {
    if case .float32(let values) = source { return body(0..<outFeatures, values) }
    expansion?.forTiles(source, rows: outFeatures, columns: inFeatures, compute, body)
  }
}

// MARK: Values in either type

/// Where values of a model's blocks that are held as bfloat16 alone become float32.
struct Widening {
  /// (tokens, widest input), (tokens, widest output)
  let input: UnsafeMutablePointer<Float>
  let output: UnsafeMutablePointer<Float>

  init(_ sizes: Backbone.Sizes, tokens: Int, _ arena: Arena) throws {
    input = try arena.matrix(
      tokens, max(sizes.hidden, sizes.attentionWidth, sizes.intermediate), "plan.widened_input")
    output = try arena.matrix(
      tokens, max(sizes.hidden, sizes.projectedWidth, sizes.intermediate), "plan.widened_output")
  }
}

extension LayerWeight {
  /// Y = X Wᵀ + b, or Y += X Wᵀ; a Y in bfloat16 is set only.
  func multiply(
    _ x: Values, ldx: Int, _ y: Values, ldy: Int, rows: Int, bias: UnsafePointer<Float>? = nil,
    adds: Bool = false, _ compute: Compute, then: RowsBody = { _, _ in }
  ) {
    if let packed = packed?.forward(source) {
      return packed.multiply(
        x, ldx: ldx, y, ldy: ldy, rows: rows, bias: bias, adds: adds, compute, then: then)
    }
    multiply(
      x, ldx: ldx, y, ldy: ldy, rows: rows, bias: bias, adds: adds, compute, adding: noTileBody,
      then: then)
  }

  /// The same with more to add.
  func multiply(
    _ x: Values, ldx: Int, _ y: Values, ldy: Int, rows: Int, bias: UnsafePointer<Float>?,
    adds: Bool, _ compute: Compute, adding: TileBody, then: RowsBody
  ) {
    if let packed = packed?.forward(source) as? PackedMatrix {
      return packed.multiply(
        x, ldx: ldx, y, ldy: ldy, rows: rows, bias: bias, adds: adds, compute, adding: adding,
        then: then)
    }
    let from = floats(x, ldx, rows: rows, .input, compute)
    let to = floats(of: y, ldy, .output)
    func finish(_ rows: Range<Int>, _ lane: Int) {
      let own = to.values + rows.lowerBound * to.ld
      _ = adding(
        TileSums(
          rows: rows, x: Values(reading: from.values + rows.lowerBound * from.ld), ldx: from.ld,
          values: own, ld: to.ld))
      round(own, y + rows.lowerBound * ldy, ldy, rows: rows.count, .output, compute)
      then(rows, lane)
    }
    guard case .float32(let values) = source, let tiles = RowTiles(rows),
      let w = wholeOperand(values, rows: rows, compute)
    else {
      multiply(
        from.values, ldx: from.ld, to.values, ldy: to.ld, rows: rows, bias: bias,
        beta: adds ? 1 : 0, compute)
      return compute.forRanges(rows, cost: finishingCost(outFeatures)) { finish($0..<$1, $2) }
    }
    tiles.forEach(compute) { rows, lane in
      let own = to.values + rows.lowerBound * to.ld
      if let bias {
        compute.kernels.broadcast_rows(bias, own, rows.count, outFeatures, to.ld)
      }
      compute.products.gemm(
        rows.count, outFeatures, inFeatures, a: from.values + rows.lowerBound * from.ld,
        lda: from.ld, b: w.values, ldb: w.ld, transposeB: !w.isTransposed, c: own, ldc: to.ld,
        beta: adds || bias != nil ? 1 : 0)
      finish(rows, lane)
    }
  }

  /// What a product with so many rows reads, W or Wᵀ; nil: Wᵀ is made by blocks, and rows of Y are
  /// complete with the last.
  private func wholeOperand(
    _ w: UnsafePointer<Float>, rows: Int, _ compute: Compute
  ) -> (values: UnsafePointer<Float>, ld: Int, isTransposed: Bool)? {
    guard let transposition = transposition(rows) else { return (w, inFeatures, false) }
    guard transposition.holds(rows: outFeatures, columns: inFeatures) else { return nil }
    let transposed = transposition.transpose(w, rows: outFeatures, columns: inFeatures, compute)
    return (transposed.values, transposed.ld, true)
  }

  /// dX = G W, or dX += G W; a dX in bfloat16 is set only.
  func multiplyTransposed(
    _ g: Values, ldg: Int, _ dx: Values, lddx: Int, rows: Int, adds: Bool = false,
    _ compute: Compute, then: RowsBody = { _, _ in }
  ) {
    if let packed = packed?.backward(source) {
      return packed.multiply(
        g, ldx: ldg, dx, ldy: lddx, rows: rows, bias: nil, adds: adds, compute, then: then)
    }
    multiplyTransposed(
      g, ldg: ldg, dx, lddx: lddx, rows: rows, adds: adds, weighed: nil, compute,
      adding: noTileBody, then: then)
  }

  /// The same with more to add.
  /// - Parameter weighed: the product takes G so
  func multiplyTransposed(
    _ g: Values, ldg: Int, _ dx: Values, lddx: Int, rows: Int, adds: Bool, weighed: WeighedInput?,
    _ compute: Compute, adding: TileBody, then: RowsBody
  ) {
    if let packed = packed?.backward(source) as? PackedMatrix {
      return packed.multiply(
        g, ldx: ldg, dx, ldy: lddx, rows: rows, adds: adds, weighed: weighed, compute,
        adding: adding, then: then)
    }
    let from = floats(g, ldg, rows: rows, .output, compute)
    let to = floats(of: dx, lddx, .input)
    func finish(_ rows: Range<Int>, _ g: UnsafePointer<Float>, _ ldg: Int, _ lane: Int) {
      let own = to.values + rows.lowerBound * to.ld
      _ = adding(
        TileSums(rows: rows, x: Values(reading: g), ldx: ldg, values: own, ld: to.ld))
      round(own, dx + rows.lowerBound * lddx, lddx, rows: rows.count, .input, compute)
      then(rows, lane)
    }
    guard case .float32(let values) = source, let tiles = RowTiles(rows) else {
      let from = weighed?.whole(from.values, from.ld, rows: rows, outFeatures, compute) ?? from
      multiplyTransposed(
        from.values, ldg: from.ld, to.values, lddx: to.ld, rows: rows, beta: adds ? 1 : 0, compute)
      return compute.forRanges(rows, cost: finishingCost(inFeatures)) { start, end, lane in
        finish(start..<end, from.values + start * from.ld, from.ld, lane)
      }
    }
    tiles.forEach(compute) { rows, lane in
      var (tile, ld) = (from.values + rows.lowerBound * from.ld, from.ld)
      if let weighed {
        (tile, ld) = weighed.tile(tile, ld, rows, outFeatures, lane, compute.kernels)
      }
      compute.products.gemm(
        rows.count, inFeatures, outFeatures, a: tile, lda: ld, b: values, ldb: inFeatures,
        c: to.values + rows.lowerBound * to.ld, ldc: to.ld, beta: adds ? 1 : 0)
      finish(rows, tile, ld, lane)
    }
  }

  /// Of a row of a product that was made at once: ranges of 64 rows at least, of which an expert's
  /// products are worth a call each.
  private func finishingCost(_ columns: Int) -> Int { min(8 * columns, 2048) }

  enum Side { case input, output }

  private func memory(_ side: Side) -> (values: UnsafeMutablePointer<Float>?, columns: Int) {
    switch side {
    case .input: (widening?.input, inFeatures)
    case .output: (widening?.output, outFeatures)
    }
  }

  /// What is read, as float32: in place, or widened.
  func floats(_ x: Values, _ ld: Int, rows: Int, _ side: Side, _ compute: Compute)
    -> (values: UnsafePointer<Float>, ld: Int)
  {
    let at = floats(of: x, ld, side)
    if x.floats == nil, let halves = x.halves {
      compute.widen(halves, ld: ld, at.values, rows: rows, columns: at.ld)
    }
    return (UnsafePointer(at.values), at.ld)
  }

  /// Where values are float32, or become it.
  func floats(of x: Values, _ ld: Int, _ side: Side)
    -> (values: UnsafeMutablePointer<Float>, ld: Int)
  {
    if let floats = x.floats { return (floats, ld) }
    let (values, columns) = memory(side)
    guard let values else { preconditionFailure("values in bfloat16 without a place to widen") }
    return (values, columns)
  }

  /// What was written to `floats(of:)` goes where the values are, on the calling thread.
  func round(
    _ floats: UnsafePointer<Float>, _ y: Values, _ ld: Int, rows: Int, _ side: Side,
    _ compute: Compute
  ) {
    guard y.floats == nil, let halves = y.halves else { return }
    let columns = memory(side).columns
    compute.kernels.round(floats, ld: columns, halves, ld: ld, rows: rows, columns: columns)
  }
}
