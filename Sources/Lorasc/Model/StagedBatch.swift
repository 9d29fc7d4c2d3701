/// The plan's own copy of the rows it works on: checked while copied, so that nothing the
/// caller does to its memory later can lead an index astray.
final class StagedBatch {
  let tokenCapacity: Int
  /// (tokens): ids, positions within the row, segment ids.
  let tokens: UnsafeMutablePointer<Int32>
  let positions: UnsafeMutablePointer<Int32>
  let tokenTypes: UnsafeMutablePointer<Int32>
  /// (rows + 1): first token of each row.
  let starts: UnsafeMutablePointer<Int32>
  /// (rows): class or `Batch.ignoredLabel`; weight.
  let labels: UnsafeMutablePointer<Int32>
  let weights: UnsafeMutablePointer<Float>
  /// (rows, num_labels)
  let targets: UnsafeMutablePointer<Float>?
  private(set) var rows = 0
  private(set) var tokenCount = 0
  private(set) var longestRow = 0

  private let limits: Limits

  /// What a batch may hold.
  struct Limits {
    var vocabulary: Int
    var positions: Int
    var tokenTypes: Int
    var labels: Int
    var problem: ProblemType?
  }

  init(tokenCapacity: Int, limits: Limits, arena: Arena) throws {
    self.tokenCapacity = tokenCapacity
    self.limits = limits
    tokens = try arena.integers(tokenCapacity, "plan.tokens")
    positions = try arena.integers(tokenCapacity, "plan.positions")
    tokenTypes = try arena.integers(tokenCapacity, "plan.token_types")
    starts = try arena.integers(tokenCapacity + 1, "plan.starts")
    labels = try arena.integers(tokenCapacity, "plan.labels")
    weights = try arena.floats(tokenCapacity, "plan.weights")
    targets =
      limits.problem == .regression
      ? try arena.matrix(tokenCapacity, limits.labels, "plan.targets") : nil
  }

  func length(of row: Int) -> Int { Int(starts[row + 1] - starts[row]) }

  func clear() {
    rows = 0
    tokenCount = 0
    longestRow = 0
    starts[0] = 0
  }

  func fits(_ tokens: Int) -> Bool { tokenCount + tokens <= tokenCapacity }

  /// Adds row `row` of `batch`, whose offsets were checked.
  /// - Throws: `.limit`, `.token`, `.label`, `.nonFinite`; the staged rows stay as they were.
  func append(_ row: Int, of batch: Batch, withLoss: Bool) throws {
    let first = Int(batch.offsets[row])
    let length = Int(batch.offsets[row + 1]) - first
    try Self.check(row, of: batch, limits: limits, withLoss: withLoss)
    guard fits(length) else {
      throw LorascError(
        .limit, "\(tokenCount + length) tokens for a plan of max_batch_tokens \(tokenCapacity)",
        subject: "max_batch_tokens")
    }
    for index in 0..<length {
      tokens[tokenCount + index] = batch.tokens[first + index]
      positions[tokenCount + index] = Int32(index)
      tokenTypes[tokenCount + index] = batch.tokenTypes?[first + index] ?? 0
    }
    weights[rows] = batch.rowWeights?[row] ?? 1
    labels[rows] = batch.labels?[row] ?? Batch.ignoredLabel
    if let targets, let source = batch.targets {
      for label in 0..<limits.labels {
        targets[rows * limits.labels + label] = source[row * limits.labels + label]
      }
    }
    rows += 1
    tokenCount += length
    longestRow = max(longestRow, length)
    starts[rows] = Int32(tokenCount)
  }

  /// All rows of a batch, instead of what was staged.
  func load(_ batch: Batch, withLoss: Bool) throws {
    try batch.checkOffsets()
    guard batch.tokens.count <= tokenCapacity else {
      throw LorascError(
        .limit,
        "\(batch.tokens.count) tokens for a plan of max_batch_tokens \(tokenCapacity)",
        subject: "max_batch_tokens")
    }
    clear()
    for row in 0..<batch.rows { try append(row, of: batch, withLoss: withLoss) }
  }

  /// One row against what the model can take.
  static func check(_ row: Int, of batch: Batch, limits: Limits, withLoss: Bool) throws {
    let first = Int(batch.offsets[row])
    let length = Int(batch.offsets[row + 1]) - first
    guard length <= limits.positions else {
      throw LorascError(
        .limit, "row \(row) has \(length) tokens; the model has \(limits.positions) positions",
        subject: "row \(row)")
    }
    for index in first..<first + length {
      let id = batch.tokens[index]
      guard id >= 0, id < limits.vocabulary else {
        throw LorascError(
          .token,
          "token id \(id) at position \(index - first) of row \(row) is outside the vocabulary of "
            + "\(limits.vocabulary)", subject: "row \(row)")
      }
      if let types = batch.tokenTypes, types[index] < 0 || types[index] >= limits.tokenTypes {
        throw LorascError(
          .token,
          "token type \(types[index]) in row \(row) is outside the model's \(limits.tokenTypes)",
          subject: "row \(row)")
      }
    }
    if let weight = batch.rowWeights?[row], !(weight >= 0 && weight.isFinite) {
      throw LorascError(
        .nonFinite, "the weight of row \(row) is \(weight)", subject: "row_weights")
    }
    guard withLoss, let problem = limits.problem else { return }
    switch problem {
    case .classification:
      guard let label = batch.labels?[row] else {
        throw LorascError(.label, "classification needs labels", subject: "labels")
      }
      guard label == Batch.ignoredLabel || (label >= 0 && label < limits.labels) else {
        throw LorascError(
          .label, "label \(label) of row \(row) is outside the \(limits.labels) classes",
          subject: "labels")
      }
    case .regression:
      guard let targets = batch.targets else {
        throw LorascError(.label, "regression needs targets", subject: "targets")
      }
      for label in 0..<limits.labels where !targets[row * limits.labels + label].isFinite {
        throw LorascError(.nonFinite, "a target of row \(row) is not finite", subject: "targets")
      }
    }
  }
}
