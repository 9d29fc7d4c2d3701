/// What the backward makes again instead of keeping. Normalised values in float32, a pass over
/// memory, are never kept.
enum Recompute: String, Sendable {
  case none
  /// What the feed-forward's activation gives.
  case selective
  /// Each block's whole forward, from its input.
  case layer
}

/// What one block keeps between forward and backward, beside what all blocks share.
struct BlockBuffers {
  /// (tokens, projected): queries, keys and values; (heads, tokens); (tokens, attention width)
  let qkv: Values
  let logSumExp: UnsafeMutablePointer<Float>
  let context: Values
  /// What the norm of the attention adds up, and its (tokens, hidden) output.
  let attentionSaved: Norm.Saved
  let attentionNormed: Normed
  /// (tokens, intermediate): before the activation, of a gated one gate and up; after it.
  let gate: Values?
  let up: Values
  let activated: Values
  /// `activated` stays until the backward.
  let keepsActivated: Bool
  let feedForwardSaved: Norm.Saved
  let feedForwardNormed: Normed

  /// What a norm gives.
  struct Normed {
    let values: Values
    /// What is rounded of it stays until the backward; else it is made again.
    let isKept: Bool

    /// What modules' backward reads: the same whether it was kept or made again.
    var backwardInput: Values { values.halves == nil ? values : Values(nil, halves: values.halves) }
  }

  /// What a block has for itself.
  struct Kept {
    /// What no pass over memory makes again.
    let all: Bool
    /// What goes into the attention's output module, and into the feed-forward's last one.
    let context: Bool
    let activated: Bool
    /// In bfloat16 what goes into the modules behind a norm.
    let attentionNormed: Bool
    let feedForwardNormed: Bool

    static let nothing = Kept(
      all: false, context: false, activated: false, attentionNormed: false,
      feedForwardNormed: false)
  }

  /// - Parameter isInputKept: the block's input stays: what its first norm adds up, or the output
  ///   of the last norm of the block before
  init(
    _ backbone: Backbone, _ shared: SharedBuffers, _ kept: Kept, isInputKept: Bool, _ name: String
  ) throws {
    let sizes = backbone.sizes
    let isPre = backbone.placement == .pre
    let isGated = backbone.blocks.contains { $0.gate != nil }
    func saved(_ isKept: Bool, _ what: String) throws -> Norm.Saved {
      try isKept ? shared.norm("\(name).\(what)") : shared.norm(sharedAs: what)
    }
    func values(_ isKept: Bool, _ columns: Int, _ what: String) throws -> Values {
      try isKept
        ? shared.values(columns, "\(name).\(what)") : shared.values(columns, sharedAs: what)
    }
    qkv = try values(kept.all, sizes.projectedWidth, "qkv")
    logSumExp =
      try kept.all
      ? shared.floats(sizes.heads, "\(name).logs") : shared.floats(sizes.heads, sharedAs: "logs")
    context = try values(kept.context, sizes.attentionWidth, "context")
    attentionSaved = try saved(kept.all || isPre && isInputKept, "attention_norm")
    attentionNormed = try shared.normed(
      kept.attentionNormed, name, as: "attention_normed")
    gate = isGated ? try values(kept.all, sizes.intermediate, "gate") : nil
    up = try values(kept.all, sizes.intermediate, "up")
    keepsActivated = kept.activated
    activated = try values(kept.activated, sizes.intermediate, "activated")
    feedForwardSaved = try saved(kept.all, "feed_forward_norm")
    // post: where no block's sums stay, their normalised values do.
    feedForwardNormed =
      try !isPre && isInputKept && !kept.all
      ? .init(values: shared.normed("\(name).feed_forward_normed"), isKept: false)
      : shared.normed(kept.feedForwardNormed, name, as: "feed_forward_normed")
  }
}

extension BlockBuffers.Kept {
  /// Inputs stay where their modules' backward reads them.
  /// - Parameter index: of a block
  init(
    _ backbone: Backbone, _ index: Int, _ training: Plan.Training,
    _ type: PackedProducts.ElementType
  ) {
    let (block, isPre) = (backbone.blocks[index], backbone.placement == .pre)
    let all = training.recompute != .layer
    let isEverything = training.recompute == .none
    func isTrained(_ modules: [Int]) -> Bool { modules.contains(where: training.matrices.contains) }
    let next = backbone.blocks.dropFirst(index + 1).first
    let isAttentionInput = isTrained(isPre ? block.projections : next?.projections ?? [])
    let isFeedForwardInput = isTrained([block.up] + (block.gate.map { [$0] } ?? []))
    let keepsNormed = isEverything && type == .bfloat16
    self.init(
      all: all, context: all && isTrained([block.attentionOutput]),
      activated: isEverything && isTrained([block.down]),
      attentionNormed: keepsNormed && (isPre ? isAttentionInput : isFeedForwardInput),
      feedForwardNormed: keepsNormed && (isPre ? isFeedForwardInput : isAttentionInput))
  }
}

