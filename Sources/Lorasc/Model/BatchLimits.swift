/// What rows longer than the model's context become.
enum RowTruncation: String, Sendable {
  case error
  /// Their end, or their beginning, is left out.
  case right, left
}

/// What a batch may hold, by model and head.
struct BatchLimits {
  var vocabulary: Int
  /// Longest row.
  var positions: Int
  var positionRule = Backbone.PositionRule()
  var tokenTypes: Int
  var truncation = RowTruncation.error
  /// What images must be; nil: rows are tokens.
  var images: Backbone.PatchInputs?
  /// nil: there is no loss.
  var head: HeadDescription?

  var labels: Int { head?.labels ?? 0 }

  /// A row's tokens that are used, as indices into the batch's.
  func span(of row: Int, in batch: Batch) -> Range<Int> {
    if let images { return 0..<images.tokens }
    let (start, end) = (Int(batch.offsets[row]), Int(batch.offsets[row + 1]))
    guard end - start > positions else { return start..<end }
    switch truncation {
    case .error: return start..<end
    case .right: return start..<start + positions
    case .left: return end - positions..<end
    }
  }

  func tokens(of batch: Batch) -> Int {
    if let images {
      let (tokens, isTooMany) = batch.rows.multipliedReportingOverflow(by: images.tokens)
      return isTooMany ? Int.max : tokens
    }
    return (0..<batch.rows).reduce(0) { $0 + span(of: $1, in: batch).count }
  }

  /// Rows are whole examples.
  func check(rows: Int) throws {
    if let head, rows % head.rowsOfExample != 0 {
      throw LorascError(
        .shape, "\(rows) rows are no multiple of \(head.rowsOfExample), the rows of an example",
        subject: "rows")
    }
  }

  /// The batch as a whole: its kind, the size of its images, whole examples.
  func check(_ batch: Batch) throws {
    try check(rows: batch.rows)
    guard let images else {
      guard batch.images == nil else {
        throw LorascError(.shape, "the model takes tokens, not pixels", subject: "pixels")
      }
      return
    }
    guard let given = batch.images else {
      throw LorascError(.shape, "the model takes pixels, not tokens", subject: "pixels")
    }
    guard
      (given.channels, given.height, given.width) == (images.channels, images.height, images.width)
    else {
      throw LorascError(
        .shape,
        "images of \(given.channels) x \(given.height) x \(given.width) (channels, height, width); "
          + "the model takes \(images.channels) x \(images.height) x \(images.width)",
        subject: "pixels")
    }
    if case .uint8(_, let mean, let deviation) = given.pixels {
      guard mean.count == images.channels, deviation.count == images.channels,
        (mean + deviation).allSatisfy(\.isFinite), deviation.allSatisfy({ $0 > 0 })
      else {
        throw LorascError(
          .argument,
          "pixel_mean and pixel_std are \(images.channels) finite numbers, the latter above 0",
          subject: "pixel_std")
      }
    }
  }

  /// One row against what the model can take.
  func check(_ row: Int, of batch: Batch, withLoss: Bool) throws {
    let span = span(of: row, in: batch)
    if let given = batch.images, let images {
      try checkPixels(row, of: given, images)
    } else {
      try checkTokens(row, span, of: batch)
    }
    if let weight = batch.rowWeights?[row], !(weight >= 0 && weight.isFinite) {
      throw LorascError(
        .nonFinite, "the weight of row \(row) is \(weight)", subject: "row_weights")
    }
    if withLoss, let head { try checkLabels(row, span, of: batch, head) }
  }

  private func checkPixels(_ row: Int, of given: Batch.Images, _ images: Backbone.PatchInputs)
    throws
  {
    guard case .float32(let pixels) = given.pixels else { return }
    for index in row * images.pixels..<(row + 1) * images.pixels where !pixels[index].isFinite {
      throw LorascError(.nonFinite, "a pixel of row \(row) is not finite", subject: "pixels")
    }
  }

  private func checkTokens(_ row: Int, _ span: Range<Int>, of batch: Batch) throws {
    guard span.count <= positions else {
      throw LorascError(
        .limit,
        "row \(row) has \(span.count) tokens; the model has \(positions) positions (option "
          + "truncation cuts)", subject: "row \(row)")
    }
    for index in span {
      let id = batch.tokens[index]
      guard id >= 0, id < vocabulary else {
        throw LorascError(
          .token,
          "token id \(id) at position \(index - span.lowerBound) of row \(row) is outside the "
            + "vocabulary of \(vocabulary)", subject: "row \(row)")
      }
      if let types = batch.tokenTypes, types[index] != 0,
        types[index] < 0 || types[index] >= tokenTypes
      {
        throw LorascError(
          .token, "token type \(types[index]) in row \(row) is outside the model's \(tokenTypes)",
          subject: "row \(row)")
      }
      if let weight = batch.tokenWeights?[index], !(weight >= 0 && weight.isFinite) {
        throw LorascError(
          .nonFinite, "a token's weight in row \(row) is \(weight)", subject: "token_weights")
      }
    }
  }

  private func checkLabels(
    _ row: Int, _ span: Range<Int>, of batch: Batch, _ head: HeadDescription
  ) throws {
    switch (head.kind, head.problem) {
    case (.embedding, _): return
    case (.language, _), (.token, _):
      guard let given = batch.tokenLabels else {
        if head.kind == .language { return }
        throw LorascError(
          .label, "token classification needs token_labels", subject: "token_labels")
      }
      for index in span where given[index] != Batch.ignoredLabel {
        guard given[index] >= 0, given[index] < head.labels else {
          throw LorascError(
            .label, "label \(given[index]) in row \(row) is outside the \(head.labels) classes",
            subject: "token_labels")
        }
      }
    case (_, .regression), (_, .multiLabel):
      guard let targets = batch.targets else {
        throw LorascError(.label, "\(head.problem.rawValue) needs targets", subject: "targets")
      }
      for label in row * head.labels..<(row + 1) * head.labels {
        guard targets[label].isFinite else {
          throw LorascError(.nonFinite, "a target of row \(row) is not finite", subject: "targets")
        }
        guard head.problem == .regression || 0...1 ~= targets[label] else {
          throw LorascError(
            .label, "a target of row \(row) is \(targets[label]), not in 0 to 1",
            subject: "targets")
        }
      }
    default:
      guard let label = batch.labels?[row] else {
        throw LorascError(.label, "classification needs labels", subject: "labels")
      }
      guard label == Batch.ignoredLabel || (label >= 0 && label < head.labels) else {
        throw LorascError(
          .label, "label \(label) of row \(row) is outside the \(head.labels) classes",
          subject: "labels")
      }
    }
  }
}
