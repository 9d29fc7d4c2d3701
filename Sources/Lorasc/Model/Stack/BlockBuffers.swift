/// What the backward makes again instead of keeping.
enum Recompute: String, Sendable {
  case none
  /// Activations and normalised values: elementwise work only.
  case selective
  /// Each block's whole forward, from its input.
  case layer
}

/// What one block keeps between forward and backward. Without training all blocks share one.
struct BlockBuffers {
  /// (tokens, projected): queries, keys and values; (heads, tokens); (tokens, attention width)
  let qkv: UnsafeMutablePointer<Float>
  let logSumExp: UnsafeMutablePointer<Float>
  let context: UnsafeMutablePointer<Float>
  /// What the norm of the attention adds up, and its (tokens, hidden) output.
  let attentionSaved: Norm.Saved
  let attentionNormed: UnsafeMutablePointer<Float>
  /// (tokens, intermediate): before the activation, of a gated one gate and up; after it.
  let gate: UnsafeMutablePointer<Float>?
  let up: UnsafeMutablePointer<Float>
  let activated: UnsafeMutablePointer<Float>
  let feedForwardSaved: Norm.Saved
  let feedForwardNormed: UnsafeMutablePointer<Float>

  /// - Parameters:
  ///   - shared: another block's, for what `recompute` makes again
  init(
    _ backbone: Backbone, tokens: Int, _ name: String, sharing shared: BlockBuffers? = nil,
    recompute: Recompute = .none, _ arena: Arena
  ) throws {
    let sizes = backbone.sizes
    let isPre = backbone.placement == .pre
    let isGated = backbone.blocks.contains { $0.gate != nil }
    // Of a whole block only its input stays: what its first norm adds up, or the output of the
    // last norm of the block before.
    let kept = recompute == .layer ? shared : nil
    let remade = recompute != .none ? shared : nil
    func matrix(_ columns: Int, _ what: String) throws -> UnsafeMutablePointer<Float> {
      try arena.matrix(tokens, columns, "\(name).\(what)")
    }
    func saved(_ what: String) throws -> Norm.Saved {
      try Norm.Saved(rows: tokens, columns: sizes.hidden, "\(name).\(what)", arena)
    }
    qkv = try kept?.qkv ?? matrix(sizes.projectedWidth, "qkv")
    logSumExp = try kept?.logSumExp ?? matrix(sizes.heads, "log_sum_exp")
    context = try kept?.context ?? matrix(sizes.attentionWidth, "context")
    attentionSaved = try (isPre ? nil : kept?.attentionSaved) ?? saved("attention_norm")
    attentionNormed = try remade?.attentionNormed ?? matrix(sizes.hidden, "attention_normed")
    gate = isGated ? try kept?.gate ?? matrix(sizes.intermediate, "gate") : nil
    up = try kept?.up ?? matrix(sizes.intermediate, "up")
    activated = try remade?.activated ?? matrix(sizes.intermediate, "activated")
    feedForwardSaved = try kept?.feedForwardSaved ?? saved("feed_forward_norm")
    feedForwardNormed =
      try (isPre ? remade?.feedForwardNormed : nil) ?? matrix(sizes.hidden, "feed_forward_normed")
  }
}

/// Gradients on their way down, shared by all blocks.
struct GradientBuffers {
  /// (tokens, hidden): by a block's output; by what a branch gave; by what went into it
  let stream: UnsafeMutablePointer<Float>
  let branch: UnsafeMutablePointer<Float>
  let input: UnsafeMutablePointer<Float>
  /// (tokens, attention width); (tokens, projected)
  let context: UnsafeMutablePointer<Float>
  let qkv: UnsafeMutablePointer<Float>
  /// (tokens, intermediate)
  let up: UnsafeMutablePointer<Float>
  let gate: UnsafeMutablePointer<Float>?

  init(_ backbone: Backbone, tokens: Int, _ arena: Arena) throws {
    let sizes = backbone.sizes
    func matrix(_ columns: Int, _ what: String) throws -> UnsafeMutablePointer<Float> {
      try arena.matrix(tokens, columns, "plan.gradient." + what)
    }
    stream = try matrix(sizes.hidden, "stream")
    branch = try matrix(sizes.hidden, "branch")
    input = try matrix(sizes.hidden, "input")
    context = try matrix(sizes.attentionWidth, "context")
    qkv = try matrix(sizes.projectedWidth, "qkv")
    up = try matrix(sizes.intermediate, "up")
    gate =
      backbone.blocks.contains { $0.gate != nil } ? try matrix(sizes.intermediate, "gate") : nil
  }
}
