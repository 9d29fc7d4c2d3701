/// How a product is cut into chunks over the rows or columns of C: by its shape alone, so that
/// the bits don't depend on the number of threads. k is never cut.
///
/// Each chunk packs the operand that it shares with the others anew, so chunks must be wide
/// enough to pay for it, and there should be an even number of them.
struct GemmSplit: Equatable {
  let overRows: Bool
  /// Rows or columns of C in a chunk, the last may have fewer.
  let size: Int
  let chunks: Int

  init(_ m: Int, _ n: Int, _ k: Int) {
    overRows = m >= n
    let extent = overRows ? m : n
    let flops = 2 * Double(m) * Double(n) * Double(k)
    var pieces = 1
    for step in GemmSplit.steps
    where extent >= step.pieces * step.width
      && flops >= Double(step.pieces) * GemmSplit.flopsOfChunk
    {
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
  static let mostChunks = 16
}
