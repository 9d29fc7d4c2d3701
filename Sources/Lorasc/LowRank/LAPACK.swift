import COpenBLAS

typealias DoubleBuffer = AlignedBuffer<Double>

/// Decompositions and products of dense float64 matrices by OpenBLAS, with 32-bit sizes checked
/// and LAPACK's info as errors. Inputs must be finite.
///
/// LAPACK is column-major: a row-major (m, n) matrix is its column-major transpose, (n, m).
enum LAPACK {
  /// rows * columns.
  /// - Throws: `.limit` where a size or the product is negative or doesn't fit 32 bits.
  static func count(_ rows: Int, _ columns: Int, what: String) throws -> Int {
    let range = 0...Int(Int32.max)
    // Two factors below 2^31: the product fits 64 bits.
    guard range.contains(rows), range.contains(columns), range.contains(rows * columns) else {
      throw LorascError(
        .limit, "\(what): a matrix of (\(rows), \(columns)) doesn't fit LAPACK's 32-bit sizes",
        subject: what)
    }
    return rows * columns
  }

  /// Row-major A (m, n) = U diag(s) Vt with U (m, k), s (k), Vt (k, n), k = min(m, n), in
  /// dgesdd's order: s falls. Overwrites A.
  static func svd(
    _ a: DoubleBuffer, rows m: Int, columns n: Int, u: DoubleBuffer, s: DoubleBuffer,
    vt: DoubleBuffer, what: String
  ) throws {
    let k = min(m, n)
    guard k > 0 else { return }
    _ = try count(m, n, what: what)
    // dgesdd counts its workspace in 32 bits, unchecked: 4 k^2 + 7 k doubles, and for its blocked
    // parts 32 (m + n), taken twice here to be safe. So k is at most about 23,000.
    guard k * (4 * k + 7) + 64 * (m + n) <= Int32.max else {
      throw LorascError(
        .limit, "\(what): the workspace to decompose (\(m), \(n)) is beyond LAPACK's 32-bit sizes",
        subject: what)
    }
    let integers = try AlignedBuffer<blasint>(count: 8 * k, what: "\(what): workspace")
    // Aᵀ = V diag(s) Uᵀ: what LAPACK calls U and VT are Vt and U, row-major.
    try withWorkspace("dgesdd", what: what) { work, size in
      lorasc_dgesdd(
        blasint(n), blasint(m), a.pointer, s.pointer, vt.pointer, u.pointer, work, size,
        integers.pointer)
    }
    withExtendedLifetime((a, u, s, vt, integers)) {}
  }

  /// Column-major A (m, n), m >= n, becomes Q (m, n) of A = Q R, and row-major R (n, n), upper
  /// triangular, is returned.
  static func qr(_ a: DoubleBuffer, rows m: Int, columns n: Int, what: String) throws
    -> DoubleBuffer
  {
    let r = try DoubleBuffer(count: try count(n, n, what: what), what: "\(what): R")
    guard n > 0 else { return r }
    let tau = try DoubleBuffer(count: n, what: "\(what): workspace")
    try withWorkspace("dgeqrf", what: what) { work, size in
      lorasc_dgeqrf(blasint(m), blasint(n), a.pointer, tau.pointer, work, size)
    }
    for row in 0..<n {
      for column in row..<n { r.pointer[row * n + column] = a.pointer[column * m + row] }
    }
    try withWorkspace("dorgqr", what: what) { work, size in
      lorasc_dorgqr(blasint(m), blasint(n), a.pointer, tau.pointer, work, size)
    }
    withExtendedLifetime((a, tau)) {}
    return r
  }

  /// Row-major op(A) op(B), op(A) (m, k), op(B) (k, n), of dense matrices with checked sizes.
  static func product(
    _ m: Int, _ n: Int, _ k: Int, _ a: DoubleBuffer, transposeA: Bool = false, _ b: DoubleBuffer,
    transposeB: Bool = false, what: String
  ) throws -> DoubleBuffer {
    let c = try DoubleBuffer(count: try count(m, n, what: what), what: what)
    guard m > 0, n > 0, k > 0 else { return c }
    cblas_dgemm(
      CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
      blasint(m), blasint(n), blasint(k), 1, a.pointer, blasint(transposeA ? m : k), b.pointer,
      blasint(transposeB ? k : n), 0, c.pointer, blasint(n))
    withExtendedLifetime((a, b)) {}
    return c
  }

  /// Asks `routine` for its workspace and runs it; `routine` returns info.
  private static func withWorkspace(
    _ name: String, what: String, _ routine: (UnsafeMutablePointer<Double>, blasint) -> blasint
  ) throws {
    func check(_ info: blasint) throws {
      guard info == 0 else {
        throw LorascError(.internal, "\(what): LAPACK's \(name) gave info \(info)", subject: what)
      }
    }
    var best = 0.0
    try check(routine(&best, -1))
    guard let size = blasint(exactly: best), size > 0 else {
      throw LorascError(
        .limit, "\(what): LAPACK's \(name) asks for a workspace of \(best)", subject: what)
    }
    let work = try DoubleBuffer(count: Int(size), what: "\(what): workspace")
    try withExtendedLifetime(work) { try check(routine(work.pointer, size)) }
  }
}
