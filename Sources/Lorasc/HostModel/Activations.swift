/// The host's activations: (batch, tokens, features) float32, features side by side.
public struct Activations {
  public let values: UnsafeMutablePointer<Float>
  public let batch: Int
  public let tokens: Int
  /// Elements from one token's features to the next one's, and between the first tokens of two
  /// members of the batch.
  public let tokenStride: Int
  public let batchStride: Int

  /// - Parameter tokenStride, batchStride: nil: without gaps
  public init(
    _ values: UnsafeMutablePointer<Float>, batch: Int = 1, tokens: Int, features: Int,
    tokenStride: Int? = nil, batchStride: Int? = nil
  ) {
    self.values = values
    self.batch = batch
    self.tokens = tokens
    self.tokenStride = tokenStride ?? features
    self.batchStride = batchStride ?? tokens.multipliedReportingOverflow(by: self.tokenStride).0
  }

  var rows: Int { batch * tokens }
  /// Rows lie at one distance throughout.
  var isOneRun: Bool { batch == 1 || batchStride == tokens * tokenStride }

  private static let mostRows = 1 << 40
  private static let largestStride = 1 << 30

  /// - Throws: `.shape`
  func check(_ what: String, features: Int) throws {
    let (rows, overflow) = batch.multipliedReportingOverflow(by: tokens)
    guard batch >= 0, tokens >= 0, !overflow, rows <= Self.mostRows else {
      throw LorascError(.shape, "\(what): \(batch) x \(tokens) rows", subject: what)
    }
    guard tokenStride >= features, tokenStride <= Self.largestStride,
      batchStride >= 0, batchStride <= Int.max / 64 / max(batch, 1)
    else {
      throw LorascError(
        .shape,
        "\(what): strides \(batchStride), \(tokenStride) do not fit \(features) features",
        subject: what)
    }
    guard Int(bitPattern: values) % 4 == 0 else {
      throw LorascError(.argument, "\(what) is not aligned to 4 bytes", subject: what)
    }
  }

  /// One of the runs that rows at one distance make up, `wholly` all as one.
  func run(_ index: Int, wholly: Bool) -> (values: UnsafeMutablePointer<Float>, rows: Int) {
    wholly ? (values, rows) : (values + index * batchStride, tokens)
  }
}
