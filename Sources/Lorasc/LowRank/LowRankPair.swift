/// Two factors of a matrix B A (out, in) of rank at most r.
struct LowRankPair {
  /// (out, r), row-major
  let b: FloatBuffer
  /// (r, in), row-major
  let a: FloatBuffer
  let rank: Int
}

extension SVD {
  /// B = U_r √(Σ_r / s), A = √(Σ_r / s) V_rᵀ, rounded to float32: s B A is nearest to the matrix
  /// among those of rank r in the Frobenius and the spectral norm (Eckart, Young 1936; Mirsky
  /// 1960). Columns of B and rows of A beyond k are 0.
  /// - Throws: `.argument` for r < 0 or a scale that isn't finite and positive, `.nonFinite` where
  ///   float32 can't hold a factor, `.outOfMemory`.
  func pair(rank: Int, scale: Double = 1, what: String) throws -> LowRankPair {
    guard scale > 0, scale.isFinite else {
      throw LorascError(.argument, "\(what): the scale is \(scale), not positive", subject: what)
    }
    let b = try FloatBuffer(
      count: try Self.factorCount(rows, rank, what: what), what: "\(what): B")
    let a = try FloatBuffer(
      count: try Self.factorCount(columns, rank, what: what), what: "\(what): A")
    for index in 0..<min(rank, count) {
      let root = (singularValues.pointer[index] / scale).squareRoot()
      for row in 0..<rows {
        b.pointer[row * rank + index] = Float(u.pointer[row * count + index] * root)
      }
      for column in 0..<columns {
        a.pointer[index * columns + column] = Float(vt.pointer[index * columns + column] * root)
      }
    }
    withExtendedLifetime(self) {}
    try b.requireFinite("\(what): B")
    try a.requireFinite("\(what): A")
    return LowRankPair(b: b, a: a, rank: rank)
  }

  private static func factorCount(_ size: Int, _ rank: Int, what: String) throws -> Int {
    guard rank >= 0 else {
      throw LorascError(.argument, "\(what): rank \(rank)", subject: what)
    }
    let (count, overflow) = size.multipliedReportingOverflow(by: rank)
    guard !overflow else {
      throw LorascError(
        .outOfMemory, "\(what): factors of rank \(rank) don't fit in memory", subject: what)
    }
    return count
  }

  /// ‖M − M_r‖ / ‖M‖ in the Frobenius norm, √(Σ_{i > r} σ_i² / Σ_i σ_i²); 0 for M = 0.
  func relativeError(rank: Int) -> Double {
    guard count > 0, singularValues[0] > 0 else { return 0 }
    let largest = singularValues[0]
    var dropped = 0.0
    var all = 0.0
    // From the smallest on, and over σ₁, so that small squares neither get lost nor underflow.
    for index in (0..<count).reversed() {
      let ratio = singularValues[index] / largest
      all += ratio * ratio
      if index >= rank { dropped = all }
    }
    return (dropped / all).squareRoot()
  }
}
