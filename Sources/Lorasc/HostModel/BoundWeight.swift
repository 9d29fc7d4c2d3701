/// A merged weight as it was when this was made, to be called from any number of threads at once:
/// Y = X Wᵀ + b on the calling thread.
public final class BoundWeight: Sendable {
  public let inFeatures: Int
  public let outFeatures: Int
  /// (out, in)
  private let weight: FloatBuffer
  /// (out), or nil
  private let bias: FloatBuffer?
  private let products: MatrixProducts

  /// - Throws: `.notFound` where the adapter has no such module, `.unsupported` for an embedding,
  ///   `.busy`, `.state`, `.outOfMemory`
  public init(_ adapter: Adapter, module: String) throws {
    let model = adapter.model
    guard let target = adapter.targets.first(where: { model.matrices[$0.matrix].name == module })
    else {
      throw LorascError(.notFound, "\(module) is no module with an adapter", subject: module)
    }
    let matrix = model.matrices[target.matrix]
    guard matrix.isLinear else {
      throw LorascError(.unsupported, "\(module) is no linear module", subject: module)
    }
    (inFeatures, outFeatures) = (matrix.inFeatures, matrix.outFeatures)
    let weight = try FloatBuffer(count: matrix.count, what: module)
    let bias = try matrix.bias.map { try FloatBuffer(count: $0.count, what: module) }
    try adapter.use(fromCallbackToo: true) {
      try model.requireUnmerged()
      try BLASThreads.withSingleThread {
        try adapter.weight(
          ofMatrix: target.matrix, .merged, into: weight.pointer, model.compute(threads: 1))
        guard let bias else { return }
        if let full = adapter.fullParameters.first(where: { $0.place == .bias(target.matrix) }) {
          adapter.fullValue(full.parameter, .merged, into: bias.pointer)
        } else {
          matrix.bias?.withBuffer { _ = bias.buffer.update(fromContentsOf: $0) }
        }
      }
    }
    self.weight = weight
    self.bias = bias
    products = model.products
  }

  /// Rows that one product takes: its sizes fit 32 bits.
  private static let mostRows = 1 << 20

  /// - Parameters:
  ///   - x: (rows, in)
  ///   - y: (rows, out), written
  public func callAsFunction(
    _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, rows: Int
  ) {
    BLASThreads.withSingleThread {
      for start in stride(from: 0, to: rows, by: Self.mostRows) {
        let count = min(Self.mostRows, rows - start)
        multiply(x + start * inFeatures, y + start * outFeatures, count)
      }
    }
  }

  /// The only output of a weight with one row: w x + b, summed in float64.
  ///
  /// - Parameter x: (in)
  public func callAsFunction(_ x: UnsafePointer<Double>) -> Double {
    var sum = Double(bias?.pointer.pointee ?? 0)
    for index in 0..<inFeatures { sum += Double(weight.pointer[index]) * x[index] }
    return sum
  }

  private func multiply(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ rows: Int) {
    if let bias {
      for row in 0..<rows {
        (y + row * outFeatures).update(from: bias.pointer, count: outFeatures)
      }
    }
    products.gemm(
      rows, outFeatures, inFeatures, a: x, lda: inFeatures, b: weight.pointer, ldb: inFeatures,
      transposeB: true, c: y, ldc: outFeatures, beta: bias == nil ? 0 : 1)
  }
}
