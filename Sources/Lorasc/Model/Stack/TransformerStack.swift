/// A plan's layers, in the order of the backbone's matrices and norms.
struct StackModules {
  let linears: [LinearLayer]
  let embeddings: [EmbeddingLayer]
  let norms: [Norm]
  /// Of images.
  let patchProjection: LinearLayer?
  /// Where weights that aren't held as float32 become it; nil: there are none.
  let expansion: Expansion?

  /// - Parameter composes: whether any matrix may be composed where it is used
  init(_ backbone: Backbone, head: HeadKind?, composes: Bool, _ arena: Arena) throws {
    let tied = head == .language && backbone.output?.isTied == true ? backbone.output?.matrix : nil
    let expanded = backbone.matrices.enumerated().filter { index, module in
      (module.isLinear || index == tied) && (composes || module.weight.float32 == nil)
    }
    expansion = expanded.isEmpty ? nil : try Expansion(expanded.map(\.element), arena)
    linears = backbone.matrices.filter(\.isLinear).map { LinearLayer($0) }
    for linear in linears { linear.expansion = expansion }
    embeddings = backbone.matrices.filter { !$0.isLinear }.map { EmbeddingLayer($0) }
    norms = backbone.norms.map { Norm($0) }
    patchProjection =
      if case .pixels(let inputs) = backbone.inputs {
        LinearLayer(inputs.projection)
      } else {
        nil
      }
  }

  /// In the order of the backbone's matrices.
  var matrices: [any MatrixLayer] { linears + embeddings }

  func embedding(_ matrix: Int) -> EmbeddingLayer { embeddings[matrix - linears.count] }
}

/// The plan's side of a backbone: buffers, and the passes over its blocks.
///
/// post: h ← Norm(h + branch(h)) for attention and feed-forward in turn;
/// pre: h ← h + branch(Norm(h)), and a last norm.
final class TransformerStack {
  private let backbone: Backbone
  private let modules: StackModules
  private let input: any InputLayer
  private let attention: Attention
  private let rotary: Rotary?
  /// nil: rows are whole.
  private let cache: KeyValueCache?
  private let compute: Compute
  private let recompute: Recompute
  private let buffers: [BlockBuffers]
  /// Of pre-norm models: the last norm's.
  private let finalSaved: Norm.Saved?
  private let finalNormed: UnsafeMutablePointer<Float>?
  /// (tokens, hidden): a branch's output on its way to the norm.
  private let branch: UnsafeMutablePointer<Float>
  private let gradients: GradientBuffers?
  /// nil: all tokens' last hidden states are asked for.
  private let selected: SelectedTokens?
  /// Names of a block's dropouts, made once.
  private let sites: [(attention: String, afterAttention: String, output: String)]
  private var embedded: UnsafeMutablePointer<Float>?
  /// The block whose forward the shared buffers hold.
  private var heldBlock = -1

  private var sizes: Backbone.Sizes { backbone.sizes }
  private var hidden: Int { backbone.sizes.hidden }
  private var isPre: Bool { backbone.placement == .pre }

