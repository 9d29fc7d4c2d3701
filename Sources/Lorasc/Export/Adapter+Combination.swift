extension Adapter {
  /// One adapter from several on the same model: W0 + Σ weight (W − W0) of their merged views.
  ///
  /// Exact: each module's rank is the sum of all terms' ranks; or truncated to `rank` by SVD. The
  /// head is the mean of the heads by these weights, other tensors trained in full are
  /// V0 + Σ weight (V − V0).
  ///
  /// - Parameter rank: nil: exact
  /// - Returns: the new adapter, and the relative error (Frobenius, over all modules) of the
  ///   truncation
  /// - Throws: `.argument` without adapters, for weights that are not finite or whose sum is 0;
  ///   `.mismatch` for adapters of other models, heads, or with other tensors trained in full;
  ///   `.unsupported` where only merged weights hold an adapter's result; `.limit`
  public static func combine(_ parts: [(adapter: Adapter, weight: Double)], rank: Int? = nil) throws
    -> (adapter: Adapter, error: Double)
  {
    let total = parts.reduce(0) { $0 + $1.weight }
    guard let first = parts.first?.adapter else {
      throw LorascError(.argument, "there is nothing to combine", subject: "adapters")
    }
    guard total.isFinite, total != 0, parts.allSatisfy({ $0.weight.isFinite }) else {
      throw LorascError(
        .argument, "the weights are not finite, or their sum is 0", subject: "weights")
    }
    let fullNames = first.fullNames
    for (adapter, _) in parts {
      guard adapter.model === first.model, adapter.head.kind == first.head.kind,
        adapter.head.labels == first.head.labels, adapter.fullNames == fullNames
      else {
        throw LorascError(
          .mismatch,
          "the adapters differ in their model, head or the tensors that are trained in full",
          subject: "adapters")
      }
    }
    return try BLASThreads.withSingleThread {
      let sums = try Combination(parts, first.model, rank: rank)
      let combined = try Adapter(
        model: first.model, settings: try sums.settings(like: first))
      try sums.fill(combined)
      try combined.combineFullTensors(parts, total: total)
      return (combined, sums.error)
    }
  }

  private var fullNames: [String] { fullParameters.map { parameters.list[$0.parameter].name } }

  private func combineFullTensors(
    _ parts: [(adapter: Adapter, weight: Double)], total: Double
  ) throws {
    for (index, full) in fullParameters.enumerated() {
      let out = parameters.buffer(full.parameter)
      let frozen = try FloatBuffer(count: out.count, what: "combined tensor")
      let base = model.copy(full.place, to: frozen.pointer) ? frozen : nil
      var sums = [Double](repeating: 0, count: out.count)
      for (adapter, weight) in parts {
        let values = try FloatBuffer(count: out.count, what: "combined tensor")
        try adapter.use {
          adapter.fullValue(
            adapter.fullParameters[index].parameter, .merged, into: values.pointer)
        }
        for element in sums.indices {
          let start = base.map { Double($0.pointer[element]) } ?? 0
          sums[element] += weight * (Double(values.pointer[element]) - start)
        }
        withExtendedLifetime(values) {}
      }
      for element in sums.indices {
        out[element] =
          base.map { Float(Double($0.pointer[element]) + sums[element]) }
          ?? Float(sums[element] / total)
      }
      withExtendedLifetime(frozen) {}
    }
  }
}

/// The low-rank part of a combination.
private struct Combination {
  private var pairs: [(matrix: Int, pair: LowRankPair)] = []
  private(set) var error = 0.0
  private let model: Model

  init(_ parts: [(adapter: Adapter, weight: Double)], _ model: Model, rank: Int?) throws {
    self.model = model
    var terms: [Int: [LowRankTerm]] = [:]
    for (adapter, weight) in parts {
      try adapter.use {
        for (position, target) in adapter.targets.enumerated() {
          terms[target.matrix, default: []] += try adapter.changeTerms(position).map {
            LowRankTerm(
              b: $0.b, a: $0.a, rank: $0.rank, weight: $0.weight * weight, owners: $0.owners)
          }
        }
      }
    }
    var truncation = Truncation()
    for (matrix, terms) in terms.sorted(by: { $0.key < $1.key }) {
      let module = model.matrices[matrix]
      let sum = try LowRankSum(
        outFeatures: module.outFeatures, inFeatures: module.inFeatures, terms: terms,
        what: module.name)
      let pair = try truncation.pair(of: sum, rank: rank)
      guard pair.rank <= AdapterRanks.largest else {
        throw LorascError(
          .limit, "\(module.name): the combination has rank \(pair.rank)", subject: module.name)
      }
      pairs.append((matrix, pair))
    }
    error = truncation.error
  }

  /// Options that make an adapter with these modules and ranks, each with scale 1.
  func settings(like first: Adapter) throws -> AdapterSettings {
    var options = first.settings.options
    try options.setExactRanks(pairs.map { (model.matrices[$0.matrix].name, $0.pair.rank) })
    let values = [
      "method": "lora", "lora_dropout": "0", "slow_rate": "1", "slow_rule": "interpolate",
      "allow_no_match": pairs.isEmpty ? "true" : "false",
    ]
    for (key, value) in values { try options.set(key, value) }
    return try AdapterSettings(options, model: model)
  }

  func fill(_ adapter: Adapter) throws {
    for (matrix, pair) in pairs {
      guard let target = adapter.targets.first(where: { $0.matrix == matrix }),
        target.rank == pair.rank
      else {
        throw LorascError(
          .internal, "the combined adapter lacks \(model.matrices[matrix].name)")
      }
      adapter.parameters.pointer(target.a).update(from: pair.a.pointer, count: pair.a.count)
      adapter.parameters.pointer(target.b).update(from: pair.b.pointer, count: pair.b.count)
      withExtendedLifetime(pair) {}
    }
  }
}

/// Sums of low-rank terms as pairs, and the joint error of their truncation.
struct Truncation {
  private var dropped = 0.0
  private var all = 0.0

  /// ‖Σ − Σ_r‖ / ‖Σ‖ over all sums so far, in the Frobenius norm.
  var error: Double { all > 0 ? (dropped / all).squareRoot() : 0 }

  /// - Parameter rank: at most that many; nil: the exact pair of all terms
  mutating func pair(of sum: LowRankSum, rank: Int?) throws -> LowRankPair {
    guard let rank else { return try sum.stacked() }
    let svd = try sum.svd()
    for index in 0..<svd.count {
      let square = svd.singularValues[index] * svd.singularValues[index]
      all += square
      if index >= rank { dropped += square }
    }
    // A sum of lower rank is its own truncation; rank 0 would be no adapter.
    return try svd.pair(rank: max(1, min(rank, svd.count)), what: sum.what)
  }
}
