/// An adapter's merged view as one expert a target: what other programs' adapter files hold.
struct ExportedExperts {
  struct Expert {
    /// Index into the model's matrices.
    let matrix: Int
    /// (r, in), (out, r)
    let a: FloatBuffer
    let b: FloatBuffer
    let rank: Int
    let scale: Float
    /// DoRA's m (out)
    let magnitude: FloatBuffer?
  }

  private(set) var experts: [Expert] = []
  /// They are the current expert as it is, not a sum of terms.
  let isCurrentExpert: Bool
  /// ‖Σ − Σ_r‖ / ‖Σ‖ over all targets (Frobenius) of a truncation to a rank; else 0.
  private(set) var error = 0.0

  /// - Parameter rank: of the truncation by SVD; nil: exact, Σ r of all terms
  /// - Throws: `.unsupported` where only merged weights hold the result.
  init(_ adapter: Adapter, rank: Int?) throws {
    isCurrentExpert = adapter.isCurrentExpertAll && rank == nil
    var truncation = Truncation()
    for (position, target) in adapter.targets.enumerated() {
      let module = adapter.model.matrices[target.matrix]
      if isCurrentExpert {
        let pair = try adapter.expert(position)
        experts.append(
          Expert(
            matrix: target.matrix, a: pair.a, b: pair.b, rank: pair.rank, scale: pair.scale,
            magnitude: try target.magnitude.map { try adapter.copy($0) }))
        continue
      }
      let sum = try LowRankSum(
        outFeatures: module.outFeatures, inFeatures: module.inFeatures,
        terms: try adapter.changeTerms(position), what: module.name)
      let pair = try truncation.pair(of: sum, rank: rank)
      experts.append(
        Expert(
          matrix: target.matrix, a: pair.a, b: pair.b, rank: pair.rank, scale: 1, magnitude: nil))
    }
    error = truncation.error
  }
}

extension Adapter {
  /// The merged view is W0 + the current expert and nothing else.
  var isCurrentExpertAll: Bool {
    cascade.terms.isEmpty && cascade.removed.allSatisfy { $0 == nil } && !cascade.isFullRank
      && cascade.rate == 1 && strength == 1
      && (cascade.noise == nil || targets.allSatisfy { $0.magnitude == nil })
  }

  /// W − W0 of a target in the merged view, as weighted terms: with weights summed over all
  /// boundaries, the pending one too.
  ///
  /// - Throws: `.unsupported` where the change has full rank.
  func changeTerms(_ position: Int) throws -> [LowRankTerm] {
    let target = targets[position]
    guard target.magnitude == nil, !cascade.isFullRank else {
      let why =
        target.magnitude == nil
        ? "persistent noise is in the weights" : "DoRA's change is no sum of low-rank terms"
      throw LorascError(
        .unsupported,
        "only merged weights can hold this adapter's result, since \(why): use merge",
        subject: model.matrices[target.matrix].name)
    }
    let weights = cascade.rule.totalWeights(rates: cascade.rates + [cascade.rate])
    let current =
      cascade.rule == .emaFactors ? try averagedFactors(position) : try expert(position)
    var pairs = zip(cascade.terms.map { $0[position] } + [current], weights).map { ($0, $1) }
    if position < cascade.removed.count, let removed = cascade.removed[position] {
      pairs.insert((removed, -1), at: 0)
    }
    return pairs.map { pair, weight in
      LowRankTerm(
        LowRankPair(b: pair.b, a: pair.a, rank: pair.rank),
        weight: weight * Double(pair.scale) * strength)
    }
  }
}