  /// - Parameter context: tokens of one row that goes on from forward to forward, in a cache of
  ///   keys and values; nil: every batch is of whole rows.
  /// - Parameter outputs: the tokens whose last hidden state is asked for; nil: all
  /// - Parameter training: nil: forward only
  /// - Parameter type: what products read is held in
  init(
    _ backbone: Backbone, _ modules: StackModules, tokens: Int, context: Int? = nil,
    outputs: SelectedTokens.Place?, training: Plan.Training?, _ type: PackedProducts.ElementType,
    _ compute: Compute, _ arena: Arena
  ) throws {
    self.backbone = backbone
    self.modules = modules
    self.compute = compute
    recompute = training?.recompute ?? .none
    let hidden = backbone.sizes.hidden
    let longest = context ?? min(tokens, backbone.sizes.positions)
    cache = try context.map { try KeyValueCache(backbone, capacity: $0, arena) }
    attention = try Attention(
      backbone.sizes, backbone.attention, longest: longest, tokens: tokens, lanes: compute.threads,
      training: training != nil, type: type, arena)
    rotary = try backbone.attention.rotary.map {
      try Rotary($0, positions: longest, arena)
    }
    let shared = SharedBuffers(backbone, tokens: tokens, type, arena)
    sites = backbone.blocks.indices.map {
      ("layer.\($0)", "layer.\($0).attention", "layer.\($0).output")
    }
    selected = try outputs.map {
      try SelectedTokens(
        $0, hidden: hidden, tokens: tokens, isPre: backbone.placement == .pre, type, arena)
    }
    if let training {
      let gradients = try GradientBuffers(backbone, tokens: tokens, type, arena)
      self.gradients = gradients
      // The forward's branch is over when the backward's begins, and so is what goes into modules,
      // unless they are trained.
      branch = gradients.branch
      func isFrozen(_ module: (Backbone.Block) -> Int) -> Bool {
        !backbone.blocks.contains { training.matrices.contains(module($0)) }
      }
      if isFrozen(\.down) { shared.share(gradients.up, as: "activated") }
      if isFrozen(\.attentionOutput) { shared.share(gradients.context, as: "context") }
      buffers = try backbone.blocks.indices.map { index in
        try BlockBuffers(
          backbone, shared, .init(backbone, index, training, type), isInputKept: true,
          "block.\(index)")
      }
    } else {
      gradients = nil
      branch = try arena.matrix(tokens, hidden, "plan.branch")
      buffers = [try BlockBuffers(backbone, shared, .nothing, isInputKept: false, "block")]
    }
    // pre: the first norm copies what goes into it.
    let given = backbone.placement == .pre ? branch : nil
    input =
      switch backbone.inputs {
      case .tokens(let inputs):
        try TokenInputLayer(inputs, modules, hidden: hidden, tokens: tokens, into: given, arena)
      case .pixels(let inputs):
        try PatchInputLayer(
          inputs, modules.patchProjection, hidden: hidden, tokens: tokens, into: given, arena)
      }
    let hasFinal = backbone.finalNorm != nil
    finalSaved =
      hasFinal ? try Norm.Saved(rows: tokens, columns: hidden, "plan.final_norm", arena) : nil
    finalNormed = hasFinal ? try arena.matrix(tokens, hidden, "plan.final") : nil
  }

  private func buffers(of block: Int) -> BlockBuffers { buffers[min(block, buffers.count - 1)] }

  /// Of the last block.
  private func selected(in block: Int) -> SelectedTokens? {
    block == backbone.blocks.count - 1 ? selected : nil
  }

  // MARK: Forward

  /// Tokens that came before the next batch's, of a row that goes on.
  var past: Int { cache?.count ?? 0 }

  /// - Parameter batch: with a cache the next tokens of its row, which have positions from `past`
  ///   on and fit into it
  /// - Returns: the last hidden states, (tokens, hidden), or of selected tokens (rows, hidden);
  ///   valid until the next forward.
  func forward(_ batch: StagedBatch, dropout: DropoutPlan) -> UnsafePointer<Float> {
    defer { cache?.advance(batch.tokenCount) }
    let first = input.forward(batch, dropout: dropout, compute)
    embedded = first
    // pre: what the norm adds to the branch; post: what the block gave.
    var stream: UnsafePointer<Float>?
    for block in backbone.blocks.indices {
      if isPre {
        normalizeInput(block, block == 0 ? first : branch, residual: stream, batch)
        forward(block, buffers(of: block).attentionNormed.values, batch, dropout)
        stream = UnsafePointer(buffers(of: block).feedForwardSaved.sum)
      } else {
        forward(block, inputOf(block), batch, dropout)
        stream = buffers(of: block).feedForwardNormed.values.floats.map { UnsafePointer($0) }
      }
      heldBlock = block
    }
    var last = UnsafePointer(first)
    if let selected, backbone.blocks.isEmpty {
      selected.pack(first, columns: hidden, ld: hidden, into: selected.residual, batch)
      last = UnsafePointer(selected.residual)
    }
    guard let final = backbone.finalNorm, let finalSaved, let finalNormed else {
      return backbone.blocks.isEmpty ? last : stream ?? last
    }
    modules.norms[final].forward(
      backbone.blocks.isEmpty ? last : UnsafePointer(branch), residual: stream,
      Values(finalNormed), finalSaved, rows: outputRows(batch), compute)
    return UnsafePointer(finalNormed)
  }

