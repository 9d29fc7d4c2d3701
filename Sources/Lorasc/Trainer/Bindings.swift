/// Points a plan's layers at the adapter's parameters and the trainer's gradients.
final class Bindings {
  private let adapter: Adapter
  private let plan: Plan
  private let gradient: FloatBuffer
  private let frozen: Set<Int>
  private let memory: ExpertMemory

  /// - Parameters:
  ///   - tokens: of the plan
  ///   - frozen: parameters without gradients
  init(_ adapter: Adapter, _ plan: Plan, gradient: FloatBuffer, tokens: Int, frozen: Set<Int>)
    throws
  {
    self.adapter = adapter
    self.plan = plan
    self.gradient = gradient
    self.frozen = frozen
    memory = try ExpertMemory(
      adapter.targets.map { adapter.model.matrices[$0.matrix] }, adapter.settings, tokens: tokens,
      lanes: plan.compute.threads, plan.type, plan.arena)
    bindExperts()
    for full in adapter.fullParameters { bind(full) }
  }

  private func gradient(of parameter: Int) -> UnsafeMutablePointer<Float>? {
    frozen.contains(parameter)
      ? nil : gradient.pointer + adapter.parameters.list[parameter].offset
  }

  /// Again after every change of ranks.
  func bindExperts() {
    let parameters = adapter.parameters
    for (target, buffers) in zip(adapter.targets, memory.targets) {
      var dora: DoRA?
      if let magnitude = target.magnitude, let own = buffers.dora {
        dora = DoRA(
          magnitude: parameters.pointer(magnitude),
          gradientMagnitude: gradient.pointer + parameters.list[magnitude].offset,
          isExact: adapter.settings.isNormExact, buffers: own)
      }
      plan.layers[target.matrix].expert = Expert(
        rank: target.rank, scale: target.scale, a: parameters.pointer(target.a),
        b: parameters.pointer(target.b), gradientA: gradient(of: target.a),
        gradientB: gradient(of: target.b), projected: buffers.projected, scratch: memory.scratch,
        dora: dora)
    }
  }

  private func bind(_ full: FullParameter) {
    let values = gradient(of: full.parameter)
    switch full.place {
    case .weight(let index): plan.layers[index].gradientWeight = values
    case .bias(let index): (plan.layers[index] as? LinearLayer)?.gradientBias = values
    case .gamma(let index): plan.norms[index].gradientGamma = values
    case .beta(let index): plan.norms[index].gradientBeta = values
    case .patchBias: plan.patchProjection?.gradientBias = values
    case .head(let tensor):
      let module = plan.head?.module(of: tensor)
      if tensor.isBias { module?.gradientBias = values } else { module?.gradientWeight = values }
    }
  }
}

/// What the experts' forward keeps for their backward, for the largest rank.
struct ExpertMemory {
  let scratch: Expert.Scratch
  let targets: [Target]

  struct Target {
    let projected: UnsafeMutablePointer<Float>
    let dora: DoRA.Buffers?
  }

  /// - Parameter modules: with an adapter
  /// - Parameter type: what activations are held in
  init(
    _ modules: [MatrixModule], _ settings: AdapterSettings, tokens: Int, lanes: Int,
    _ type: PackedProducts.ElementType, _ arena: Arena
  ) throws {
    let ranks = modules.map { settings.ranks.largestRank($0.name) }
    let largest = ranks.max() ?? 0
    let linear = modules.filter(\.isLinear)
    let widest = linear.map(\.inFeatures).max() ?? 0
    let tallest = linear.map(\.outFeatures).max() ?? 0
    scratch = Expert.Scratch(
      projected: try arena.matrix(tokens, largest, "plan.gradient.projected"),
      transposedB: try arena.matrix(largest, tallest, "plan.gradient.b"),
      parts: try arena.floats(
        SumSplit.elements(largest * max(widest, tallest), tokens), "plan.gradient.parts"),
      input: settings.dropout > 0 ? try arena.matrix(tokens, widest, "plan.dropped") : nil,
      weighed: settings.usesDoRA
        ? try WeighedInput.Memory(
          rows: tokens, inner: tallest, lanes: lanes, "plan.gradient.weighed", arena) : nil,
      skinny: try SkinnyFactor.Memory(
        inner: max(widest, tallest), rank: largest, type, "plan.skinny_factor", arena),
      wide: type == .bfloat16
        ? WideFactor.Memory(
          factor: try arena.halves(largest, max(widest, tallest), "plan.wide_factor"),
          projected: try arena.halves(tokens + 1, largest, "plan.rounded_projection")) : nil)
    targets = try zip(modules, ranks).map { module, rank in
      Target(
        projected: try arena.matrix(tokens, rank, "plan.projected"),
        dora: settings.usesDoRA
          ? try DoRA.Buffers(module, rank: rank, tokens: tokens, arena) : nil)
    }
  }
}
