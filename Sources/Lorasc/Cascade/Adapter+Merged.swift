/// Which of an adapter's weights a computation sees.
public enum View: Sendable {
  /// W_{t-1} with the slow update applied as if the cascade ended now.
  case merged
  /// W_{t-1} + Δ_t.
  case fast
}

/// One addend of a merge: weight · B A.
struct WeightedFactors {
  let a: UnsafePointer<Float>
  let b: UnsafePointer<Float>
  let rank: Int
  let weight: Float
  /// Keeps the memory of a and b.
  let owner: AnyObject?
}

extension Adapter {
  /// W_{t-1} of a linear module, (out, in).
  func clean(_ linear: Int) -> UnsafePointer<Float> {
    masters[linear].map { UnsafePointer($0.pointer) } ?? model.linears[linear].weight.pointer
  }

  /// What `view` adds to W_{t-1} of a target.
  func addends(_ position: Int, _ view: View) throws -> [WeightedFactors] {
    let target = targets[position]
    func current(_ weight: Double) -> WeightedFactors {
      WeightedFactors(
        a: parameters.pointer(target.a), b: parameters.pointer(target.b), rank: target.rank,
        weight: Float(weight * Double(target.scale)), owner: nil)
    }
    if view == .fast { return [current(1)] }
    if cascade.rule == .emaFactors {
      let pair = try averagedFactors(position)
      return [
        WeightedFactors(
          a: pair.a.pointer, b: pair.b.pointer, rank: pair.rank, weight: pair.scale, owner: pair)
      ]
    }
    return cascade.rule.mergeWeights(rates: cascade.rates + [cascade.rate]).map { k, weight in
      guard k <= cascade.terms.count else { return current(weight) }
      return Self.weighted(cascade.terms[k - 1][position], weight)
    }
  }

  static func weighted(_ pair: FactorPair, _ weight: Double) -> WeightedFactors {
    WeightedFactors(
      a: pair.a.pointer, b: pair.b.pointer, rank: pair.rank,
      weight: Float(weight * Double(pair.scale)), owner: pair)
  }

  /// Aˢ = (1 − μ) Aˢ + μ A and the same of B; before the first cascade's start Aˢ is A, Bˢ is 0.
  func averagedFactors(_ position: Int) throws -> FactorPair {
    let target = targets[position]
    let rate = Float(cascade.rate)
    func average(_ parameter: Int, _ slow: FloatBuffer?, fallback: Bool) throws -> FloatBuffer {
      let values = parameters.buffer(parameter)
      let out = try FloatBuffer(count: values.count, what: "slow factors")
      for index in 0..<values.count {
        let before = slow.map { $0.pointer[index] } ?? (fallback ? values[index] : 0)
        // μ = 1 gives the fast factor to the bit.
        out.pointer[index] = rate == 1 ? values[index] : (1 - rate) * before + rate * values[index]
      }
      return out
    }
    let slow = position < cascade.slowFactors.count ? cascade.slowFactors[position] : nil
    return FactorPair(
      a: try average(target.a, slow?.a, fallback: true),
      b: try average(target.b, slow?.b, fallback: false), rank: target.rank, scale: target.scale)
  }

  /// out (out, in) += Σ weight · B A, in order.
  static func add(
    _ addends: [WeightedFactors], to out: UnsafeMutablePointer<Float>, _ module: LinearModule,
    _ compute: Compute
  ) {
    for term in addends {
      withExtendedLifetime(term.owner) {
        compute.gemm(
          module.outFeatures, module.inFeatures, term.rank, a: term.b, lda: term.rank, b: term.a,
          ldb: module.inFeatures, c: out, ldc: module.inFeatures, alpha: term.weight, beta: 1)
      }
    }
  }

  /// The merged or fast weight of a target, (out, in).
  func weight(
    _ position: Int, _ view: View, into out: UnsafeMutablePointer<Float>, _ compute: Compute
  ) throws {
    let linear = targets[position].linear
    let module = model.linears[linear]
    out.update(from: clean(linear), count: module.count)
    Self.add(try addends(position, view), to: out, module, compute)
  }

  /// A parameter of a module trained in full as `view` sees it: its value, or with `slow_head`
  /// old + μ (new − old).
  func fullValue(_ parameter: Int, _ view: View, into out: UnsafeMutablePointer<Float>) {
    let values = parameters.buffer(parameter)
    let start = cascade.fullStart.map { $0.pointer + parameters.list[parameter].offset }
    let rate = Float(cascade.rate)
    for index in 0..<values.count {
      guard view == .merged, let start, rate != 1 else {
        out[index] = values[index]
        continue
      }
      out[index] = start[index] + rate * (values[index] - start[index])
    }
  }
}