  /// Tokens whose last hidden state is computed.
  private func outputRows(_ batch: StagedBatch) -> Int {
    selected == nil ? batch.tokenCount : batch.rows
  }

  /// pre: the stream x + residual, and what goes into the attention.
  private func normalizeInput(
    _ block: Int, _ x: UnsafePointer<Float>, residual: UnsafePointer<Float>?, _ batch: StagedBatch
  ) {
    let saved = buffers(of: block)
    modules.norms[backbone.blocks[block].attentionNorm].forward(
      x, residual: residual, saved.attentionNormed.values, saved.attentionSaved,
      rows: batch.tokenCount, compute)
  }

  /// - Parameter input: (tokens, hidden), what goes into the attention
  private func forward(
    _ index: Int, _ input: Values, _ batch: StagedBatch, _ dropout: DropoutPlan
  ) {
    let block = backbone.blocks[index]
    let saved = buffers(of: index)
    let selected = selected(in: index)
    // Behind the projections.
    let tokens = selected == nil ? batch.tokenCount : batch.rows
    guard let sum = isPre ? saved.attentionSaved.sum : input.floats else { return }
    var residual = UnsafePointer(sum)
    if let selected {
      selected.pack(residual, columns: hidden, ld: hidden, into: selected.residual, batch)
      if isPre {
        selected.pack(input, columns: hidden, ld: hidden, into: selected.input, batch)
      }
      residual = UnsafePointer(selected.residual)
    }
    project(block, input, saved, batch, dropout, selected)
    rotate(saved.qkv, batch, .forward)
    let context = cache.flatMap { cache in
      saved.qkv.floats.map { qkv in
        let own = attention.ownContext(qkv)
        return cache.append(index, keys: own.keys, values: own.values, ld: own.ld, tokens: tokens)
      }
    }
    attention.forward(
      qkv: saved.qkv, context: context, output: saved.context, logSumExp: saved.logSumExp,
      window: block.window, selected: selected?.place, batch,
      dropout: dropout.attention(sites[index].attention), compute)
    project(
      block.attentionOutput, saved.context, ldx: sizes.attentionWidth,
      attentionDropout(index, dropout), norm: block.betweenNorm(backbone.placement),
      residual: residual, saved.betweenNormed(backbone.placement).values,
      saved.betweenSaved(backbone.placement), tokens, dropout)
    activateUp(block, saved.betweenNormed(backbone.placement).values, saved, tokens, dropout)
    let site = dropout.hidden(sites[index].output)
    if isPre {
      // The next norm belongs to the block above.
      modules.linears[block.down].forward(
        saved.activated, ldx: sizes.intermediate, Values(branch), ldy: hidden, rows: tokens,
        dropout: dropout, compute)
      site?.apply(branch, branch, rows: tokens, columns: hidden, compute)
    } else if let residual = saved.attentionNormed.values.floats {
      project(
        block.down, saved.activated, ldx: sizes.intermediate, site, norm: block.feedForwardNorm,
        residual: residual, saved.feedForwardNormed.values, saved.feedForwardSaved, tokens, dropout)
    }
  }

