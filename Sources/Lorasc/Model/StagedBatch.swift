/// The plan's own copy of the rows it works on: checked while copied, so that nothing the
/// caller does to its memory later can lead an index astray.
final class StagedBatch {
  let tokenCapacity: Int
  /// (tokens): ids, positions as the model counts them, segment ids.
  let tokens: UnsafeMutablePointer<Int32>
  let positions: UnsafeMutablePointer<Int32>
  let tokenTypes: UnsafeMutablePointer<Int32>
  /// (rows, patches, patch pixels): patches of images
  let patches: UnsafeMutablePointer<Float>?
  /// (rows + 1): first token of each row.
  let starts: UnsafeMutablePointer<Int32>
  /// (rows): class or `Batch.ignoredLabel`; weight.
  private let labels: UnsafeMutablePointer<Int32>
  let weights: UnsafeMutablePointer<Float>
  /// (rows, num_labels)
  private let targets: UnsafeMutablePointer<Float>?
  /// (tokens): the same for tokens, where the head goes by tokens.
  private let tokenLabels: UnsafeMutablePointer<Int32>?
  private let tokenWeights: UnsafeMutablePointer<Float>?
  /// (rows): each row's number in what it was staged from.
  private let numbers: UnsafeMutablePointer<Int>
  /// (tokens): each token's row by that number, and its place in the row as it was given.
  private let tokenRows: UnsafeMutablePointer<Int>?
  private let tokenPlaces: UnsafeMutablePointer<Int>?
  private(set) var rows = 0
  private(set) var tokenCount = 0

  private let limits: BatchLimits

  init(tokenCapacity: Int, limits: BatchLimits, arena: Arena) throws {
    self.tokenCapacity = tokenCapacity
    self.limits = limits
    tokens = try arena.integers(tokenCapacity, "plan.tokens")
    positions = try arena.integers(tokenCapacity, "plan.positions")
    tokenTypes = try arena.integers(tokenCapacity, "plan.token_types")
    starts = try arena.integers(tokenCapacity + 1, "plan.starts")
    labels = try arena.integers(tokenCapacity, "plan.labels")
    weights = try arena.floats(tokenCapacity, "plan.weights")
    patches = try limits.images.map {
      try arena.matrix(tokenCapacity / $0.tokens, $0.patches * $0.patchPixels, "plan.patches")
    }
    targets =
      limits.head?.problem.usesTargets == true
      ? try arena.matrix(tokenCapacity, limits.labels, "plan.targets") : nil
    let isByToken = limits.head?.isByToken == true
    tokenLabels = isByToken ? try arena.integers(tokenCapacity, "plan.token_labels") : nil
    tokenWeights = isByToken ? try arena.floats(tokenCapacity, "plan.token_weights") : nil
    numbers = try arena.indices(tokenCapacity, "plan.numbers")
    tokenRows = isByToken ? try arena.indices(tokenCapacity, "plan.token_rows") : nil
    tokenPlaces = isByToken ? try arena.indices(tokenCapacity, "plan.token_places") : nil
  }

  func length(of row: Int) -> Int { Int(starts[row + 1] - starts[row]) }

  /// What a loss compares logits with.
  func items(isByToken: Bool) -> LossItems {
    if isByToken, let tokenLabels, let tokenWeights, let tokenRows {
      return LossItems(
        count: tokenCount, labels: tokenLabels, weights: tokenWeights, targets: nil,
        rows: tokenRows, places: tokenPlaces)
    }
    return LossItems(
      count: rows, labels: labels, weights: weights, targets: targets, rows: numbers, places: nil)
  }

  func clear() {
    rows = 0
    tokenCount = 0
    starts[0] = 0
  }

  func fits(_ tokens: Int) -> Bool { tokenCount + tokens <= tokenCapacity }

