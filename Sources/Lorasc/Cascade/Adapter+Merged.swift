/// Which of an adapter's weights a computation sees.
public enum View: Sendable {
  /// W_{t-1} with the slow update applied as if the cascade ended now.
  case merged
  /// W_{t-1} + Δ_t.
  case fast
}

// MARK: LoRA: sums of low-rank terms

extension Adapter {
  /// W_{t-1} of a matrix, in its module's layout.
  func clean(_ matrix: Int) -> WeightSource {
    if let master = masters[matrix] { return .float32(master.pointer) }
    let module = model.matrices[matrix]
    let terms = settings.keepsFactors(module) ? mergedTerms(matrix) : []
    return terms.isEmpty
      ? WeightSource(module.weight) : .composed(ComposedMatrix(module, terms, model.products))
  }

  /// W_{t-1} − W0 of a matrix as what finished cascades merged, and PiSSA took out.
  func mergedTerms(_ matrix: Int) -> [WeightedFactors] {
    guard let position = targets.firstIndex(where: { $0.matrix == matrix }) else { return [] }
    let removed = position < cascade.removed.count ? cascade.removed[position] : nil
    return (removed.map { [Self.weighted($0, -1)] } ?? [])
      + zip(cascade.terms, cascade.rule.totalWeights(rates: cascade.rates))
      .filter { $0.1 != 0 }.map { Self.weighted($0.0[position], $0.1) }
  }

  /// The merged or fast weight of a target that keeps its change as factors.
  func composed(_ position: Int, _ view: View) throws -> WeightSource {
    let matrix = targets[position].matrix
    let terms = mergedTerms(matrix) + (try addends(position, view))
    return .composed(
      ComposedMatrix(model.matrices[matrix], terms.map { $0.scaled(by: strength) }, model.products))
  }

