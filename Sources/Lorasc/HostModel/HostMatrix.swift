/// A weight matrix in the host's memory, which stays the host's: it is read where it lies, and
/// must stay and stay unchanged while the model made of it is in use.
public struct HostMatrix {
  public enum ElementType: Sendable { case float32, bfloat16, float16 }

  /// Of the module: target rules, files and messages say it.
  public let name: String
  public let type: ElementType
  /// (out, in), or where `isTransposed` (in, out); rows `rowStride` elements apart.
  public let values: UnsafeMutableRawPointer
  public let outFeatures: Int
  public let inFeatures: Int
  public let rowStride: Int
  public let isTransposed: Bool
  /// (out) float32, or nil
  public let bias: UnsafePointer<Float>?

  /// - Parameter rowStride: elements; nil: rows follow each other
  public init(
    name: String, type: ElementType = .float32, values: UnsafeMutableRawPointer, outFeatures: Int,
    inFeatures: Int, rowStride: Int? = nil, isTransposed: Bool = false,
    bias: UnsafePointer<Float>? = nil
  ) {
    self.name = name
    self.type = type
    self.values = values
    self.outFeatures = outFeatures
    self.inFeatures = inFeatures
    self.rowStride = rowStride ?? (isTransposed ? outFeatures : inFeatures)
    self.isTransposed = isTransposed
    self.bias = bias
  }

  /// As the host's memory has them.
  var rows: Int { isTransposed ? inFeatures : outFeatures }
  var columns: Int { isTransposed ? outFeatures : inFeatures }
  var count: Int { rows * columns }

  private static let mostFeatures = 1 << 30

  /// - Throws: `.argument`, `.shape`
  func check() throws {
    guard !name.isEmpty, name.utf8.count < 256 else {
      throw LorascError(.argument, "a matrix needs a name of 1 to 255 bytes", subject: name)
    }
    for (what, size) in [("out_features", outFeatures), ("in_features", inFeatures)]
    where !(1...Self.mostFeatures).contains(size) {
      throw LorascError(.shape, "\(name): \(what) is \(size)", subject: name)
    }
    guard rowStride >= columns, rowStride <= Self.mostFeatures else {
      throw LorascError(
        .shape, "\(name): rows of \(columns) elements cannot be \(rowStride) apart", subject: name)
    }
    guard count <= Int.max / 64, Int(bitPattern: values) % (type == .float32 ? 4 : 2) == 0 else {
      throw LorascError(.argument, "\(name): the values are not aligned", subject: name)
    }
  }
}