  /// A module back to the hidden size, its dropout, and the norm of its sum with a residual.
  private func project(
    _ module: Int, _ x: Values, ldx: Int, _ site: Dropout?, norm: Int,
    residual: UnsafePointer<Float>, _ y: Values, _ normSaved: Norm.Saved, _ tokens: Int,
    _ dropout: DropoutPlan
  ) {
    let (linear, norm) = (modules.linears[module], modules.norms[norm])
    guard let site else {
      return linear.forward(
        x, ldx: ldx, Values(branch), ldy: hidden, rows: tokens, dropout: dropout, compute
      ) { rows, _ in
        norm.forward(branch, residual: residual, y, normSaved, rows: rows, compute)
      }
    }
    linear.forward(
      x, ldx: ldx, Values(branch), ldy: hidden, rows: tokens, dropout: dropout, compute)
    site.apply(branch, branch, rows: tokens, columns: hidden, compute)
    norm.forward(branch, residual: residual, y, normSaved, rows: tokens, compute)
  }

  /// Queries, keys and values of a block; of selected tokens the queries alone, where they are a
  /// module of their own.
  private func project(
    _ block: Backbone.Block, _ input: Values, _ saved: BlockBuffers, _ batch: StagedBatch,
    _ dropout: DropoutPlan, _ selected: SelectedTokens?
  ) {
    let width = sizes.projectedWidth
    var column = 0
    for (place, projection) in block.projections.enumerated() {
      let linear = modules.linears[projection]
      if let selected, block.hasOwnQueries, place == 0 {
        linear.forward(
          selected.input, ldx: hidden, saved.context, ldy: linear.outFeatures,
          rows: batch.rows, dropout: dropout, compute)
        selected.unpack(
          saved.context, columns: linear.outFeatures, ld: width, into: saved.qkv, batch)
      } else {
        linear.forward(
          input, ldx: hidden, saved.qkv + column, ldy: width, rows: batch.tokenCount,
          dropout: dropout, compute)
      }
      column += linear.outFeatures
    }
  }

  /// The feed-forward up to its activation.
  private func activateUp(
    _ block: Backbone.Block, _ input: Values, _ saved: BlockBuffers, _ tokens: Int,
    _ dropout: DropoutPlan
  ) {
    let inner = sizes.intermediate
    if let gate = block.gate, let values = saved.gate {
      modules.linears[gate].forward(
        input, ldx: hidden, values, ldy: inner, rows: tokens, dropout: dropout, compute)
    }
    modules.linears[block.up].forward(
      input, ldx: hidden, saved.up, ldy: inner, rows: tokens, dropout: dropout, compute
    ) { rows, _ in
      activate(saved, rows)
    }
  }

  private func activate(_ saved: BlockBuffers, _ rows: Range<Int>) {
    let (activation, elements) = (backbone.activation, innerElements(of: rows))
    if let gate = saved.gate {
      activation.forward(gate: gate, up: saved.up, saved.activated, elements, compute)
    } else {
      activation.forward(saved.up, saved.activated, elements, compute)
    }
  }

  /// Of (tokens, intermediate).
  private func innerElements(of rows: Range<Int>) -> Range<Int> {
    rows.lowerBound * sizes.intermediate..<rows.upperBound * sizes.intermediate
  }

  private func rotate(
    _ qkv: Values, _ batch: StagedBatch, _ direction: Rotary.Direction
  ) {
    rotary?.rotate(
      qkv, heads: sizes.heads + sizes.keyValueHeads, ld: sizes.projectedWidth,
      positions: batch.positions, tokens: batch.tokenCount, direction, compute)
  }

  private func attentionDropout(_ index: Int, _ dropout: DropoutPlan) -> Dropout? {
    backbone.dropout.afterAttention ? dropout.hidden(sites[index].afterAttention) : nil
  }

  // MARK: What is trained

  /// Where the loss's gradient by the last hidden states goes before `backward`.
  var outputGradient: UnsafeMutablePointer<Float>? { gradients?.stream.floats }

  /// True where anything of the backbone's stack is trained.
  var isTrained: Bool {
    input.isTrained || isFinalNormTrained
      || backbone.blocks.indices.contains { lowestTrainedSite(of: $0) != nil }
  }

