/// A dataset's rows, one after another in an order, for one call: from memory, or asked for some
/// at a time.
final class RowReader {
  let dataset: Dataset
  private let limits: BatchLimits
  /// (most rows of a request): the numbers that are asked for
  private let numbers: AlignedBuffer<Int>
  /// What the last request gave: rows at these positions of the order.
  private var window = 0..<0
  private var rows: Batch?

  /// - Parameter rowsAtOnce: most rows of a request
  /// - Throws: `.shape` for rows that are no whole examples, `.outOfMemory`
  init(_ dataset: Dataset, _ limits: BatchLimits, rowsAtOnce: Int) throws {
    self.dataset = dataset
    self.limits = limits
    var isAsked = false
    switch dataset.source {
    case .memory(let batch): try limits.check(batch)
    case .reader:
      try limits.check(rows: dataset.rows)
      isAsked = true
    }
    numbers = try AlignedBuffer(
      count: isAsked ? min(rowsAtOnce, dataset.rows) : 0, what: "row numbers")
  }

  /// Another order, or memory that the reader has used again.
  func forget() { window = 0..<0 }

  /// Every row that is in memory, so that no bad one stops a run halfway. Rows of a reader are
  /// checked when they are staged.
  func check(maxTokens: Int) throws {
    guard case .memory(let batch) = dataset.source else { return }
    for row in 0..<dataset.rows {
      try limits.check(row, of: batch, withLoss: true)
      let length = limits.span(of: row, in: batch).count
      guard length <= maxTokens else {
        throw LorascError(
          .limit, "row \(row) has \(length) tokens for max_batch_tokens \(maxTokens)",
          subject: "max_batch_tokens")
      }
    }
  }

  /// Fills `plan` with rows `order(from)`, … as far as they fit, at least one; rows of the
  /// contrastive loss go together or not at all.
  /// - Returns: the first position that did not fit.
  /// - Throws: what a reader throws; `.shape`, `.token`, `.label`, `.limit`, `.nonFinite` for bad
  ///   rows
  func stage(
    in staged: StagedBatch, from: Int, upTo end: Int, _ order: (Int) -> Int
  ) throws -> Int {
    staged.clear()
    let isWhole = (limits.head?.rowsOfExample ?? 1) > 1
    var position = from
    while position < end {
      let number = order(position)
      let (batch, row) = try row(number, at: position, upTo: end, order)
      let length = limits.span(of: row, in: batch).count
      if !isWhole, staged.rows > 0, !staged.fits(length) { break }
      try staged.append(row, of: batch, withLoss: true, number: number)
      position += 1
    }
    return position
  }

  /// Where the row at a position is.
  private func row(
    _ number: Int, at position: Int, upTo end: Int, _ order: (Int) -> Int
  ) throws -> (Batch, Int) {
    switch dataset.source {
    case .memory(let batch): return (batch, number)
    case .reader(let read):
      if let rows, window.contains(position) { return (rows, position - window.lowerBound) }
      forget()
      let count = min(numbers.count, end - position)
      for place in 0..<count { numbers.pointer[place] = order(position + place) }
      let asked = UnsafeBufferPointer(start: numbers.pointer, count: count)
      let given = try BLASThreads.outside { try read(asked) }
      guard given.rows == count else {
        throw LorascError(
          .shape, "the dataset gave \(given.rows) rows where \(count) were asked for",
          subject: "rows")
      }
      try given.checkOffsets()
      try limits.check(given)
      rows = given
      window = position..<position + count
      return (given, 0)
    }
  }
}

extension Trainer {
  /// For one call.
  func rowReader(_ dataset: Dataset) throws -> RowReader {
    let (rows, isTooMany) = settings.batchSize.multipliedReportingOverflow(
      by: adapter.head.rowsOfExample)
    return try RowReader(
      dataset, model.limits(head: adapter.head), rowsAtOnce: isTooMany ? Int.max : rows)
  }
}