/// Makes blocks' buffers, and those that they share, each at its first use.
final class SharedBuffers {
  private let tokens: Int
  private let hidden: Int
  private let isPre: Bool
  private let type: PackedProducts.ElementType
  private let arena: Arena
  private var values: [String: Values] = [:]
  private var floats: [String: UnsafeMutablePointer<Float>] = [:]
  private var norms: [String: Norm.Saved] = [:]

  /// - Parameter type: what products read and what is kept is held in; sums are float32
  init(_ backbone: Backbone, tokens: Int, _ type: PackedProducts.ElementType, _ arena: Arena) {
    self.tokens = tokens
    hidden = backbone.sizes.hidden
    isPre = backbone.placement == .pre
    self.type = type
    self.arena = arena
  }

  /// From now on these values are what blocks share under this name.
  func share(_ values: Values, as name: String) { self.values[name] = values }

  func values(_ columns: Int, _ what: String) throws -> Values {
    try arena.values(tokens, columns, type, "plan." + what)
  }

  func values(_ columns: Int, sharedAs name: String) throws -> Values {
    try shared(&values, name) { try values(columns, "block." + name) }
  }

  func floats(_ columns: Int, _ what: String) throws -> UnsafeMutablePointer<Float> {
    try arena.matrix(tokens, columns, "plan." + what)
  }

  func floats(_ columns: Int, sharedAs name: String) throws -> UnsafeMutablePointer<Float> {
    try shared(&floats, name) { try floats(columns, "block." + name) }
  }

  /// (tokens, hidden): what products read; post: a residual, too.
  func normed(_ what: String) throws -> Values {
    try isPre ? values(hidden, what) : arena.sums(tokens, hidden, type, "plan." + what)
  }

  /// Shared, but for what is rounded and kept.
  func normed(_ isKept: Bool, _ block: String, as name: String) throws -> BlockBuffers.Normed {
    guard isKept else {
      let values = try shared(&values, name) { try normed("block." + name) }
      return .init(values: values, isKept: false)
    }
    let sums = isPre ? nil : try floats(hidden, sharedAs: name + ".sums")
    let halves = try arena.halves(tokens, hidden, "plan.\(block).\(name)")
    return .init(values: Values(sums, halves: halves), isKept: true)
  }

  func norm(_ what: String) throws -> Norm.Saved {
    try Norm.Saved(rows: tokens, columns: hidden, "plan." + what, arena)
  }

  func norm(sharedAs name: String) throws -> Norm.Saved {
    try shared(&norms, name) { try norm("block." + name) }
  }

  private func shared<Made>(
    _ all: inout [String: Made], _ name: String, _ make: () throws -> Made
  ) rethrows -> Made {
    if let made = all[name] { return made }
    let made = try make()
    all[name] = made
    return made
  }
}

/// Gradients on their way down, shared by all blocks.
struct GradientBuffers {
  /// (tokens, hidden): by a block's output; by what a branch gave; by what went into it. The
  /// stream is rounded where a norm's backward gives it, for the products that follow.
  let stream: Values
  let branch: UnsafeMutablePointer<Float>
  let input: UnsafeMutablePointer<Float>
  /// (tokens, attention width); (tokens, projected)
  let context: Values
  let qkv: Values
  /// (tokens, intermediate), in the same memory: they are used up when those are written.
  let up: Values
  let gate: Values?

  init(_ backbone: Backbone, tokens: Int, _ type: PackedProducts.ElementType, _ arena: Arena)
    throws
  {
    let sizes = backbone.sizes
    func sum(_ what: String) throws -> UnsafeMutablePointer<Float> {
      try arena.matrix(tokens, sizes.hidden, "plan.gradient." + what)
    }
    stream = try arena.sums(tokens, sizes.hidden, type, "plan.gradient.stream")
    branch = try sum("branch")
    input = try sum("input")
    let isGated = backbone.blocks.contains { $0.gate != nil }
    let feedForward = (isGated ? 2 : 1) * sizes.intermediate
    let attention = sizes.projectedWidth + sizes.attentionWidth
    // Each part starts at a cache line.
    let all = try arena.values(
      tokens + 1, max(feedForward, attention) + 32, type, "plan.gradient.block")
    func part(after columns: Int) -> Values { all + (tokens * columns + 31) / 32 * 32 }
    up = all
    gate = isGated ? part(after: sizes.intermediate) : nil
    qkv = all
    context = part(after: sizes.projectedWidth)
  }
}
