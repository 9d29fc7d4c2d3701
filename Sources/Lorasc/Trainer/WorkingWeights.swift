/// Which weights a plan's layers see: the backbone, plus an adapter in one of its views, or
/// the trainer's noisy backbone with the expert beside it.
///
/// Buffers for the matrices that a view changes come from the plan's arena, once.
final class WorkingWeights {
  enum Content: Equatable {
    case nothing
    /// Cascade t's weights: W_{t-1}, noisy or not, and the expert beside it; `step` where the
    /// noise is another one at each step.
    case training(cascade: Int, step: Int)
    case view
  }

  private let adapter: Adapter
  private let plan: Plan
  private let buffers: [Int: UnsafeMutablePointer<Float>]
  private let fullBuffers: [Int: UnsafeMutablePointer<Float>]
  private(set) var content = Content.nothing

  /// - Parameter noisy: matrices that get noise.
  init(_ adapter: Adapter, _ plan: Plan, noisy: [Int] = []) throws {
    self.adapter = adapter
    self.plan = plan
    let changed = Set(adapter.targets.map(\.matrix)).union(noisy).union(adapter.masters.keys)
    (buffers, fullBuffers) = try Self.allocate(
      adapter.model, matrices: changed, adapter.fullParameters, adapter.parameters.list, plan.arena)
  }

  /// Memory for the matrices that a view changes and what is trained in full.
  static func allocate(
    _ model: Model, matrices: Set<Int>, _ full: [FullParameter], _ parameters: [Parameter],
    _ arena: Arena
  ) throws -> (
    matrices: [Int: UnsafeMutablePointer<Float>], full: [Int: UnsafeMutablePointer<Float>]
  ) {
    var buffers: [Int: UnsafeMutablePointer<Float>] = [:]
    for matrix in matrices.sorted() {
      let module = model.matrices[matrix]
      buffers[matrix] = try arena.matrix(
        module.rows, module.columns, "plan.weight." + module.name)
    }
    var fullBuffers: [Int: UnsafeMutablePointer<Float>] = [:]
    for full in full {
      fullBuffers[full.parameter] = try arena.floats(
        parameters[full.parameter].count, "plan.weight.full")
    }
    return (buffers, fullBuffers)
  }

  /// W_{t-1} with noise where it is on, and live parameters.
  /// - Returns: false where they were shown already.
  @discardableResult
  func showTraining(_ noise: Noise, deviations: [Int: Double], step: Int) throws -> Bool {
    let isPerStep = noise.isOn && noise.lifetime == .perStep
    let wanted = Content.training(cascade: adapter.cascade.index, step: isPerStep ? step + 1 : 0)
    if content == wanted { return false }
    for (matrix, layer) in plan.layers.enumerated() {
      layer.weight = adapter.clean(matrix)
      layer.expertActive = true
      if noise.isOn, noise.lifetime != .persist, let deviation = deviations[matrix],
        let buffer = buffers[matrix]
      {
        noise.add(
          to: adapter.clean(matrix), deviation: deviation, adapter.model.matrices[matrix],
          cascade: adapter.cascade.index, step: isPerStep ? step + 1 : 0, into: buffer,
          plan.compute)
        layer.weight = .float32(buffer)
      }
      try measureRows(of: layer, adapter.model.matrices[matrix])
    }
    for full in adapter.fullParameters {
      point(full.place, to: adapter.parameters.pointer(full.parameter))
    }
    content = wanted
    return true
  }

  /// DoRA's ‖V‖² by rows.
  private func measureRows(of layer: any MatrixLayer, _ module: MatrixModule) throws {
    guard let squares = layer.expert?.dora?.buffers.squares.pointer else { return }
    let kernel = plan.compute.kernels.sum_squared_deviations
    let columns = module.columns
    try layer.weight.withFloats { weight in
      plan.compute.forRows(module.rows, cost: 2 * columns) { start, end in
        for row in start..<end { squares[row] = kernel(weight + row * columns, 0, columns) }
      }
    }
  }

  /// The merged or fast view, as a merge would write it.
  func show(_ view: View) throws {
    content = .nothing
    for (matrix, layer) in plan.layers.enumerated() {
      layer.weight = adapter.clean(matrix)
      layer.expertActive = false
    }
    for (matrix, buffer) in buffers {
      try adapter.weight(ofMatrix: matrix, view, into: buffer, plan.compute)
      plan.layers[matrix].weight = .float32(buffer)
    }
    for full in adapter.fullParameters {
      guard let buffer = fullBuffers[full.parameter] else { continue }
      adapter.fullValue(full.parameter, view, into: buffer)
      point(full.place, to: buffer)
    }
    content = .view
  }

  /// Makes a layer see these values.
  private func point(_ place: FullParameter.Place, to values: UnsafeMutablePointer<Float>) {
    let values = UnsafePointer(values)
    switch place {
    case .weight(let index): plan.layers[index].weight = .float32(values)
    case .bias(let index): (plan.layers[index] as? LinearLayer)?.bias = values
    case .gamma(let index): plan.norms[index].gamma = values
    case .beta(let index): plan.norms[index].beta = values
    case .patchBias: plan.patchProjection?.bias = values
    case .head(let tensor):
      let module = plan.head?.module(of: tensor)
      if tensor.isBias { module?.bias = values } else { module?.weight = .float32(values) }
    }
  }

  /// The clean weights changed: whatever is shown is stale.
  func invalidate() { content = .nothing }
}
