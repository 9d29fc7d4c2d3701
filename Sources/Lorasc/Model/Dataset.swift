/// Rows for training and evaluation.
///
/// Either borrowed (`init(borrowing:)`: the memory must outlive the dataset), owned, or asked for
/// while they are used (`init(rows:reading:)`).
///
/// ```swift
/// let data = try Dataset(rows: store.count) { numbers in try store.load(numbers) }
/// ```
public final class Dataset: @unchecked Sendable {
  /// Gives the rows of these numbers in this order, in memory that stays as it is until it is
  /// asked again, or until the call that asks ends.
  public typealias Reader = (UnsafeBufferPointer<Int>) throws -> Batch

  enum Source {
    case memory(Batch)
    case reader(Reader)
  }

  let source: Source
  public let rows: Int
  private let owned: [Any]

  /// Most rows of a reader: an epoch's order has a number for each.
  static let mostRows = Int(Int32.max)

  /// - Throws: `.shape`; ids and labels are checked against the model when they are used.
  public init(borrowing batch: Batch) throws {
    try batch.checkOffsets()
    source = .memory(batch)
    rows = batch.rows
    owned = []
  }

  /// Rows that are asked for batch by batch, at most `batch_size` examples at once.
  /// - Parameter reader: runs on the thread of the call that uses the dataset, of several calls at
  ///   once on several. What it throws ends that call. It may use the library, but not the trainer
  ///   or adapter that asks: `.busy`.
  /// - Throws: `.shape` for no rows or more than 2³¹ − 1
  public init(rows: Int, reading reader: @escaping Reader) throws {
    guard 1...Self.mostRows ~= rows else {
      throw LorascError(
        .shape, "\(rows) rows: a dataset has 1 to \(Self.mostRows)", subject: "rows")
    }
    source = .reader(reader)
    self.rows = rows
    owned = []
  }

  /// Copies the rows.
  /// - Parameters:
  ///   - rows: token ids of each row, at least one each
  ///   - labels: a class a row, or nil
  ///   - targets: of regression or several labels, (rows, num_labels) flattened, or nil
  ///   - tokenLabels: for each row labels beside its tokens, or nil
  ///   - tokenWeights: for each row weights beside its tokens, or nil
  public init(
    rows: [[Int32]], labels: [Int32]? = nil, targets: [Float]? = nil,
    tokenLabels: [[Int32]]? = nil, tokenWeights: [[Float]]? = nil
  ) throws {
    for (lengths, name) in [
      (tokenLabels?.map(\.count), "token_labels"), (tokenWeights?.map(\.count), "token_weights"),
    ] {
      guard lengths == nil || lengths == rows.map(\.count) else {
        throw LorascError(.shape, "\(name) and rows differ in length", subject: name)
      }
    }
    guard labels.map({ $0.count == rows.count }) ?? true else {
      throw LorascError(
        .shape, "\(labels?.count ?? 0) labels for \(rows.count) rows", subject: "labels")
    }
    if let targets, rows.isEmpty || targets.count % rows.count != 0 {
      throw LorascError(
        .shape, "\(targets.count) targets for \(rows.count) rows", subject: "targets")
    }
    let tokenBuffer = try AlignedBuffer<Int32>(
      count: rows.reduce(0) { $0 + $1.count }, what: "tokens")
    let offsetBuffer = try AlignedBuffer<Int64>(count: rows.count + 1, what: "offsets")
    var position = 0
    for (index, row) in rows.enumerated() {
      for id in row {
        tokenBuffer.pointer[position] = id
        position += 1
      }
      offsetBuffer.pointer[index + 1] = Int64(position)
    }
    var owned: [Any] = [tokenBuffer, offsetBuffer]
    func keep<T>(_ values: [T]?, _ what: String) throws -> UnsafePointer<T>? {
      guard let values else { return nil }
      let buffer = try AlignedBuffer<T>(count: values.count, what: what)
      buffer.pointer.update(from: values, count: values.count)
      owned.append(buffer)
      return UnsafePointer(buffer.pointer)
    }
    var batch = Batch(
      tokens: UnsafeBufferPointer(tokenBuffer.buffer),
      offsets: UnsafeBufferPointer(offsetBuffer.buffer),
      labels: try keep(labels, "labels"), targets: try keep(targets, "targets"))
    batch.tokenLabels = try keep(tokenLabels?.flatMap { $0 }, "token_labels")
    batch.tokenWeights = try keep(tokenWeights?.flatMap { $0 }, "token_weights")
    try batch.checkOffsets()
    source = .memory(batch)
    self.rows = batch.rows
    self.owned = owned
  }
}
