/// How C (m, n) = Pᵀ X, where P (k, m) and X (k, n) have many rows and C has few, is cut over
/// those rows: into parts with a sum each, which are added in order afterwards. By the shape alone,
/// so that the bits don't depend on the number of threads.
///
/// Cut over C's columns instead, each chunk would read a few cache lines out of each row of X.
/// GFLOP/s of one thread, k = 4096, bfloat16 and float32, oneDNN 2.6 on an Emerald Rapids, means of
/// 20 calls, columns by 96 : rows by 512:
///   m, n       bfloat16    float32
///   16, 384    82 : 159    24 : 105
///   16, 1536   103 : 134   46 : 84
struct SumSplit: Equatable {
  /// Rows of a part, the last may have fewer.
  let size: Int
  let parts: Int
  /// There are parts where rows are many.
  let isThin: Bool

  init(_ m: Int, _ n: Int, _ k: Int) {
    isThin = m <= Self.mostRows && m * n <= Self.mostElements
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
  /// C (m, n) = alpha Pᵀ X + beta C, P (k, m) and C without gaps, X (k, n), in parallel.
  ///
  /// alpha comes in behind the product: with another one than 1 oneDNN's bfloat16 products take up
  /// to four times as long.
  /// - Parameters:
  ///   - rounded: memory for P in bfloat16, k + 1 rows: an X in bfloat16 is multiplied in it
  ///   - parts: memory for `SumSplit.elements(m * n, k)` floats
  func sum(
    _ k: Int, _ m: Int, _ n: Int, _ p: UnsafePointer<Float>,
    rounded: UnsafeMutablePointer<UInt16>? = nil, _ x: Values, ldx: Int,
    _ c: UnsafeMutablePointer<Float>, alpha: Float, beta: Float, parts: UnsafeMutablePointer<Float>
  ) {
    let split = SumSplit(m, n, k)
    // The kernels take X by 32 columns.
    let isSkinny = split.isThin && n >= 32
    if isSkinny, let x = x.halves, let pairs = rounded, let sum = kernels.skinny_sum_bf16 {
      forRows(k / 2 + 1, cost: 4 * m) { start, end in
        kernels.pair_rows(
          p + 2 * start * m, min(2 * end, k) - 2 * start, m, m, 1,
          pairs + 2 * start * m, m)
      }
      forParts(split, k) { part, first, rows in
        sum(pairs + first * m, rows, m, m, x + first * ldx, n, ldx, parts + part * m * n, n)
      }
    } else if isSkinny, x.halves == nil, let x = x.floats, let sum = kernels.skinny_sum {
      forParts(split, k) { part, first, rows in
        sum(p + first * m, rows, m, m, x + first * ldx, n, ldx, parts + part * m * n, n)
      }
    } else {
      if let rounded { kernels.f32_to_bf16(p, rounded, k * m) }
      let p = Values(reading: p, halves: rounded)
      if split.parts == 1 {
        gemm(m, n, k, a: p, lda: m, transposeA: true, b: x, ldb: ldx, c: parts, ldc: n)
      } else {
        forParts(split, k) { part, first, rows in
          products.gemm(
            m, n, rows, a: p + first * m, lda: m, transposeA: true, b: x + first * ldx, ldb: ldx,
            c: parts + part * m * n, ldc: n)
        }
      }
    }
    forRows(m * n, cost: split.parts) { start, end in
      for part in 0..<split.parts {
        kernels.axpby(
          alpha, parts + part * m * n + start, part == 0 ? beta : 1, c + start, end - start)
      }
    }
  }

  /// body(part, its first row, rows)
  private func forParts(
    _ split: SumSplit, _ k: Int, _ body: (_ part: Int, _ first: Int, _ rows: Int) -> Void
  ) {
    forTasks(split.parts) { part, _ in
      body(part, part * split.size, min(split.size, k - part * split.size))
    }
  }
}
