import CSupport

/// Threads, kernels and matrix products: what everything that computes runs on.
///
/// Matrices are row-major float32 with leading dimensions in elements, counts may be 0. Work is
/// split by its shape only, never by the number of threads, so the bits do not depend on that
/// number. Nothing here allocates after init. Products expect their library at one thread: call them
/// within `BLASThreads.withSingleThread`.
///
/// One thread at a time may use a `Compute`.
final class Compute: Sendable {
  private let pool: ThreadPool
  // Safe: because the table is immutable.
  nonisolated(unsafe) let kernels: lorasc_kernels
  /// For use inside the bodies of parallel loops; elsewhere see `gemm`.
  let products: MatrixProducts

  /// Lanes of `forTasks` are 0 ..< threads.
  var threads: Int { pool.threads }

  /// - Parameters:
  ///   - level: nil: the best of this CPU.
  ///   - products: nil: the best library that is there.
  /// - Throws: see `ThreadPool.init` and `KernelLevel.table`.
  init(
    threads: Int, level: KernelLevel? = nil, products: MatrixProducts? = nil,
    pool kind: ThreadPool.Kind = .own
  ) throws {
    kernels = try (level ?? .best).table()
    self.products = products ?? .best
    pool = try ThreadPool(threads: threads, kind)
  }

  /// body(start, end) over ranges that make up 0 ..< rows, in parallel.
  /// - Parameter cost: of one row, in units of roughly 0.1 ns: one per element copied, about 4 for
  ///   a normalisation, 8 for an exponential. It decides how large a range is.
  func forRows(_ rows: Int, cost: Int, _ body: (_ start: Int, _ end: Int) -> Void) {
    forRanges(rows, cost: cost) { start, end, _ in body(start, end) }
  }

  /// The same with a lane; two ranges with the same lane never run at the same time.
  func forRanges(_ rows: Int, cost: Int, _ body: (_ start: Int, _ end: Int, _ lane: Int) -> Void) {
    guard rows > 0 else { return }
    let size = Compute.rowsOfRange(rows, cost: cost)
    guard size < rows else { return body(0, rows, 0) }
    pool.run(tasks: (rows + size - 1) / size) { task, lane in
      body(task * size, min(rows, (task + 1) * size), lane)
    }
  }

  /// Ranges of about 2^17 units, 13 us, so that claiming one (0.1 us) and waking a worker are
  /// small beside it; at most 64 of them.
  private static func rowsOfRange(_ rows: Int, cost: Int) -> Int {
    let byCost = max(1, (1 << 17) / max(cost, 1))
    return max(byCost, (rows + 63) / 64)
  }

  /// body(task, lane) for each task, in parallel, one claim a task: for tasks of 10 us and more.
  /// Two tasks with the same lane never run at the same time.
  func forTasks(_ count: Int, _ body: (_ task: Int, _ lane: Int) -> Void) {
    pool.run(tasks: count, body)
  }
}

// MARK: Matrix products

extension Compute {
  /// C (m, n) = alpha op(A) op(B) + beta C, op(A) (m, k), op(B) (k, n), in parallel; A and B as
  /// `MatrixProducts.gemm` takes them.
  ///
  /// beta = 0 doesn't read C. All sizes and leading dimensions must fit 32 bits, which a plan's
  /// limits see to.
  func gemm(
    _ m: Int, _ n: Int, _ k: Int, a: Values, lda: Int, transposeA: Bool = false, b: Values,
    ldb: Int, transposeB: Bool = false, c: UnsafeMutablePointer<Float>, ldc: Int, alpha: Float = 1,
    beta: Float = 0
  ) {
    let split = GemmSplit(m, n, k)
    guard split.chunks > 1 else {
      return products.gemm(
        m, n, k, a: a, lda: lda, transposeA: transposeA, b: b, ldb: ldb, transposeB: transposeB,
        c: c, ldc: ldc, alpha: alpha, beta: beta)
    }
    pool.run(tasks: split.chunks) { chunk, _ in
      let start = chunk * split.size
      if split.overRows {
        products.gemm(
          min(split.size, m - start), n, k, a: a + (transposeA ? start : start * lda), lda: lda,
          transposeA: transposeA, b: b, ldb: ldb, transposeB: transposeB, c: c + start * ldc,
          ldc: ldc, alpha: alpha, beta: beta)
      } else {
        products.gemm(
          m, min(split.size, n - start), k, a: a, lda: lda, transposeA: transposeA,
          b: b + (transposeB ? start * ldb : start), ldb: ldb, transposeB: transposeB,
          c: c + start, ldc: ldc, alpha: alpha, beta: beta)
      }
    }
  }

  func gemm(
    _ m: Int, _ n: Int, _ k: Int, a: UnsafePointer<Float>, lda: Int, transposeA: Bool = false,
    b: UnsafePointer<Float>, ldb: Int, transposeB: Bool = false, c: UnsafeMutablePointer<Float>,
    ldc: Int, alpha: Float = 1, beta: Float = 0
  ) {
    gemm(
      m, n, k, a: Values(reading: a), lda: lda, transposeA: transposeA, b: Values(reading: b),
      ldb: ldb, transposeB: transposeB, c: c, ldc: ldc, alpha: alpha, beta: beta)
  }
}