  private var isFinalNormTrained: Bool {
    backbone.finalNorm.map { modules.norms[$0].isTrained } ?? false
  }

  /// Sites of a block; the backward stops at the lowest trained one.
  private enum Site {
    case attentionNorm, projections, attentionOutput, feedForwardNorm, up, down

    static func upwards(_ placement: Backbone.NormPlacement) -> [Site] {
      switch placement {
      case .post: [.projections, .attentionOutput, .attentionNorm, .up, .down, .feedForwardNorm]
      case .pre: [.attentionNorm, .projections, .attentionOutput, .feedForwardNorm, .up, .down]
      }
    }
  }

  private func lowestTrainedSite(of index: Int) -> Site? {
    let block = backbone.blocks[index]
    func isTrained(_ linear: Int) -> Bool { modules.linears[linear].isTrained }
    return Site.upwards(backbone.placement).first { site in
      switch site {
      case .attentionNorm: modules.norms[block.attentionNorm].isTrained
      case .projections: block.projections.contains(where: isTrained)
      case .attentionOutput: isTrained(block.attentionOutput)
      case .feedForwardNorm: modules.norms[block.feedForwardNorm].isTrained
      case .up: isTrained(block.up) || block.gate.map(isTrained) == true
      case .down: isTrained(block.down)
      }
    }
  }

  // MARK: Backward

  /// Adds the gradients of all that is trained, from `outputGradient`, which is used up.
  func backward(_ batch: StagedBatch, dropout: DropoutPlan) {
    guard let gradients, let stream = gradients.stream.floats else { return }
    let lowest = backbone.blocks.indices.first { lowestTrainedSite(of: $0) != nil }
    let isWhole = input.isTrained
    let end = isWhole ? 0 : lowest ?? backbone.blocks.count
    if let final = backbone.finalNorm, let finalSaved {
      modules.norms[final].backward(
        stream, finalSaved, gradients.stream, rows: outputRows(batch), compute)
    }
    if let selected, backbone.blocks.isEmpty, isWhole {
      selected.expand(stream, through: gradients.branch, batch, compute)
    }
    for block in (end..<backbone.blocks.count).reversed() {
      remake(block, batch, dropout)
      let stop = !isWhole && block == end ? lowestTrainedSite(of: block) : nil
      backward(block, batch, dropout, stopAt: stop)
    }
    if isWhole { input.backward(stream, batch, dropout: dropout, compute) }
  }

  /// Brings back what a block's backward reads and its forward didn't keep.
  private func remake(_ index: Int, _ batch: StagedBatch, _ dropout: DropoutPlan) {
    guard heldBlock != index else { return }
    heldBlock = index
    let saved = buffers(of: index)
    let block = backbone.blocks[index]
    func usesInput(_ linear: Int) -> Bool { modules.linears[linear].usesInput }
    let input = saved.attentionNormed
    if isPre, recompute == .layer || !input.isKept && block.projections.contains(where: usesInput) {
      normalizeInput(index, saved.attentionSaved.sum, residual: nil, batch)
    }
    if recompute == .layer {
      forward(index, inputOf(index), batch, dropout)
      return
    }
    let between = saved.betweenNormed(backbone.placement)
    if !between.isKept, usesInput(block.up) || block.gate.map(usesInput) == true {
      modules.norms[block.betweenNorm(backbone.placement)].again(
        saved.betweenSaved(backbone.placement), between.values, rows: batch.tokenCount, compute)
    }
    if !saved.keepsActivated, usesInput(block.down) {
      compute.forRows(batch.tokenCount, cost: 9 * sizes.intermediate) {
        activate(saved, $0..<$1)
      }
    }
  }

  /// What goes into a block's attention.
  private func inputOf(_ index: Int) -> Values {
    normedInput(of: index)?.values ?? Values(embedded)
  }

