import CSupport

extension Adapter {
  /// First values: factors, magnitudes, and copies of what is trained in full.
  func initialize() throws {
    drawFactors(seed: settings.seed, first: true)
    if settings.initialization == .pissa { try splitBackbone() }
    try setMagnitudes()
    copyFullParameters()
  }

  /// A fresh expert: one random factor, keyed by the seed, the cascade and the module's name,
  /// and one of zeros.
  ///
  /// Linear: A ~ U(−1/√in, 1/√in) (PEFT's kaiming_uniform with a = √5), or with `gaussian` and
  /// in the first cascade N(0, 1/r²); B = 0. Embedding: A = 0, B ~ N(0, 1).
  func drawFactors(seed: UInt64, first: Bool = false) {
    let kernels = KernelLevel.baselineTable
    for target in targets {
      let module = model.matrices[target.matrix]
      let stream = RandomStream(
        seed: seed, purpose: .initialFactors, cascade: cascade.index, step: 0, name: module.name
      ).c
      let (random, zero) = module.isLinear ? (target.a, target.b) : (target.b, target.a)
      let values = parameters.buffer(random)
      guard let start = values.baseAddress else { continue }
      if !module.isLinear {
        kernels.add_normal(nil, start, values.count, stream, 0, 1)
      } else if first, settings.initialization == .gaussian {
        kernels.add_normal(nil, start, values.count, stream, 0, 1 / Float(target.rank))
      } else {
        kernels.add_uniform(
          nil, start, values.count, stream, 0, 2 / Float(module.inFeatures).squareRoot())
      }
      parameters.buffer(zero).update(repeating: 0)
    }
  }

  /// PiSSA (Meng et al. 2024): the factors hold the principal part of W, the backbone becomes
  /// W − s B A.
  private func splitBackbone() throws {
    for target in targets {
      let module = model.matrices[target.matrix]
      guard module.isLinear else { continue }
      let largest = min(module.inFeatures, module.outFeatures)
      guard target.rank <= largest else {
        throw LorascError(
          .option,
          "option r: \(module.name) has \(largest) singular values for rank \(target.rank)",
          subject: "r")
      }
      let pair = try module.weight.withFloats { weight in
        try PiSSA.factors(
          of: UnsafeBufferPointer(start: weight, count: module.count),
          outFeatures: module.outFeatures, inFeatures: module.inFeatures, rank: target.rank,
          scale: target.scale, what: module.name)
      }
      parameters.pointer(target.a).update(from: pair.a.pointer, count: pair.a.count)
      parameters.pointer(target.b).update(from: pair.b.pointer, count: pair.b.count)
      withExtendedLifetime(pair) {}
    }
    cascade.removed = try targets.indices.map { position in
      model.matrices[targets[position].matrix].isLinear ? try expert(position) : nil
    }
    try rebuildMasters(try model.compute(threads: model.threads))
  }

  /// DoRA: m ← ‖W + s B A‖ by rows.
  func setMagnitudes() throws {
    guard targets.contains(where: { $0.magnitude != nil }) else { return }
    let compute = try model.compute(threads: model.threads)
    for (position, target) in targets.enumerated() {
      guard let magnitude = target.magnitude else { continue }
      let module = model.matrices[target.matrix]
      guard parameters.buffer(target.b).contains(where: { $0 != 0 }) else {
        try clean(target.matrix).withFloats(module.count) {
          setMagnitude(magnitude, to: $0, module, compute.kernels)
        }
        continue
      }
      let sum = try FloatBuffer(count: module.count, what: module.name)
      clean(target.matrix).copy(module.count, to: sum.pointer)
      Self.add([Self.weighted(try expert(position), 1)], to: sum.pointer, module, compute)
      setMagnitude(magnitude, to: sum.pointer, module, compute.kernels)
      withExtendedLifetime(sum) {}
    }
  }

  /// m ← ‖weight‖ by rows.
  func setMagnitude(
    _ magnitude: Int, to weight: UnsafePointer<Float>, _ module: MatrixModule,
    _ kernels: lorasc_kernels
  ) {
    let values = parameters.pointer(magnitude)
    for row in 0..<module.rows {
      let squares = kernels.sum_squared_deviations(
        weight + row * module.columns, 0, module.columns)
      values[row] = Float(squares.squareRoot())
    }
  }

  /// What is trained in full starts at the folder's values; a head that the folder doesn't
  /// have at N(0, 0.02²) and bias 0, as transformers'.
  private func copyFullParameters() {
    let ownHead = model.head.flatMap {
      $0.description.matches(settings.head) ? $0 : nil
    }
    for full in fullParameters {
      let values = parameters.buffer(full.parameter)
      if model.copy(full.place, to: parameters.pointer(full.parameter)) { continue }
      if let source = ownHead?.view(of: full.place) {
        _ = source.withBuffer { values.update(fromContentsOf: $0) }
      } else if full.place == .head(.weight) || full.place == .head(.denseWeight),
        let start = values.baseAddress
      {
        let stream = RandomStream(
          seed: settings.seed, purpose: .head, cascade: 0, step: 0,
          name: parameters.list[full.parameter].name)
        KernelLevel.baselineTable.add_normal(nil, start, values.count, stream.c, 0, 0.02)
      }
    }
  }
}

extension Model {
  /// Copies the frozen values of a place in the backbone.
  /// - Returns: false for a place in a head
  func copy(_ place: FullParameter.Place, to out: UnsafeMutablePointer<Float>) -> Bool {
    func copy(_ view: FloatView?) {
      view?.withBuffer { out.update(from: $0.baseAddress ?? UnsafePointer(out), count: $0.count) }
    }
    switch place {
    case .weight(let index): matrices[index].weight.copy(to: out)
    case .bias(let index): copy(matrices[index].bias)
    case .gamma(let index): copy(norms[index].gamma)
    case .beta(let index): copy(norms[index].beta)
    case .patchBias:
      if case .pixels(let inputs) = backbone.inputs { copy(inputs.projection.bias) }
    case .head: return false
    }
    return true
  }
}

extension TaskHead {
  func view(of place: FullParameter.Place) -> FloatView? {
    if case .head(let tensor) = place { tensors[tensor] } else { nil }
  }
}