  /// Adds row `row` of `batch`, whose offsets were checked.
  /// - Parameters:
  ///   - number: what a loss knows the row by; nil: `row`
  ///   - past: tokens of the row that came before these
  /// - Throws: `.limit`, `.token`, `.label`, `.shape`, `.nonFinite`; the staged rows stay as they
  ///   were.
  func append(
    _ row: Int, of batch: Batch, withLoss: Bool, number: Int? = nil, past: Int = 0
  ) throws {
    try limits.check(row, of: batch, withLoss: withLoss)
    let span = limits.span(of: row, in: batch)
    guard fits(span.count) else {
      throw LorascError(
        .limit, "\(tokenCount + span.count) tokens for a plan of max_batch_tokens \(tokenCapacity)",
        subject: "max_batch_tokens")
    }
    if let images = batch.images {
      stage(images, row)
    } else {
      stageTokens(span, batch, past)
    }
    let weight = batch.rowWeights?[row] ?? 1
    weights[rows] = weight
    // Rows of the contrastive loss need no label: each anchor's positive is its own.
    labels[rows] = withLoss ? batch.labels?[row] ?? Batch.ignoredLabel : Batch.ignoredLabel
    if withLoss, let targets, let source = batch.targets {
      (targets + rows * limits.labels)
        .update(from: source + row * limits.labels, count: limits.labels)
    }
    numbers[rows] = number ?? row
    if withLoss { stageTokenLabels(span, ofRow: row, batch, weight) }
    rows += 1
    tokenCount += span.count
    starts[rows] = Int32(tokenCount)
  }

  private func stageTokens(_ span: Range<Int>, _ batch: Batch, _ past: Int) {
    var position = limits.positionRule.first + past
    for (place, index) in span.enumerated() {
      let at = tokenCount + place
      tokens[at] = batch.tokens[index]
      tokenTypes[at] = batch.tokenTypes?[index] ?? 0
      if let padding = limits.positionRule.paddingToken, Int(batch.tokens[index]) == padding {
        positions[at] = Int32(padding)
      } else {
        positions[at] = Int32(position)
        position += 1
      }
    }
  }

  /// A row's first token has nothing before it that could predict it.
  private func stageTokenLabels(
    _ span: Range<Int>, ofRow row: Int, _ batch: Batch, _ rowWeight: Float
  ) {
    guard let tokenLabels, let tokenWeights, let tokenRows, let tokenPlaces else { return }
    let isLanguage = limits.head?.kind == .language
    let start = Int(batch.offsets[row])
    for (place, index) in span.enumerated() {
      let label = batch.tokenLabels?[index] ?? (isLanguage ? batch.tokens[index] : -1)
      let isFirst = isLanguage && place == 0
      tokenLabels[tokenCount + place] = isFirst ? Batch.ignoredLabel : label
      tokenWeights[tokenCount + place] = rowWeight * (batch.tokenWeights?[index] ?? 1)
      tokenRows[tokenCount + place] = numbers[rows]
      tokenPlaces[tokenCount + place] = index - start
    }
  }

  /// (channels, height, width) → (patches, channels · patch · patch), normalised.
  private func stage(_ images: Batch.Images, _ row: Int) {
    guard let patches, let form = limits.images else { return }
    let across = form.width / form.patch
    var out = patches + rows * form.patches * form.patchPixels
    for patch in 0..<form.patches {
      let (top, left) = (patch / across * form.patch, patch % across * form.patch)
      for channel in 0..<form.channels {
        for line in top..<top + form.patch {
          let first = ((row * form.channels + channel) * form.height + line) * form.width + left
          switch images.pixels {
          case .float32(let pixels): out.update(from: pixels + first, count: form.patch)
          case .uint8(let pixels, let mean, let deviation):
            for index in 0..<form.patch {
              let value = Float(pixels[first + index]) / 255
              out[index] = (value - mean[channel]) / deviation[channel]
            }
          }
          out += form.patch
        }
      }
    }
  }

  /// All rows of a batch, instead of what was staged.
  func load(_ batch: Batch, withLoss: Bool) throws {
    try batch.checkOffsets()
    try limits.check(batch)
    let count = limits.tokens(of: batch)
    guard count <= tokenCapacity else {
      throw LorascError(
        .limit, "\(count) tokens for a plan of max_batch_tokens \(tokenCapacity)",
        subject: "max_batch_tokens")
    }
    clear()
    for row in 0..<batch.rows { try append(row, of: batch, withLoss: withLoss) }
  }
}