  /// nil: a post-norm model's first block has what the input layer gave.
  private func normedInput(of index: Int) -> BlockBuffers.Normed? {
    if isPre { return buffers(of: index).attentionNormed }
    return index > 0 ? buffers(of: index - 1).feedForwardNormed : nil
  }

  /// The same for the backward of a block whose values are there: post, what the block before
  /// gave is normalised again, over what this one gave.
  private func inputAgain(_ index: Int, _ batch: StagedBatch) -> Values {
    guard let input = normedInput(of: index) else { return Values(embedded) }
    if !isPre, !input.isKept, recompute != .layer,
      backbone.blocks[index].projections.contains(where: { modules.linears[$0].usesInput })
    {
      let below = buffers(of: index - 1)
      modules.norms[backbone.blocks[index - 1].feedForwardNorm].again(
        below.feedForwardSaved, input.values, rows: batch.tokenCount, compute)
    }
    return input.backwardInput
  }

  private func backward(
    _ index: Int, _ batch: StagedBatch, _ dropout: DropoutPlan, stopAt: Site?
  ) {
    guard let gradients, let stream = gradients.stream.floats else { return }
    let block = backbone.blocks[index]
    let saved = buffers(of: index)
    let selected = selected(in: index)
    // Above the projections.
    let tokens = selected == nil ? batch.tokenCount : batch.rows
    // post: a branch's input is the residual, so its gradient adds to the stream.
    let below = isPre ? gradients.input : stream
    if !isPre {
      modules.norms[block.feedForwardNorm].backward(
        stream, saved.feedForwardSaved, gradients.stream, rows: tokens, compute)
      if stopAt == .feedForwardNorm { return }
    }
    backwardFeedForward(
      block, dropped(gradients.stream, dropout.hidden(sites[index].output), tokens), saved, below,
      tokens, dropout, stopAt)
    if stopAt == .down || stopAt == .up { return }
    modules.norms[block.betweenNorm(backbone.placement)].backward(
      below, saved.betweenSaved(backbone.placement), add: isPre ? UnsafePointer(stream) : nil,
      gradients.stream, rows: tokens, compute)
    if stopAt == (isPre ? .feedForwardNorm : .attentionNorm) { return }
    modules.linears[block.attentionOutput].backward(
      dropped(gradients.stream, attentionDropout(index, dropout), tokens), lddy: hidden,
      x: saved.context, ldx: sizes.attentionWidth,
      dx: stopAt == .attentionOutput ? nil : gradients.context, lddx: sizes.attentionWidth,
      rows: tokens, dropout: dropout, compute)
    if stopAt == .attentionOutput { return }
    attention.backward(
      dOutput: gradients.context, qkv: saved.qkv, logSumExp: saved.logSumExp, dqkv: gradients.qkv,
      window: block.window,
      selected: selected?.place, batch, dropout: dropout.attention(sites[index].attention), compute)
    rotate(gradients.qkv, batch, .backward)
    let isLast = stopAt == .projections
    if let selected, !isLast { selected.expand(stream, through: gradients.branch, batch, compute) }
    backwardProjections(
      block, inputAgain(index, batch), gradients, below: isLast ? nil : below, batch, dropout,
      selected)
    guard isPre, !isLast else { return }
    modules.norms[block.attentionNorm].backward(
      below, saved.attentionSaved, add: stream, gradients.stream, rows: batch.tokenCount, compute)
  }

