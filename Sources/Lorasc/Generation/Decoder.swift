/// A model that reads one row token by token: the keys and values of what it has read stay, so
/// that each next token costs one token's work.
final class Decoder {
  /// Kept: the plan points at its weights.
  private let model: Model
  private let plan: Plan
  private let head: any OutputLayer
  private let capacity: Int
  /// (2): the offsets of a batch of one row
  private let offsets: AlignedBuffer<Int64>
  /// (vocabulary)
  private let logits: UnsafeMutableBufferPointer<Float>

  var compute: Compute { plan.compute }

  /// Most tokens of one pass; more are read in parts.
  private static let partTokens = 512

  /// - Parameters:
  ///   - adapter: read now, not kept: the model's own weights where it is nil
  ///   - capacity: tokens that will be read in all
  /// - Throws: `.state` for a model or adapter without a language head, `.mismatch`,
  ///   `.outOfMemory`, `.busy`
  init(_ model: Model, _ adapter: Adapter?, capacity: Int) throws {
    let description = try Self.head(model, adapter)
    self.model = model
    plan = try Plan(
      model,
      Plan.Settings(
        head: description, tokenCapacity: min(capacity, Self.partTokens), context: capacity,
        logitRows: 1, threads: model.threads))
    guard let head = plan.head else {
      throw LorascError(.internal, "a language model without an output layer")
    }
    self.head = head
    self.capacity = capacity
    offsets = try AlignedBuffer(count: 2, what: "offsets")
    logits = UnsafeMutableBufferPointer(
      start: try plan.arena.floats(description.labels, "plan.logits"), count: description.labels)
    guard let adapter else { return }
    // From a trainer's callback too: its adapter stands between two steps then.
    try adapter.use(fromCallbackToo: true) { try WorkingWeights(adapter, plan).show(.merged) }
  }

  static func head(_ model: Model, _ adapter: Adapter?) throws -> HeadDescription {
    try adapter?.require(model)
    let head = adapter?.head ?? model.headDescription
    guard let head, head.kind == .language else {
      let owner = adapter == nil ? model.path : "the adapter"
      let has = head.map { "head \($0.kind.rawValue)" } ?? "no head"
      throw LorascError(
        .state, "only a decoder with head lm generates; \(owner) has \(has)", subject: "head")
    }
    return head
  }

  /// Reads the row's next tokens, at least one.
  /// - Parameter body: gets (vocabulary) logits for what follows the last of them; it may
  ///   overwrite them
  /// - Throws: `.token`, `.limit`, `.nonFinite`
  func read<Result>(
    _ tokens: UnsafeBufferPointer<Int32>,
    _ body: (UnsafeMutableBufferPointer<Float>) throws -> Result
  ) throws -> Result {
    guard tokens.count <= capacity - plan.stack.past else {
      throw LorascError(.limit, "\(tokens.count) tokens for a row of at most \(capacity)")
    }
    let out = logits.baseAddress
    var first = 0
    while first < tokens.count {
      let part = tokens[first..<min(tokens.count, first + plan.batch.tokenCapacity)]
      offsets[1] = Int64(part.count)
      plan.batch.clear()
      try withExtendedLifetime(offsets) {
        let batch = Batch(
          tokens: UnsafeBufferPointer(rebasing: part),
          offsets: UnsafeBufferPointer(offsets.buffer))
        try plan.batch.append(0, of: batch, withLoss: false, past: plan.stack.past)
      }
      let states = plan.stack.forward(plan.batch, dropout: .none)
      first = part.endIndex
      if first == tokens.count, let out {
        head.predict(states, plan.batch, items: [part.count - 1], into: out, plan.compute)
      }
    }
    guard let out, plan.compute.kernels.max_abs(out, logits.count).isFinite else {
      throw LorascError(.nonFinite, "the logits hold NaN or infinity", subject: "logits")
    }
    return try body(logits)
  }
}
