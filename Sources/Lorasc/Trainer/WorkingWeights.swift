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
  /// Of the matrices whose changed weights are held as float32.
  private let buffers: [Int: UnsafeMutablePointer<Float>]
  private let fullBuffers: [Int: UnsafeMutablePointer<Float>]
  private(set) var content = Content.nothing

  /// - Parameters:
  ///   - noisy: matrices that get noise
  ///   - isPersistent: it stays in them
  init(_ adapter: Adapter, _ plan: Plan, noisy: [Int] = [], isPersistent: Bool = false) throws {
    self.adapter = adapter
    self.plan = plan
    let changed = Set(adapter.targets.map(\.matrix)).union(noisy).filter {
      isPersistent || !adapter.settings.keepsFactors(adapter.model.matrices[$0])
    }
    (buffers, fullBuffers) = try Self.allocate(
      adapter.model, matrices: changed.union(adapter.masters.keys), adapter.fullParameters,
      adapter.parameters.list, plan.arena)
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
  func showTraining(_ noise: CascadeNoise) throws -> Bool {
    let wanted = Content.training(cascade: adapter.cascade.index, step: noise.step)
    if content == wanted { return false }
    for (matrix, layer) in plan.layers.enumerated() {
      layer.weight = adapter.clean(matrix)
      layer.expertActive = true
      let module = adapter.model.matrices[matrix]
      if let noise = noise.on(matrix, of: adapter.model, plan.compute.kernels) {
        if let buffer = buffers[matrix] {
          noise.add(to: layer.weight, module, into: buffer, plan.compute)
          layer.weight = .float32(buffer)
        } else {
          layer.weight = .composed(
            ComposedMatrix(
              module, adapter.mergedTerms(matrix), noise: noise, adapter.model.products))
        }
      }
      try measureRows(of: layer, module)
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
    try layer.weight.withFloats(module.count) { weight in
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
    for (position, target) in adapter.targets.enumerated() where buffers[target.matrix] == nil {
      plan.layers[target.matrix].weight = try adapter.composed(position, view)
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