  /// - Parameter below: takes the gradient of the input: pre, it is set; post, it is added
  private func backwardProjections(
    _ block: Backbone.Block, _ input: Values, _ gradients: GradientBuffers,
    below: UnsafeMutablePointer<Float>?, _ batch: StagedBatch, _ dropout: DropoutPlan,
    _ selected: SelectedTokens?
  ) {
    let width = sizes.projectedWidth
    // The queries of selected tokens come last, packed.
    let packed = block.hasOwnQueries ? selected : nil
    var column = 0
    var isSet = !isPre
    for (place, projection) in block.projections.enumerated() {
      let linear = modules.linears[projection]
      if packed == nil || place > 0 {
        linear.backward(
          gradients.qkv + column, lddy: width, x: input, ldx: hidden, dx: below.map { Values($0) },
          lddx: hidden, accumulate: isSet, rows: batch.tokenCount, dropout: dropout, compute)
        isSet = true
      }
      column += linear.outFeatures
    }
    guard let packed, let first = block.projections.first else { return }
    let queries = modules.linears[first]
    packed.pack(
      gradients.qkv, columns: queries.outFeatures, ld: width, into: gradients.context, batch)
    queries.backward(
      gradients.context, lddy: queries.outFeatures, x: packed.input, ldx: hidden,
      dx: below == nil ? nil : Values(gradients.branch), lddx: hidden, rows: batch.rows,
      dropout: dropout, compute)
    if let below { packed.add(gradients.branch, to: below, batch) }
  }

  /// The gradient behind a dropout; the gradient itself where there is none.
  private func dropped(_ gradient: Values, _ site: Dropout?, _ tokens: Int) -> Values {
    guard let site, let floats = gradient.floats, let branch = gradients?.branch else {
      return gradient
    }
    site.apply(floats, branch, rows: tokens, columns: hidden, compute)
    return Values(branch)
  }

  /// - Parameter below: takes the gradient of the input: pre, it is set; post, it is added
  private func backwardFeedForward(
    _ block: Backbone.Block, _ dy: Values, _ saved: BlockBuffers,
    _ below: UnsafeMutablePointer<Float>, _ tokens: Int, _ dropout: DropoutPlan, _ stopAt: Site?
  ) {
    guard let gradients else { return }
    let inner = sizes.intermediate
    let input = saved.betweenNormed(backbone.placement).backwardInput
    let activation = backbone.activation
    modules.linears[block.down].backward(
      dy, lddy: hidden, x: saved.activated, ldx: inner, dx: stopAt == .down ? nil : gradients.up,
      lddx: inner, rows: tokens, dropout: dropout, compute
    ) { rows, _ in
      let elements = innerElements(of: rows)
      if let gate = saved.gate, let dGate = gradients.gate {
        activation.backward(
          gate: gate, up: saved.up, gradients.up, dGate: dGate, dUp: gradients.up, elements,
          compute)
      } else {
        activation.backward(saved.up, gradients.up, gradients.up, elements, compute)
      }
    }
    if stopAt == .down { return }
    let dx = stopAt == .up ? nil : Values(below)
    modules.linears[block.up].backward(
      gradients.up, lddy: inner, x: input, ldx: hidden, dx: dx, lddx: hidden, accumulate: !isPre,
      rows: tokens, dropout: dropout, compute)
    if let gate = block.gate, let dGate = gradients.gate {
      modules.linears[gate].backward(
        dGate, lddy: inner, x: input, ldx: hidden, dx: dx, lddx: hidden, accumulate: true,
        rows: tokens, dropout: dropout, compute)
    }
  }
}

// Between attention and feed-forward stands a norm: post, the attention's own; pre, the
// feed-forward's.

extension Backbone.Block {
  /// Queries have a module of their own, beside those of keys and values.
  fileprivate var hasOwnQueries: Bool { projections.count > 1 }

  /// The matrices that run only for tokens whose output is asked for.
  var modulesOfOutputs: [Int] {
    (hasOwnQueries ? projections.prefix(1) : []) + [attentionOutput, up, down]
      + (gate.map { [$0] } ?? [])
  }

  fileprivate func betweenNorm(_ placement: Backbone.NormPlacement) -> Int {
    placement == .post ? attentionNorm : feedForwardNorm
  }
}

extension BlockBuffers {
  fileprivate func betweenNormed(_ placement: Backbone.NormPlacement) -> Normed {
    placement == .post ? attentionNormed : feedForwardNormed
  }

  fileprivate func betweenSaved(_ placement: Backbone.NormPlacement) -> Norm.Saved {
    placement == .post ? attentionSaved : feedForwardSaved
  }
}
