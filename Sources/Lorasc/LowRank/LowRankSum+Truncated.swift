import COpenBLAS

extension LowRankSum {
  /// The nearest pair of a lower rank, and how far it is.
  struct Truncation {
    /// √σ on each side.
    let pair: LowRankPair
    /// ‖sum − B A‖ / ‖sum‖ in the Frobenius norm before B and A are rounded to float32; 0 for a
    /// sum of 0.
    let relativeError: Double
  }

  /// The best pair of `rank` by the decomposition of the sum in float64; zeros beyond R.
  /// - Throws: `.argument` for a negative rank; else see `svd` and `SVD.pair`.
  func truncated(to rank: Int) throws -> Truncation {
    let svd = try svd()
    return Truncation(
      pair: try svd.pair(rank: rank, what: what), relativeError: svd.relativeError(rank: rank))
  }

  /// The decomposition of the sum with min(R, out, in) singular values.
  ///
  /// With the stacked B = Q_b R_b and Aᵀ = Q_a R_a the sum is Q_b (R_b R_aᵀ) Q_aᵀ, whose core
  /// (R, R) has the sum's singular values: O((out + in) R²) operations, and nothing of the size
  /// (out, in). For R > min(out, in), where that saves nothing, the sum is formed.
  ///
  /// σ that are rounding are 0: those below max(out, in) ε Σ_j ‖b_j‖ ‖a_j‖ over the columns b_j and
  /// rows a_j of the stack. So terms that cancel make a sum of 0, not one of noise.
  /// - Throws: see `SVD.init`.
  func svd() throws -> SVD {
    // Bᵀ and A, (R, out) and (R, in), row-major: to LAPACK, B and Aᵀ.
    let b = try DoubleBuffer(count: rank * outFeatures, what: "\(what): B")
    let a = try DoubleBuffer(count: rank * inFeatures, what: "\(what): A")
    fillA { a.pointer[$0] = Double($1) }
    fillB { row, column, value in b.pointer[column * outFeatures + row] = value }
    try b.requireFinite("\(what): B")
    try a.requireFinite("\(what): A")
    let floor = try roundingFloor(b, a)
    let svd = try decompose(b, a)
    for index in 0..<svd.count where svd.singularValues[index] < floor {
      svd.singularValues[index] = 0
    }
    return svd
  }

  private func roundingFloor(_ b: DoubleBuffer, _ a: DoubleBuffer) throws -> Double {
    var norms = 0.0
    for index in 0..<rank {
      norms +=
        cblas_dnrm2(blasint(outFeatures), b.pointer + index * outFeatures, 1)
        * cblas_dnrm2(blasint(inFeatures), a.pointer + index * inFeatures, 1)
    }
    withExtendedLifetime((b, a)) {}
    guard norms.isFinite else {
      throw LorascError(.nonFinite, "\(what): the norm is beyond float64", subject: what)
    }
    return Double(max(outFeatures, inFeatures)) * Double.ulpOfOne * norms
  }

  /// Of Bᵀ (R, out) and A (R, in), which are overwritten.
  private func decompose(_ b: DoubleBuffer, _ a: DoubleBuffer) throws -> SVD {
    guard rank <= min(outFeatures, inFeatures) else {
      let sum = try LAPACK.product(
        outFeatures, inFeatures, rank, b, transposeA: true, a, what: what)
      return try SVD(overwriting: sum, rows: outFeatures, columns: inFeatures, what: what)
    }
    let rb = try LAPACK.qr(b, rows: outFeatures, columns: rank, what: what)
    let ra = try LAPACK.qr(a, rows: inFeatures, columns: rank, what: what)
    let product = try LAPACK.product(rank, rank, rank, rb, ra, transposeB: true, what: what)
    let core = try SVD(overwriting: product, rows: rank, columns: rank, what: what)
    return try SVD(
      core: core, between: b, rows: outFeatures, and: a, columns: inFeatures, what: what)
  }
}
