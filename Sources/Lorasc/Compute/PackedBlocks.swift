/// A W that is much longer than wide, packed by blocks along its long side: the output layer of a
/// language model, whose rows are few and whose matrix no cache holds.
///
/// A block's product takes all rows, so that W is read once for all of them: one tile of rows after
/// another would read it each time, and wait for memory. Blocks are tasks, a long sum is made in
/// parts, which are added in order: the bits don't depend on the number of threads.
final class PackedBlocks: PackedOperand {
  /// What is cut.
  enum Side { case inner, columns }

  private let side: Side
  private let shape: PackedProducts.Shape
  private let blocks: [(matrix: PackedMatrix, start: Int)]
  /// (parts, rows of a group, columns), for a cut sum
  private let sums: UnsafeMutablePointer<Float>?

  /// A side beyond this is cut. Shorter ones are multiplied by tiles of rows, to which an expert's
  /// part is added in the cache.
  private static let longest = 16_384
  private static let size = 1024
  private static let parts = 8
  /// So many rows at a time.
  private static let groupRows = 256

  static func cuts(_ length: Int) -> Bool { length > longest }

  /// Of the blocks' products.
  static func shapes(of shape: PackedProducts.Shape, cut side: Side) -> [PackedProducts.Shape] {
    ranges(of: shape, side).map { block(shape, side, $0) }
  }

  private static func ranges(of shape: PackedProducts.Shape, _ side: Side) -> [Range<Int>] {
    let length = side == .inner ? shape.inner : shape.columns
    return stride(from: 0, to: length, by: size).map { $0..<min($0 + size, length) }
  }

  private static func block(
    _ shape: PackedProducts.Shape, _ side: Side, _ range: Range<Int>
  ) -> PackedProducts.Shape {
    switch side {
    case .inner: .init(inner: range.count, columns: shape.columns)
    case .columns: .init(inner: shape.inner, columns: range.count)
    }
  }

  /// - Returns: nil where there are no such products
  init?(
    _ products: PackedProducts, _ shape: PackedProducts.Shape, cut side: Side, _ what: String,
    _ arena: Arena
  ) throws {
    (self.side, self.shape) = (side, shape)
    let ranges = Self.ranges(of: shape, side)
    blocks = try ranges.compactMap { range in
      try products.matrix(Self.block(shape, side, range), what, arena)
        .map { ($0, range.lowerBound) }
    }
    sums =
      side == .inner
      ? try arena.matrix(Self.parts * Self.groupRows, shape.columns, "plan.packed_sums") : nil
    if blocks.count < ranges.count { return nil }
  }

  func pack(_ values: UnsafePointer<Float>, innerStride: Int, columnStride: Int) {
    let stride = side == .inner ? innerStride : columnStride
    for block in blocks {
      block.matrix.pack(
        values + block.start * stride, innerStride: innerStride, columnStride: columnStride)
    }
  }

  func multiply(
    _ x: Values, ldx: Int, _ y: Values, ldy: Int, rows: Int, bias: UnsafePointer<Float>?,
    adds: Bool, _ compute: Compute, then: RowsBody
  ) {
    for start in stride(from: 0, to: rows, by: Self.groupRows) {
      let count = min(Self.groupRows, rows - start)
      let (x, y) = (x + start * ldx, y + start * ldy)
      if let sums {
        sum(x, ldx, sums, rows: count, bias: bias, compute)
        compute.forRanges(count, cost: (2 + Self.parts) * shape.columns) { first, end, lane in
          for row in first..<end { put(row, sums, count, y, ldy, adds: adds, compute) }
          then(start + first..<start + end, lane)
        }
      } else {
        compute.forTasks(blocks.count) { index, lane in
          let block = blocks[index]
          block.matrix.multiply(
            x, ldx: ldx, y + block.start, ldy: ldy, rows: count,
            bias: bias.map { $0 + block.start }, adds: adds, lane: lane, compute)
        }
        compute.forRanges(count, cost: 8 * shape.columns) { then(start + $0..<start + $1, $2) }
      }
    }
  }

  /// Each part's sums, (rows, columns), of a part of the blocks.
  private func sum(
    _ x: Values, _ ldx: Int, _ sums: UnsafeMutablePointer<Float>, rows: Int,
    bias: UnsafePointer<Float>?, _ compute: Compute
  ) {
    let columns = shape.columns
    compute.forTasks(Self.parts) { part, lane in
      let own = blocks[Self.share(part, of: blocks.count)]
      for block in own {
        block.matrix.multiply(
          x + block.start, ldx: ldx, Values(sums + part * rows * columns), ldy: columns, rows: rows,
          bias: block.start == 0 ? bias : nil, adds: block.start != own.first?.start, lane: lane,
          compute)
      }
    }
  }

  /// More blocks than parts: none is empty.
  private static func share(_ part: Int, of count: Int) -> Range<Int> {
    part * count / parts..<(part + 1) * count / parts
  }

  /// A row's sum over the parts goes to y.
  private func put(
    _ row: Int, _ sums: UnsafeMutablePointer<Float>, _ rows: Int, _ y: Values, _ ldy: Int,
    adds: Bool, _ compute: Compute
  ) {
    let columns = shape.columns
    let total = sums + row * columns
    for part in 1..<Self.parts {
      compute.kernels.axpby(1, total + part * rows * columns, 1, total, columns)
    }
    let to = y + row * ldy
    if let floats = to.floats { compute.kernels.axpby(1, total, adds ? 1 : 0, floats, columns) }
    if let halves = to.halves { compute.kernels.f32_to_bf16(total, halves, columns) }
  }
}
