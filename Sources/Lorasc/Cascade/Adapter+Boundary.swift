extension Adapter {
  /// Remembers what later cascades need of the first one's start.
  func rememberStart(sameA: Bool, slowHead: Bool) throws {
    if cascade.index == 1 {
      if sameA, cascade.initialA.isEmpty {
        cascade.initialA = try targets.map { try copy($0.a) }
      }
      if cascade.rule == .emaFactors, cascade.slowFactors.isEmpty {
        cascade.slowFactors = try targets.map { target in
          FactorPair(
            a: try copy(target.a),
            b: try FloatBuffer(count: parameters.list[target.b].count, what: "slow factors"),
            rank: target.rank, scale: target.scale)
        }
      }
    }
    if slowHead, cascade.fullStart == nil {
      let start = try FloatBuffer(count: parameters.bufferCount, what: "slow head")
      start.pointer.update(from: parameters.values.pointer, count: start.count)
      cascade.fullStart = start
    }
  }

  /// Steps 2 and 3 of a cascade: the slow update, merged into the clean weights; then a fresh
  /// expert for the next one.
  ///
  /// All memory is taken before anything changes: on an error the adapter is as it was.
  ///
  /// - Parameters:
  ///   - nextRate: μ of the next cascade
  ///   - seed: of the new A
  ///   - sameA: the first cascade's initial A again instead of a new one
  func endCascade(nextRate: Double, seed: UInt64, sameA: Bool, _ compute: Compute) throws {
    let finished: [FactorPair] = try targets.indices.map { position in
      if cascade.rule == .emaFactors { return try averagedFactors(position) }
      let target = targets[position]
      return FactorPair(
        a: try copy(target.a), b: try copy(target.b), rank: target.rank, scale: target.scale)
    }
    for target in targets { _ = try makeMaster(target.linear) }

    cascade.terms.append(finished)
    cascade.rates.append(cascade.rate)
    mergeTerms(after: cascade.rates.count, compute)
    if cascade.rule == .emaFactors { cascade.slowFactors = finished }
    if cascade.fullStart != nil {
      for module in fullModules {
        for parameter in [module.weight, module.bias].compactMap({ $0 }) {
          fullValue(parameter, .merged, into: parameters.pointer(parameter))
        }
      }
      cascade.fullStart?.pointer.update(
        from: parameters.values.pointer, count: parameters.bufferCount)
    }
    cascade.index += 1
    cascade.rate = nextRate
    if sameA, cascade.initialA.count == targets.count {
      for (target, initial) in zip(targets, cascade.initialA) {
        parameters.pointer(target.a).update(from: initial.pointer, count: initial.count)
        parameters.buffer(target.b).update(repeating: 0)
      }
    } else {
      drawFactors(seed: seed)
    }
  }

  /// W ← W + what the boundary after cascade `number` adds; masters exist.
  private func mergeTerms(after number: Int, _ compute: Compute) {
    let weights = cascade.rule.mergeWeights(rates: Array(cascade.rates.prefix(number)))
    for (position, target) in targets.enumerated() {
      guard let master = masters[target.linear] else { continue }
      let addends = weights.map {
        Self.weighted(cascade.terms[$0.cascade - 1][position], $0.weight)
      }
      Self.add(addends, to: master.pointer, model.linears[target.linear], compute)
    }
  }

  /// The clean weights of all finished cascades again, from their factors: the same sums in
  /// the same order, so the same bits.
  func rebuildMasters(_ compute: Compute) throws {
    masters = [:]
    guard !cascade.terms.isEmpty else { return }
    for target in targets { _ = try makeMaster(target.linear) }
    for number in 1...cascade.terms.count { mergeTerms(after: number, compute) }
  }

  /// The adapter's own copy of a matrix, made from the file's when there is none yet.
  func makeMaster(_ linear: Int) throws -> FloatBuffer {
    if let master = masters[linear] { return master }
    let module = model.linears[linear]
    let master = try FloatBuffer(count: module.count, what: module.name)
    master.pointer.update(from: module.weight.pointer, count: module.count)
    masters[linear] = master
    return master
  }

  private func copy(_ parameter: Int) throws -> FloatBuffer {
    let values = parameters.buffer(parameter)
    let out = try FloatBuffer(count: values.count, what: parameters.list[parameter].name)
    _ = out.buffer.update(fromContentsOf: values)
    return out
  }
}
