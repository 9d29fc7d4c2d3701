/// How C (m, n) = Aᵀ B, where A (k, m) and B (k, n) have many rows and C has few, is cut over
/// those rows: into parts with a sum each, which are added in order afterwards. By the shape alone,
/// so that the bits don't depend on the number of threads.
///
/// Cut over C's columns instead, each chunk would read a few cache lines out of each row of B.
/// GFLOP/s of one thread, k = 4096, bfloat16 and float32, oneDNN 2.6 on an Emerald Rapids, means of
/// 20 calls, columns by 96 : rows by 512:
///   m, n       bfloat16    float32
///   16, 384    82 : 159    24 : 105
///   16, 1536   103 : 134   46 : 84
struct SumSplit: Equatable {
  /// Rows of a part, the last may have fewer.
  let size: Int
  let parts: Int

  init(_ m: Int, _ n: Int, _ k: Int) {
    let isThin = m <= Self.mostRows && m * n <= Self.mostElements
    // A multiple of 32.
    let even = ((k + Self.mostParts - 1) / Self.mostParts + 31) / 32 * 32
    size = isThin ? max(Self.fewestSummed, even) : max(1, k)
    parts = max(1, (k + size - 1) / size)
  }

  /// Floats that the parts of a C of at most so many elements take, of at most k rows to sum over.
  static func elements(_ count: Int, _ k: Int) -> Int {
    max(
      count, min(count, mostElements) * min(mostParts, (k + fewestSummed - 1) / fewestSummed))
  }

  private static let mostParts = 8
  /// Rows of a part.
  private static let fewestSummed = 256
  /// Of C; with more the library's own blocks are large enough.
  private static let mostRows = 64
  /// Of C: 1 MB. Parts of wider ones would take more memory than they are worth.
  private static let mostElements = 1 << 18
}

extension Compute {
  /// C (m, n) = alpha Aᵀ B + beta C, A (k, m), B (k, n), C without gaps, in parallel.
  ///
  /// alpha comes in behind the product: with another one than 1 oneDNN's bfloat16 products take up
  /// to four times as long.
  /// - Parameter parts: memory for `SumSplit.elements(m * n, k)` floats
  func gemm(
    summing k: Int, _ m: Int, _ n: Int, a: Values, lda: Int, b: Values, ldb: Int,
    c: UnsafeMutablePointer<Float>, alpha: Float, beta: Float, parts: UnsafeMutablePointer<Float>
  ) {
    let split = SumSplit(m, n, k)
    if split.parts == 1 {
      gemm(m, n, k, a: a, lda: lda, transposeA: true, b: b, ldb: ldb, c: parts, ldc: n)
    } else {
      forTasks(split.parts) { part, _ in
        let start = part * split.size
        products.gemm(
          m, n, min(split.size, k - start), a: a + start * lda, lda: lda, transposeA: true,
          b: b + start * ldb, ldb: ldb, c: parts + part * m * n, ldc: n)
      }
    }
    forRows(m * n, cost: split.parts) { start, end in
      for part in 0..<split.parts {
        kernels.axpby(
          alpha, parts + part * m * n + start, part == 0 ? beta : 1, c + start, end - start)
      }
    }
  }
}
