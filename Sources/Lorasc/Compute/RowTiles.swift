/// How a product with a matrix that isn't packed is cut over its rows, so that what follows finds
/// them in the cache: by their number alone, so that the bits don't depend on the number of threads.
///
/// Each tile's product packs the matrix anew. GFLOP/s of two threads that share a core, best of 40
/// calls, oneDNN's sgemm on an Emerald Rapids, 1024 rows, X Wᵀ : G W:
///   columns, inner   tiles of 64    128        256        512        192 columns
///   576, 576         251 : 350      272 : 360  313 : 356  328 : 358  246 : 264
///   1536, 576        261 : 331      299 : 336  325 : 338  336 : 345  313 : 321
///   576, 1536        243 : 345      280 : 344  304 : 346  323 : 350  237 : 257
struct RowTiles {
  private let rows: Int
  private let size: Int

  /// Of a tile.
  static let most = 256

  /// - Returns: nil: too few for tiles
  init?(_ rows: Int) {
    guard rows >= Self.most else { return nil }
    self.rows = rows
    size = rows >= 4 * Self.most ? Self.most : Self.most / 2
  }

  /// body(rows, lane) for each tile, in parallel.
  func forEach(_ compute: Compute, _ body: RowsBody) {
    compute.forTasks((rows + size - 1) / size) { task, lane in
      body(task * size..<min((task + 1) * size, rows), lane)
    }
  }
}
