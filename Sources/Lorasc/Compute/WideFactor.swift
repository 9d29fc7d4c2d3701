import CSupport

/// s F with F (rank, width), Bᵀ or A of an expert: what products that have few terms add to a tile,
/// Y += s P F.
struct WideFactor {
  private let values: UnsafePointer<Float>
  private let rank: Int
  private let width: Int
  private let scale: Float
  private let rounded: Rounded?

  /// s F in bfloat16 in pairs of rows, where this level's kernels take it, and memory for P.
  private struct Rounded {
    let factor: UnsafePointer<UInt16>
    let projected: UnsafeMutablePointer<UInt16>
  }

  /// For one factor at a time, in a plan whose products are of bfloat16.
  struct Memory {
    let factor: UnsafeMutablePointer<UInt16>
    /// (tokens, rank)
    let projected: UnsafeMutablePointer<UInt16>
  }

  /// - Parameters:
  ///   - values: F, as long as the factor is used
  ///   - rows: of all of Y
  ///   - memory: nil: the products are of float32
  init(
    _ values: UnsafePointer<Float>, rank: Int, width: Int, rows: Int, scale: Float,
    _ memory: Memory?, _ compute: Compute
  ) {
    (self.values, self.rank, self.width, self.scale) = (values, rank, width, scale)
    guard let memory, compute.kernels.skinny_add_bf16 != nil, rows >= SkinnyFactor.fewestRows,
      rank % 2 == 0, width % 16 == 0
    else {
      rounded = nil
      return
    }
    compute.forRows(rank / 2, cost: 4 * width) { start, end in
      compute.kernels.pair_rows(
        values + 2 * start * width, 2 * (end - start), width, width, scale,
        memory.factor + 2 * start * width, width)
    }
    rounded = Rounded(factor: memory.factor, projected: memory.projected)
  }

  /// Adds to a tile of Y, on the calling thread, and rounds it where it is to be.
  /// - Parameter p: (tokens, rank)
  /// - Returns: the sums are where the tile goes to
  func add(
    _ p: UnsafePointer<Float>, to tile: TileSums, _ compute: Compute
  ) -> Bool {
    let (first, rows) = (tile.rows.lowerBound * rank, tile.rows.count)
    guard let rounded, let add = compute.kernels.skinny_add_bf16 else {
      compute.products.gemm(
        rows, width, rank, a: p + first, lda: rank, b: values, ldb: width, c: tile.values,
        ldc: tile.ld, alpha: scale, beta: 1)
      return false
    }
    let projected = rounded.projected + first
    compute.kernels.f32_to_bf16(p + first, projected, rows * rank)
    add(
      projected, rows, rank, rank, rounded.factor, width, tile.values, width, tile.ld,
      tile.rounded, tile.ldRounded)
    return tile.rounded != nil
  }

  /// Adds to the tile's float32 values alone.
  func addUnrounded(_ p: UnsafePointer<Float>, to tile: TileSums, _ compute: Compute) {
    var tile = tile
    tile.rounded = nil
    _ = add(p, to: tile, compute)
  }
}