  /// What `view` adds to W_{t-1} of a target without a magnitude.
  func addends(_ position: Int, _ view: View) throws -> [WeightedFactors] {
    let target = targets[position]
    func current(_ weight: Double) -> WeightedFactors {
      WeightedFactors(
        a: parameters.pointer(target.a), b: parameters.pointer(target.b), rank: target.rank,
        weight: Float(weight * Double(target.scale)), owner: nil)
    }
    if view == .fast { return [current(1)] }
    if cascade.rule == .emaFactors {
      return [Self.weighted(try averagedFactors(position), 1)]
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

  /// A copy of a target's current factors.
  func expert(_ position: Int) throws -> FactorPair {
    let target = targets[position]
    return FactorPair(
      a: try copy(target.a), b: try copy(target.b), rank: target.rank, scale: target.scale)
  }

  /// Aˢ = (1 − μ) Aˢ + μ A and the same of B; before the first cascade's start the random factor
  /// of the two is the expert's, the other one 0.
  func averagedFactors(_ position: Int) throws -> FactorPair {
    let target = targets[position]
    let rate = Float(cascade.rate)
    let isLinear = model.matrices[target.matrix].isLinear
    func average(_ parameter: Int, _ slow: FloatBuffer?, isRandom: Bool) throws -> FloatBuffer {
      let values = parameters.buffer(parameter)
      let out = try FloatBuffer(count: values.count, what: "slow factors")
      for index in 0..<values.count {
        let before = slow.map { $0.pointer[index] } ?? (isRandom ? values[index] : 0)
        // μ = 1 gives the fast factor to the bit.
        out.pointer[index] = rate == 1 ? values[index] : (1 - rate) * before + rate * values[index]
      }
      return out
    }
    let slow = position < cascade.slowFactors.count ? cascade.slowFactors[position] : nil
    return FactorPair(
      a: try average(target.a, slow?.a, isRandom: isLinear),
      b: try average(target.b, slow?.b, isRandom: !isLinear), rank: target.rank,
      scale: target.scale)
  }

  /// out += Σ weight · B A, in order; transposed for an embedding, whose W is (in, out).
  static func add(
    _ addends: [WeightedFactors], to out: UnsafeMutablePointer<Float>, _ module: MatrixModule,
    _ compute: Compute
  ) {
    for term in addends {
      withExtendedLifetime(term.owner) {
        if module.isLinear {
          compute.gemm(
            module.outFeatures, module.inFeatures, term.rank, a: term.b, lda: term.rank, b: term.a,
            ldb: module.inFeatures, c: out, ldc: module.inFeatures, alpha: term.weight, beta: 1)
        } else {
          compute.gemm(
            module.inFeatures, module.outFeatures, term.rank, a: term.a, lda: module.inFeatures,
            transposeA: true, b: term.b, ldb: term.rank, transposeB: true, c: out,
            ldc: module.outFeatures, alpha: term.weight, beta: 1)
        }
      }
    }
  }
}

// MARK: DoRA: changes of full rank

extension Adapter {
  /// W̃ of a matrix: W_{t-1}, with this cascade's noise where it has any.
  func noisy(
    _ matrix: Int, into out: UnsafeMutablePointer<Float>, _ compute: Compute
  ) {
    let module = model.matrices[matrix]
    if let noise = cascade.noise, let deviation = noise.deviations[matrix] {
      MatrixNoise(
        noise.noise, deviation: deviation, module, cascade: cascade.index, step: 0, compute.kernels
      ).add(to: clean(matrix), module, into: out, compute)
    } else {
      clean(matrix).copy(module.count, to: out)
    }
  }

  /// Δ_t = k ⊙ (W̃ + s B A) − W̃ of a target, k = m / ‖W̃ + s B A‖ by rows.
  func directedChange(_ position: Int, _ magnitude: Int, _ compute: Compute) throws -> FloatBuffer {
    let target = targets[position]
    let module = model.matrices[target.matrix]
    let noisy = try FloatBuffer(count: module.count, what: module.name)
    let change = try FloatBuffer(count: module.count, what: module.name)
    self.noisy(target.matrix, into: noisy.pointer, compute)
    change.pointer.update(from: noisy.pointer, count: module.count)
    Self.add([Self.weighted(try expert(position), 1)], to: change.pointer, module, compute)
    let kernels = compute.kernels
    let m = parameters.pointer(magnitude)
    let columns = module.columns
    compute.forRows(module.rows, cost: 4 * columns) { start, end in
      for row in start..<end {
        let values = change.pointer + row * columns
        let norm = kernels.sum_squared_deviations(values, 0, columns).squareRoot()
        let factor = norm > 0 ? Float(Double(m[row]) / norm) : 0
        kernels.axpby(factor, values, 0, values, columns)
        kernels.axpby(-1, noisy.pointer + row * columns, 1, values, columns)
      }
    }
    withExtendedLifetime((noisy, change)) {}
    return change
  }

  /// The slow update of a target by Δ_t: S_t, to be added to W_{t-1}. Uses up `change`.
  func slowChange(_ position: Int, _ change: FloatBuffer) -> FloatBuffer {
    let rate = Float(cascade.rate)
    let before =
      cascade.rule == .ema && position < cascade.slowChange.count
      ? cascade.slowChange[position] : nil
    for index in 0..<change.count {
      let slow = before.map { (1 - rate) * $0.pointer[index] } ?? 0
      change.pointer[index] = slow + rate * change.pointer[index]
    }
    withExtendedLifetime((before, change)) {}
    return change
  }
}

// MARK: Views

extension Adapter {
  /// The merged or fast weight of a target, in its module's layout.
  func weight(
    _ position: Int, _ view: View, into out: UnsafeMutablePointer<Float>, _ compute: Compute
  ) throws {
    let target = targets[position]
    let module = model.matrices[target.matrix]
    clean(target.matrix).copy(module.count, to: out)
    if let magnitude = target.magnitude {
      let change = try directedChange(position, magnitude, compute)
      let added = view == .fast ? change : slowChange(position, change)
      compute.kernels.axpby(1, added.pointer, 1, out, module.count)
      withExtendedLifetime(added) {}
    } else {
      Self.add(try addends(position, view), to: out, module, compute)
    }
    try applyStrength(target.matrix, out)
  }

  /// The merged or fast weight of any matrix.
  func weight(
    ofMatrix matrix: Int, _ view: View, into out: UnsafeMutablePointer<Float>, _ compute: Compute
  ) throws {
    if let position = targets.firstIndex(where: { $0.matrix == matrix }) {
      return try weight(position, view, into: out, compute)
    }
    clean(matrix).copy(model.matrices[matrix].count, to: out)
    try applyStrength(matrix, out)
  }

  /// out ← W0 + strength (out − W0)
  func applyStrength(_ matrix: Int, _ out: UnsafeMutablePointer<Float>) throws {
    guard strength != 1 else { return }
    try model.matrices[matrix].weight.withFloats { base in
      for index in 0..<model.matrices[matrix].count {
        out[index] = Float(
          Double(base[index]) + strength * (Double(out[index]) - Double(base[index])))
      }
    }
  }

  /// A matrix in a view, of one that is trained in full its value, in the layout of
  /// transformers' files.
  func storedWeight(
    ofMatrix matrix: Int, _ view: View, into out: FloatBuffer, _ compute: Compute
  ) throws {
    if let full = fullParameters.first(where: { $0.place == .weight(matrix) }) {
      fullValue(full.parameter, view, into: out.pointer)
    } else {
      try weight(ofMatrix: matrix, view, into: out.pointer, compute)
    }
    let module = model.matrices[matrix]
    guard module.kind == .conv1D else { return }
    try TensorLayout.transposed.store(out, shape: [module.rows, module.columns])
  }

  /// A parameter that is trained in full as `view` sees it: its value, or with `slow_head`
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
