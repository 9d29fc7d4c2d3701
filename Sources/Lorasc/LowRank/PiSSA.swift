/// Initial factors from the principal singular values and vectors of a weight (Meng, Wang, Zhang
/// 2024, "PiSSA: Principal Singular Values and Singular Vectors Adaptation"), here with the
/// adapter's scale s: s B A is W's best approximation of rank r, and what stays frozen is
/// W − s B A, which the caller subtracts.
enum PiSSA {
  /// B (out, r) = U_r √(Σ_r / s), A (r, in) = √(Σ_r / s) V_rᵀ, by a full decomposition in float64.
  ///
  /// Beyond rank min(out, in) both factors are 0, and as each one's gradient is a product with the
  /// other one, training leaves them there.
  /// - Parameters:
  ///   - weight: (out, in), row-major; kept alive by the caller.
  ///   - scale: s, positive.
  ///   - what: the weight's name in messages.
  /// - Throws: see `SVD.init` and `SVD.pair`.
  static func factors(
    of weight: UnsafeBufferPointer<Float>, outFeatures: Int, inFeatures: Int, rank: Int,
    scale: Float, what: String
  ) throws -> LowRankPair {
    let svd = try SVD(weight, rows: outFeatures, columns: inFeatures, what: what)
    return try svd.pair(rank: rank, scale: Double(scale), what: what)
  }
}
