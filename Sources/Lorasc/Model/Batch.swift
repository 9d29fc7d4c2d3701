/// Rows of token ids one after another without padding, or images, in the caller's memory, which
/// must stay valid and unchanged while a call uses it.
public struct Batch: @unchecked Sendable {
  /// `offsets[rows]` ids in all.
  public var tokens: UnsafeBufferPointer<Int32>
  /// rows + 1 numbers, the first 0, strictly increasing: row i is `[offsets[i], offsets[i + 1])`.
  /// Of images: empty.
  public var offsets: UnsafeBufferPointer<Int64>
  /// Instead of tokens.
  public var images: Images?
  /// Beside `tokens`; nil: all 0.
  public var tokenTypes: UnsafePointer<Int32>?
  /// A class a row; `ignoredLabel`: the row has no loss.
  public var labels: UnsafePointer<Int32>?
  /// Beside `tokens`: for `token` heads classes, for `language` heads what should stand there
  /// (nil: the tokens themselves); `ignoredLabel`: no loss.
  public var tokenLabels: UnsafePointer<Int32>?
  /// Beside `tokens`: weights >= 0 of their losses; nil: all 1.
  public var tokenWeights: UnsafePointer<Float>?
  /// Of regression, or of several labels at once (0 to 1), (rows, num_labels).
  public var targets: UnsafePointer<Float>?
  /// A weight >= 0 a row; nil: all 1.
  public var rowWeights: UnsafePointer<Float>?

  public static let ignoredLabel: Int32 = -100

  /// Pixels (rows, channels, height, width), one image after another.
  public struct Images: @unchecked Sendable {
    public enum Pixels: @unchecked Sendable {
      /// As the model takes them.
      case float32(UnsafePointer<Float>)
      /// Taken as (pixel / 255 − mean) / deviation, by channel.
      case uint8(UnsafePointer<UInt8>, mean: [Float], deviation: [Float])
    }
    public var pixels: Pixels
    public var rows: Int
    public var channels: Int
    public var height: Int
    public var width: Int

    public init(pixels: Pixels, rows: Int, channels: Int, height: Int, width: Int) {
      self.pixels = pixels
      self.rows = rows
      self.channels = channels
      self.height = height
      self.width = width
    }
  }

  public var rows: Int { images?.rows ?? max(0, offsets.count - 1) }

  public init(
    tokens: UnsafeBufferPointer<Int32>, offsets: UnsafeBufferPointer<Int64>,
    tokenTypes: UnsafePointer<Int32>? = nil, labels: UnsafePointer<Int32>? = nil,
    targets: UnsafePointer<Float>? = nil, rowWeights: UnsafePointer<Float>? = nil
  ) {
    self.tokens = tokens
    self.offsets = offsets
    self.tokenTypes = tokenTypes
    self.labels = labels
    self.targets = targets
    self.rowWeights = rowWeights
  }

  public init(
    images: Images, labels: UnsafePointer<Int32>? = nil, targets: UnsafePointer<Float>? = nil,
    rowWeights: UnsafePointer<Float>? = nil
  ) {
    self.init(
      tokens: UnsafeBufferPointer(start: nil, count: 0),
      offsets: UnsafeBufferPointer(start: nil, count: 0), labels: labels, targets: targets,
      rowWeights: rowWeights)
    self.images = images
  }

  /// - Throws: `.shape` where there is no row, or the offsets are not 0 = o_0 < o_1 < … = count
  ///   of the tokens.
  func checkOffsets() throws {
    if let images {
      guard images.rows >= 1 else {
        throw LorascError(.shape, "the batch has no rows", subject: "rows")
      }
      return
    }
    guard offsets.count >= 2 else {
      throw LorascError(.shape, "the batch has no rows", subject: "offsets")
    }
    guard offsets[0] == 0 else {
      throw LorascError(.shape, "offsets[0] is \(offsets[0]), not 0", subject: "offsets")
    }
    for row in 0..<rows where offsets[row + 1] <= offsets[row] {
      let what = offsets[row + 1] == offsets[row] ? "is empty" : "ends before it starts"
      throw LorascError(
        .shape, "row \(row) \(what): offsets \(offsets[row]), \(offsets[row + 1])",
        subject: "offsets")
    }
    guard Int(offsets[rows]) == tokens.count else {
      throw LorascError(
        .shape, "the last offset is \(offsets[rows]) for \(tokens.count) tokens",
        subject: "offsets")
    }
  }
}
