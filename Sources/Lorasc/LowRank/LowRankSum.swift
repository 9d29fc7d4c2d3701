/// One term of a `LowRankSum`: weight · B A.
struct LowRankTerm {
  /// (out, r), row-major
  let b: UnsafeBufferPointer<Float>
  /// (r, in), row-major
  let a: UnsafeBufferPointer<Float>
  let rank: Int
  let weight: Double
  /// Keep the memory of a and b.
  let owners: [AnyObject]

  init(
    b: UnsafeBufferPointer<Float>, a: UnsafeBufferPointer<Float>, rank: Int, weight: Double,
    owners: [AnyObject]
  ) {
    self.b = b
    self.a = a
    self.rank = rank
    self.weight = weight
    self.owners = owners
  }

  init(_ pair: LowRankPair, weight: Double) {
    self.init(
      b: UnsafeBufferPointer(pair.b.buffer), a: UnsafeBufferPointer(pair.a.buffer),
      rank: pair.rank, weight: weight, owners: [pair.b, pair.a])
  }
}

/// Σ_k weight_k B_k A_k, a matrix (out, in), as its terms.
struct LowRankSum {
  let outFeatures: Int
  let inFeatures: Int
  let terms: [LowRankTerm]
  /// R, the sum of the terms' ranks.
  let rank: Int
  /// The sum's name in messages.
  let what: String

  /// - Throws: `.limit` where a size or a count of elements is negative or beyond 32 bits;
  ///   `.shape` where a factor's count isn't its shape's.
  init(outFeatures: Int, inFeatures: Int, terms: [LowRankTerm], what: String) throws {
    var total = 0
    for (index, term) in terms.enumerated() {
      let name = "term \(index + 1) of \(what)"
      guard try LAPACK.count(outFeatures, term.rank, what: name) == term.b.count,
        try LAPACK.count(term.rank, inFeatures, what: name) == term.a.count
      else {
        throw LorascError(
          .shape,
          "\(name): factors of \(term.b.count) and \(term.a.count) elements where "
            + "(\(outFeatures), \(term.rank)) and (\(term.rank), \(inFeatures)) are due",
          subject: what)
      }
      // Both at most 2^31: no overflow.
      total += term.rank
      _ = try LAPACK.count(total, 1, what: what)
    }
    _ = try LAPACK.count(outFeatures, total, what: what)
    _ = try LAPACK.count(total, inFeatures, what: what)
    self.outFeatures = outFeatures
    self.inFeatures = inFeatures
    self.terms = terms
    self.what = what
    rank = total
  }

  /// The whole sum as one pair of rank R: the A_k one below the other, the weight_k B_k side by
  /// side. Nothing is lost but the rounding of weight_k B_k to float32; none for weight 1.
  /// - Throws: `.nonFinite` where a factor holds NaN or infinity, `.outOfMemory`.
  func stacked() throws -> LowRankPair {
    let b = try FloatBuffer(count: outFeatures * rank, what: "\(what): B")
    let a = try FloatBuffer(count: rank * inFeatures, what: "\(what): A")
    fillA { a.pointer[$0] = $1 }
    fillB { row, column, value in b.pointer[row * rank + column] = Float(value) }
    try b.requireFinite("\(what): B")
    try a.requireFinite("\(what): A")
    return LowRankPair(b: b, a: a, rank: rank)
  }

  /// body(index, value) for the elements of the stacked A (R, in), row-major.
  func fillA(_ body: (_ index: Int, _ value: Float) -> Void) {
    var offset = 0
    for term in terms {
      for (index, value) in term.a.enumerated() { body(offset + index, value) }
      offset += term.a.count
    }
    withExtendedLifetime(terms) {}
  }

  /// body(row, column, value) for the elements of the stacked weight_k B_k (out, R).
  func fillB(_ body: (_ row: Int, _ column: Int, _ value: Double) -> Void) {
    var offset = 0
    for term in terms {
      for row in 0..<outFeatures {
        for column in 0..<term.rank {
          body(row, offset + column, term.weight * Double(term.b[row * term.rank + column]))
        }
      }
      offset += term.rank
    }
    withExtendedLifetime(terms) {}
  }
}
