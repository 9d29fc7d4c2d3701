/// How a product is cut into chunks over the rows or columns of C: by its shape alone, so that
/// the bits don't depend on the number of threads. k is never cut.
///
/// Each chunk packs the operand that it shares with the others anew, so chunks must be wide
/// enough to pay for it, and there should be an even number of them.
///
/// GFLOP/s, OpenBLAS 0.3.21 (Zen kernels), AVX2, best of 15 to 400 calls by
/// `cblas_sgemm` whole and by `Compute.gemm`, best of four runs, each column on its own, with
/// other work on the machine that hid the second thread for larger shapes. One thread, split in
/// chunks or whole, shows what splitting costs: 32 wide 63 : 79 (hence the widths below), 96 wide
/// 75 : 80, 192 wide 74 : 78, 256 wide 82 : 82. Two threads of the pool against OpenBLAS's own two:
///   m, n, k              pool  OpenBLAS
///   128, 1536, 384        143  128
///   384, 384, 128 (AT)    135  120
///   512, 384, 384         133  131
///   512, 16, 1536         102   71
///   1536, 16, 512 (AT)    105   81
///   2048, 8, 384           73   46
///   2048, 384, 8           44   37
struct GemmSplit: Equatable {
  let overRows: Bool
  /// Rows or columns of C in a chunk, the last may have fewer.
  let size: Int
  let chunks: Int

  init(_ m: Int, _ n: Int, _ k: Int) {
    overRows = m >= n
    let extent = overRows ? m : n
    let flops = 2 * Double(m) * Double(n) * Double(k)
    let flopsOfChunk = m == 1 ? GemmSplit.flopsOfRowChunk : GemmSplit.flopsOfChunk
    var pieces = 1
    for step in GemmSplit.steps
    where extent >= step.pieces * step.width && flops >= Double(step.pieces) * flopsOfChunk {
      pieces = step.pieces
    }
    // Multiples of 32 keep OpenBLAS's register tiles whole.
    size = max(32, ((extent + pieces - 1) / pieces + 31) / 32 * 32)
    chunks = max(1, (extent + size - 1) / size)
  }

  /// So many chunks if each is at least so wide.
  private static let steps: [(pieces: Int, width: Int)] = [(2, 32), (4, 96), (8, 192), (16, 256)]

  /// About 20 us of one core: waking a worker and claiming a chunk are small beside it.
  static let flopsOfChunk = 1e6
  /// The same time of a product with one row, which waits for memory: 0.5 MB of B.
  static let flopsOfRowChunk = 2.5e5
  static let mostChunks = 16
}
