extension Adapter {
  /// Remembers what later cascades need of the first one's start.
  func rememberStart(_ reinitialization: Reinitialization, slowHead: Bool) throws {
    if cascade.index == 1 {
      if reinitialization == .sameA, cascade.initialRandom.isEmpty {
        cascade.initialRandom = try targets.map { try copy(randomFactor(of: $0)) }
      }
      if cascade.rule == .emaFactors, cascade.slowFactors.isEmpty {
        cascade.slowFactors = try targets.map { target in
          let isLinear = model.matrices[target.matrix].isLinear
          func zeros(_ parameter: Int) throws -> FloatBuffer {
            try FloatBuffer(count: parameters.list[parameter].count, what: "slow factors")
          }
          return FactorPair(
            a: isLinear ? try copy(target.a) : try zeros(target.a),
            b: isLinear ? try zeros(target.b) : try copy(target.b), rank: target.rank,
            scale: target.scale)
        }
      }
    }
    if slowHead, cascade.fullStart == nil {
      let start = try FloatBuffer(count: parameters.bufferCount, what: "slow head")
      start.pointer.update(from: parameters.values.pointer, count: start.count)
      cascade.fullStart = start
    }
  }

  /// The factor that isn't zero at a cascade's start: A, or B of an embedding.
  func randomFactor(of target: AdapterTarget) -> Int {
    model.matrices[target.matrix].isLinear ? target.a : target.b
  }

  /// Steps 2 and 3 of a cascade: the slow update, merged into the clean weights; then a fresh
  /// expert for the next one.
  ///
  /// All memory is taken before anything changes: on an error the adapter is as it was.
  ///
  /// - Parameters:
  ///   - nextRate: μ of the next cascade
  ///   - seed: of the new factors
  func endCascade(
    nextRate: Double, seed: UInt64, _ reinitialization: Reinitialization, _ compute: Compute
  ) throws {
    let finished: [FactorPair] = try targets.indices.map { position in
      cascade.rule == .emaFactors ? try averagedFactors(position) : try expert(position)
    }
    let changes: [FloatBuffer?] = try targets.enumerated().map { position, target in
      guard let magnitude = target.magnitude else { return nil }
      return slowChange(position, try directedChange(position, magnitude, compute))
    }
    try makeMasters()

    cascade.terms.append(finished)
    cascade.rates.append(cascade.rate)
    mergeTerms(after: cascade.rates.count, compute)
    mergeChanges(changes, compute)
    if cascade.rule == .emaFactors { cascade.slowFactors = finished }
    if cascade.fullStart != nil {
      for full in fullParameters {
        fullValue(full.parameter, .merged, into: parameters.pointer(full.parameter))
      }
      cascade.fullStart?.pointer.update(
        from: parameters.values.pointer, count: parameters.bufferCount)
    }
    cascade.index += 1
    cascade.rate = nextRate
    cascade.noise = nil
    startExpert(seed: seed, reinitialization)
    for target in targets {
      guard let magnitude = target.magnitude, let merged = masters[target.matrix] else { continue }
      setMagnitude(
        magnitude, to: merged.pointer, model.matrices[target.matrix], compute.kernels)
    }
  }

  private func startExpert(seed: UInt64, _ reinitialization: Reinitialization) {
    setRanks(ofCascade: cascade.index)
    switch reinitialization {
    case .new, .onlyB: drawFactors(seed: seed)
    case .sameA where cascade.initialRandom.count == targets.count:
      for (target, initial) in zip(targets, cascade.initialRandom) {
        parameters.pointer(randomFactor(of: target))
          .update(from: initial.pointer, count: initial.count)
      }
      clearZeroFactors()
    case .sameA, .keepA: clearZeroFactors()
    }
  }

  private func clearZeroFactors() {
    for target in targets {
      let zero = model.matrices[target.matrix].isLinear ? target.b : target.a
      parameters.buffer(zero).update(repeating: 0)
    }
  }

  /// W ← W + what the boundary after cascade `number` adds, where there are masters. With DoRA
  /// the terms are no part of the merge.
  private func mergeTerms(after number: Int, _ compute: Compute) {
    let weights = cascade.rule.mergeWeights(rates: Array(cascade.rates.prefix(number)))
    for (position, target) in targets.enumerated() where target.magnitude == nil {
      guard let master = masters[target.matrix] else { continue }
      let addends = weights.map {
        Self.weighted(cascade.terms[$0.cascade - 1][position], $0.weight)
      }
      Self.add(addends, to: master.pointer, model.matrices[target.matrix], compute)
    }
  }

  /// W ← W + S of the targets with a magnitude.
  private func mergeChanges(_ changes: [FloatBuffer?], _ compute: Compute) {
    for (target, change) in zip(targets, changes) {
      guard let change, let master = masters[target.matrix] else { continue }
      compute.kernels.axpby(1, change.pointer, 1, master.pointer, change.count)
      cascade.isFullRank = true
    }
    if cascade.isFullRank, cascade.rule == .ema { cascade.slowChange = changes.compactMap { $0 } }
  }

  /// The clean weights of all finished cascades again, from their factors: the same sums in
  /// the same order, so the same bits.
  func rebuildMasters(_ compute: Compute) throws {
    masters = [:]
    for (target, pair) in zip(targets, cascade.removed) {
      guard let pair, !settings.keepsFactors(model.matrices[target.matrix]) else { continue }
      let master = try makeMaster(target.matrix)
      Self.add(
        [Self.weighted(pair, -1)], to: master.pointer, model.matrices[target.matrix], compute)
    }
    guard !cascade.terms.isEmpty else { return }
    try makeMasters()
    for number in 1...cascade.terms.count { mergeTerms(after: number, compute) }
  }

  /// Masters of the targets that don't keep their change as factors.
  private func makeMasters() throws {
    for target in targets where !settings.keepsFactors(model.matrices[target.matrix]) {
      _ = try makeMaster(target.matrix)
    }
  }

  /// The adapter's own copy of a matrix, made from what it is so far when there is none yet.
  func makeMaster(_ matrix: Int) throws -> FloatBuffer {
    if let master = masters[matrix] { return master }
    let module = model.matrices[matrix]
    let master = try FloatBuffer(count: module.count, what: module.name)
    clean(matrix).copy(module.count, to: master.pointer)
    masters[matrix] = master
    return master
  }

  func copy(_ parameter: Int) throws -> FloatBuffer {
    let values = parameters.buffer(parameter)
    let out = try FloatBuffer(count: values.count, what: parameters.list[parameter].name)
    _ = out.buffer.update(fromContentsOf: values)
    return out
  }
}
