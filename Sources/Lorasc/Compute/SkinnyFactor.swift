import CSupport

/// The right side F (inner, rank) of products X F that have few columns: Aᵀ or B of an expert, as
/// this level's kernels read it, or the library where there are none.
struct SkinnyFactor {
  private let inner: Int
  private let rank: Int
  /// F, or Fᵀ, for the library
  private let values: Values
  private let isTransposed: Bool
  /// (inner, ld) for the kernels, in bfloat16 in pairs of rows
  private let floats: UnsafePointer<Float>?
  private let pairs: UnsafePointer<UInt16>?
  private let ld: Int

  /// For one factor at a time.
  struct Memory {
    let floats: UnsafeMutablePointer<Float>
    /// For products with an X in bfloat16; nil: there is none.
    let halves: UnsafeMutablePointer<UInt16>?

    init(inner: Int, rank: Int, _ type: PackedProducts.ElementType, _ what: String, _ arena: Arena)
      throws
    {
      let ld = SkinnyFactor.padded(rank)
      floats = try arena.matrix(inner, ld, what)
      halves = type == .bfloat16 ? try arena.halves(inner, ld, what + ".rounded") : nil
    }
  }

  /// The kernels take columns by 8.
  private static func padded(_ rank: Int) -> Int { (rank + 7) / 8 * 8 }

  /// More columns are made from copies by the library.
  private static let mostColumns = 64

  /// Rows of a product from which on what the kernels read is worth making.
  static let fewestRows = 16

  /// - Parameters:
  ///   - values: F (inner, rank), or with `isTransposed` Fᵀ
  ///   - rows: of all of X
  ///   - memory: for as long as the factor is used
  init(
    _ values: UnsafePointer<Float>, isTransposed: Bool, inner: Int, rank: Int, rows: Int,
    _ memory: Memory, _ compute: Compute
  ) {
    (self.inner, self.rank, self.isTransposed) = (inner, rank, isTransposed)
    let (kernels, ld) = (compute.kernels, Self.padded(rank))
    self.ld = ld
    let isSkinny =
      rows >= Self.fewestRows && rank <= Self.mostColumns && kernels.skinny_product != nil
    floats =
      isSkinny ? Self.rows(values, isTransposed, inner, rank, ld, memory.floats, compute) : nil
    if let floats, let halves = memory.halves, kernels.skinny_product_bf16 != nil, inner % 2 == 0 {
      kernels.pair_rows(floats, inner, ld, ld, 1, halves, ld)
      (pairs, self.values) = (UnsafePointer(halves), Values(reading: values))
    } else {
      if let halves = memory.halves { kernels.f32_to_bf16(values, halves, inner * rank) }
      (pairs, self.values) = (nil, Values(reading: values, halves: memory.halves))
    }
  }

  /// F with rows `ld` apart, in `memory` where it isn't so already.
  private static func rows(
    _ values: UnsafePointer<Float>, _ isTransposed: Bool, _ inner: Int, _ rank: Int, _ ld: Int,
    _ memory: UnsafeMutablePointer<Float>, _ compute: Compute
  ) -> UnsafePointer<Float> {
    if !isTransposed && rank == ld { return values }
    compute.copy(
      inner, rank, values, strides: isTransposed ? (1, inner) : (rank, 1), to: memory,
      strides: (ld, 1))
    return UnsafePointer(memory)
  }

  /// P (rows, rank), without gaps, = X F, on the calling thread.
  private func multiply(
    _ x: Values, ldx: Int, rows: Int, _ p: UnsafeMutablePointer<Float>, _ compute: Compute
  ) {
    let kernels = compute.kernels
    if let x = x.halves, let pairs, let multiply = kernels.skinny_product_bf16 {
      multiply(x, rows, inner, ldx, pairs, ld, p, rank, rank)
    } else if x.halves == nil, let x = x.floats, let floats, let multiply = kernels.skinny_product {
      multiply(x, rows, inner, ldx, floats, ld, p, rank, rank)
    } else {
      compute.products.gemm(
        rows, rank, inner, a: x, lda: ldx, b: values, ldb: isTransposed ? inner : rank,
        transposeB: isTransposed, c: p, ldc: rank)
    }
  }

  /// The same of a tile's rows of X, to its rows of P (tokens, rank).
  func multiply(_ tile: TileSums, to p: UnsafeMutablePointer<Float>, _ compute: Compute) {
    multiply(
      tile.x, ldx: tile.ldx, rows: tile.rows.count, p + tile.rows.lowerBound * rank, compute)
  }

  /// The same of all rows, in parallel.
  func multiplyAll(
    _ x: Values, ldx: Int, rows: Int, _ p: UnsafeMutablePointer<Float>, _ compute: Compute
  ) {
    guard x.halves != nil ? pairs != nil : floats != nil else {
      // The library's own way to cut it.
      return compute.gemm(
        rows, rank, inner, a: x, lda: ldx, b: values, ldb: isTransposed ? inner : rank,
        transposeB: isTransposed, c: p, ldc: rank)
    }
    // The kernels take rows by 12; small tasks come out even.
    let size = max(1, 500_000 / (2 * inner * rank * 12)) * 12
    compute.forTasks((rows + size - 1) / size) { task, _ in
      let start = task * size
      multiply(
        x + start * ldx, ldx: ldx, rows: min(size, rows - start), p + start * rank, compute)
    }
  }
}

extension Compute {
  /// to[i, j] = from[i, j] for i < long and j < short, both by their strides, in parallel.
  func copy(
    _ long: Int, _ short: Int, _ from: UnsafePointer<Float>, strides fromStrides: (Int, Int),
    to: UnsafeMutablePointer<Float>, strides toStrides: (Int, Int)
  ) {
    forRows(long, cost: 10 * short) { start, end in
      for j in 0..<short {
        for i in start..<end {
          to[i * toStrides.0 + j * toStrides.1] = from[i * fromStrides.0 + j * fromStrides.1]
        }
      }
    }
  }
}
