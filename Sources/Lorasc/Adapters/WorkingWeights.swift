/// Which weights a plan's layers see: the backbone, plus an adapter in one of its views, or
/// the trainer's noisy backbone with the expert beside it.
///
/// Buffers for the matrices that a view changes come from the plan's arena, once.
final class WorkingWeights {
  enum Content: Equatable {
    case nothing
    /// Cascade t's weights: W_{t-1}, noisy or not, and the expert beside it.
    case training(cascade: Int)
    case view
  }

  private let adapter: Adapter
  private let plan: Plan
  private var buffers: [Int: UnsafeMutablePointer<Float>] = [:]
  private var fullBuffers: [Int: UnsafeMutablePointer<Float>] = [:]
  private(set) var content = Content.nothing

  /// - Parameter noisy: linear modules that get noise.
  init(_ adapter: Adapter, _ plan: Plan, noisy: [Int] = []) throws {
    self.adapter = adapter
    self.plan = plan
    for linear in Set(adapter.targets.map(\.linear)).union(noisy).sorted() {
      let module = adapter.model.linears[linear]
      buffers[linear] = try plan.arena.matrix(
        module.outFeatures, module.inFeatures, "plan.weight." + module.name)
    }
    for module in adapter.fullModules {
      for parameter in [module.weight, module.bias].compactMap({ $0 }) {
        fullBuffers[parameter] = try plan.arena.floats(
          adapter.parameters.list[parameter].count, "plan.weight.full")
      }
    }
  }

  /// The layer of a module trained in full.
  func layer(of module: FullModule) -> LinearLayer? {
    module.linear.map { plan.linears[$0] } ?? plan.head?.output
  }

  /// W_{t-1} with noise where it is on, and live parameters.
  func showTraining(_ noise: Noise, noisy: [Int], deviations: [Int: Double]) {
    if content == .training(cascade: adapter.cascade.index) { return }
    for linear in adapter.model.linears.indices {
      plan.linears[linear].weight = adapter.clean(linear)
      plan.linears[linear].expertActive = true
    }
    if noise.isOn, noise.lifetime == .removed {
      for linear in noisy {
        guard let buffer = buffers[linear], let deviation = deviations[linear] else { continue }
        noise.add(
          to: adapter.clean(linear), deviation: deviation, adapter.model.linears[linear],
          cascade: adapter.cascade.index, into: buffer, plan.compute)
        plan.linears[linear].weight = UnsafePointer(buffer)
      }
    }
    for module in adapter.fullModules {
      layer(of: module)?.weight = UnsafePointer(adapter.parameters.pointer(module.weight))
      if let bias = module.bias {
        layer(of: module)?.bias = UnsafePointer(adapter.parameters.pointer(bias))
      }
    }
    content = .training(cascade: adapter.cascade.index)
  }

  /// The merged or fast view, as a merge would write it.
  func show(_ view: View) throws {
    content = .nothing
    for linear in adapter.model.linears.indices {
      plan.linears[linear].weight = adapter.clean(linear)
      plan.linears[linear].expertActive = false
    }
    for (position, target) in adapter.targets.enumerated() {
      guard let buffer = buffers[target.linear] else { continue }
      try adapter.weight(position, view, into: buffer, plan.compute)
      plan.linears[target.linear].weight = UnsafePointer(buffer)
    }
    for module in adapter.fullModules {
      guard let layer = layer(of: module) else { continue }
      if let buffer = fullBuffers[module.weight] {
        adapter.fullValue(module.weight, view, into: buffer)
        layer.weight = UnsafePointer(buffer)
      }
      if let bias = module.bias, let buffer = fullBuffers[bias] {
        adapter.fullValue(bias, view, into: buffer)
        layer.bias = UnsafePointer(buffer)
      }
    }
    content = .view
  }

  /// The clean weights changed: whatever is shown is stale.
  func invalidate() { content = .nothing }
}
