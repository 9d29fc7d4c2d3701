import COpenBLAS
import CSupport

/// The library that multiplies matrices: OpenBLAS, which is always there, or oneDNN, which is
/// looked for at run time.
///
/// oneDNN 2.x has kernels for AVX-512 and packs weights for them; below that it is no faster than
/// OpenBLAS. Debian's OpenBLAS, on the other hand, runs its SSE3 kernels on CPUs that are newer
/// than it. `dnnl_sgemm` against `cblas_sgemm`, one thread, GFLOP/s, on such a CPU (Emerald
/// Rapids, OpenBLAS 0.3.21): 154 : 23 for (128, 384, 384), 108 : 28 for attention's (64, 64, 32),
/// 62 : 21 for (512, 8, 384).
enum MatrixProducts: String, CaseIterable, Sendable {
  case openblas
  case onednn

  /// What the option's "auto" stands for.
  static let best: MatrixProducts =
    onednn.isAvailable && KernelLevel.avx512.isAvailable ? .onednn : .openblas

  /// - Throws: `.option` for another word, `.unsupported` where the library isn't there.
  init(option: String) throws {
    guard option != "auto" else {
      self = .best
      return
    }
    guard let products = MatrixProducts(rawValue: option) else {
      throw LorascError(
        .option, "products is \(option); it may be auto, openblas or onednn", subject: "products")
    }
    guard products.isAvailable else {
      throw LorascError(
        .unsupported,
        "products is \(option), but oneDNN's library, libdnnl.so.2, is not there: install Debian's "
          + "libdnnl2", subject: "products")
    }
    self = products
  }

  var isAvailable: Bool {
    switch self {
    case .openblas: true
    case .onednn: lorasc_onednn_version() != 0
    }
  }

  /// C (m, n) = alpha op(A) op(B) + beta C on the calling thread; see `Compute.gemm`.
  func gemm(
    _ m: Int, _ n: Int, _ k: Int, a: UnsafePointer<Float>, lda: Int, transposeA: Bool = false,
    b: UnsafePointer<Float>, ldb: Int, transposeB: Bool = false, c: UnsafeMutablePointer<Float>,
    ldc: Int, alpha: Float = 1, beta: Float = 0
  ) {
    guard m > 0, n > 0 else { return }
    // oneDNN leaves C as it is for k = 0.
    if self == .onednn, k > 0,
      lorasc_onednn_sgemm(
        transposeA, transposeB, Int64(m), Int64(n), Int64(k), alpha, a, Int64(lda), b, Int64(ldb),
        beta, c, Int64(ldc))
    {
      return
    }
    if m == 1, k > 0 {
      // A product with one row reads B once and does nothing else: sgemm would copy B first.
      return cblas_sgemv(
        CblasRowMajor, transposeB ? CblasNoTrans : CblasTrans, blasint(transposeB ? n : k),
        blasint(transposeB ? k : n), alpha, b, blasint(ldb), a, blasint(transposeA ? lda : 1),
        beta, c, 1)
    }
    cblas_sgemm(
      CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
      blasint(m), blasint(n), blasint(k), alpha, a, blasint(lda), b, blasint(ldb), beta, c,
      blasint(ldc))
  }
}

// MARK: Operands in either type

extension MatrixProducts {
  /// The same of A and B in bfloat16 where both have such values, which only oneDNN multiplies.
  func gemm(
    _ m: Int, _ n: Int, _ k: Int, a: Values, lda: Int, transposeA: Bool = false, b: Values,
    ldb: Int, transposeB: Bool = false, c: UnsafeMutablePointer<Float>, ldc: Int, alpha: Float = 1,
    beta: Float = 0
  ) {
    guard m > 0, n > 0 else { return }
    if k > 0, let a = a.halves, let b = b.halves,
      lorasc_onednn_bf16_gemm(
        transposeA, transposeB, Int64(m), Int64(n), Int64(k), alpha, a, Int64(lda), b, Int64(ldb),
        beta, c, Int64(ldc))
    {
      return
    }
    guard let a = a.floats, let b = b.floats else {
      // Memory was short: the step sees NaN, says so and stops.
      for row in 0..<m { (c + row * ldc).update(repeating: .nan, count: n) }
      return
    }
    gemm(
      m, n, k, a: a, lda: lda, transposeA: transposeA, b: b, ldb: ldb, transposeB: transposeB,
      c: c, ldc: ldc, alpha: alpha, beta: beta)
  }
}
