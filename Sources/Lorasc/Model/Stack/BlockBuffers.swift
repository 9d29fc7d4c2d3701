/// What the backward makes again instead of keeping. Normalised values, a pass over memory, are
/// never kept.
enum Recompute: String, Sendable {
  case none
  /// What the feed-forward's activation gives.
  case selective
  /// Each block's whole forward, from its input.
  case layer
}

/// What one block keeps between forward and backward, and what all share: normalised values, and
/// what is made again. Without training all blocks share everything.
struct BlockBuffers {
  /// (tokens, projected): queries, keys and values; (heads, tokens); (tokens, attention width)
  let qkv: Values
  let logSumExp: UnsafeMutablePointer<Float>
  let context: Values
  /// What the norm of the attention adds up, and its (tokens, hidden) output.
  let attentionSaved: Norm.Saved
  let attentionNormed: Values
  /// (tokens, intermediate): before the activation, of a gated one gate and up; after it.
  let gate: Values?
  let up: Values
  let activated: Values
  /// `activated` stays until the backward.
  let keepsActivated: Bool
  let feedForwardSaved: Norm.Saved
  let feedForwardNormed: Values

  /// - Parameters:
  ///   - shared: another block's, for what isn't kept
  ///   - type: what products read and what is kept is held in; sums are float32
  ///   - trainsDown: the backward needs what goes into the feed-forward's last module
  init(
    _ backbone: Backbone, tokens: Int, _ name: String, _ type: PackedProducts.ElementType,
    sharing shared: BlockBuffers? = nil, recompute: Recompute = .none, trainsDown: Bool = false,
    _ arena: Arena
  ) throws {
    let sizes = backbone.sizes
    let isPre = backbone.placement == .pre
    let isGated = backbone.blocks.contains { $0.gate != nil }
    // Of a whole block only its input stays: what its first norm adds up, or the output of the
    // last norm of the block before.
    let kept = recompute == .layer ? shared : nil
    keepsActivated = trainsDown && recompute == .none
    func matrix(_ columns: Int, _ what: String) throws -> Values {
      try arena.values(tokens, columns, type, "\(name).\(what)")
    }
    // A residual or an expert's input, and what products read.
    func normed(_ what: String) throws -> Values {
      let halves = type == .bfloat16 ? try matrix(sizes.hidden, what + ".rounded").halves : nil
      return Values(try arena.matrix(tokens, sizes.hidden, "\(name).\(what)"), halves: halves)
    }
    func saved(_ what: String) throws -> Norm.Saved {
      try Norm.Saved(rows: tokens, columns: sizes.hidden, "\(name).\(what)", arena)
    }
    qkv = try kept?.qkv ?? matrix(sizes.projectedWidth, "qkv")
    logSumExp = try kept?.logSumExp ?? arena.matrix(tokens, sizes.heads, "\(name).log_sum_exp")
    context = try kept?.context ?? matrix(sizes.attentionWidth, "context")
    attentionSaved = try (isPre ? nil : kept?.attentionSaved) ?? saved("attention_norm")
    attentionNormed = try shared?.attentionNormed ?? normed("attention_normed")
    gate = isGated ? try kept?.gate ?? matrix(sizes.intermediate, "gate") : nil
    up = try kept?.up ?? matrix(sizes.intermediate, "up")
    activated =
      try (keepsActivated ? nil : shared?.activated) ?? matrix(sizes.intermediate, "activated")
    feedForwardSaved = try kept?.feedForwardSaved ?? saved("feed_forward_norm")
    feedForwardNormed =
      try (isPre || recompute != .layer ? shared?.feedForwardNormed : nil)
      ?? normed("feed_forward_normed")
  }
}

/// Gradients on their way down, shared by all blocks.
struct GradientBuffers {
  /// (tokens, hidden): by a block's output; by what a branch gave; by what went into it
  let stream: UnsafeMutablePointer<Float>
  let branch: UnsafeMutablePointer<Float>
  let input: UnsafeMutablePointer<Float>
  /// (tokens, attention width); (tokens, projected)
  let context: Values
  let qkv: Values
  /// (tokens, intermediate)
  let up: Values
  let gate: Values?

  init(_ backbone: Backbone, tokens: Int, _ type: PackedProducts.ElementType, _ arena: Arena)
    throws
  {
    let sizes = backbone.sizes
    func sum(_ what: String) throws -> UnsafeMutablePointer<Float> {
      try arena.matrix(tokens, sizes.hidden, "plan.gradient." + what)
    }
    func matrix(_ columns: Int, _ what: String) throws -> Values {
      try arena.values(tokens, columns, type, "plan.gradient." + what)
    }
    stream = try sum("stream")
    branch = try sum("branch")
    input = try sum("input")
    context = try matrix(sizes.attentionWidth, "context")
    qkv = try matrix(sizes.projectedWidth, "qkv")
    up = try matrix(sizes.intermediate, "up")
    gate =
      backbone.blocks.contains { $0.gate != nil } ? try matrix(sizes.intermediate, "gate") : nil
  }
}
