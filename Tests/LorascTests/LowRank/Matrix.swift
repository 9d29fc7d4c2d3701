@testable import Lorasc

/// A small float64 matrix, computed with plain loops: the reference for `LowRank`.
struct Matrix {
  let rows: Int
  let columns: Int
  /// Row-major
  var values: [Double]

  init(_ rows: Int, _ columns: Int, _ element: (_ row: Int, _ column: Int) -> Double) {
    self.rows = rows
    self.columns = columns
    values = (0..<rows).flatMap { row in (0..<columns).map { element(row, $0) } }
  }

  init(_ rows: Int, _ columns: Int, _ buffer: DoubleBuffer) {
    let values = buffer.values
    self.init(rows, columns) { values[$0 * columns + $1] }
  }

  init(_ rows: Int, _ columns: Int, _ buffer: FloatBuffer) {
    let values = buffer.values
    self.init(rows, columns) { Double(values[$0 * columns + $1]) }
  }

  static func random(_ rows: Int, _ columns: Int, seed: UInt64) -> Matrix {
    var random = FixedRandom(state: seed)
    // Float32 values, so that both precisions see the same matrix.
    return Matrix(rows, columns) { _, _ in Double(Float.random(in: -1...1, using: &random)) }
  }

  static func diagonal(_ values: [Double]) -> Matrix {
    Matrix(values.count, values.count) { $0 == $1 ? values[$0] : 0 }
  }

  /// I − 2 v vᵀ / vᵀv: orthogonal and not sparse.
  static func reflection(_ v: [Double]) -> Matrix {
    let square = v.reduce(0) { $0 + $1 * $1 }
    return Matrix(v.count, v.count) { ($0 == $1 ? 1 : 0) - 2 * v[$0] * v[$1] / square }
  }

  subscript(row: Int, column: Int) -> Double { values[row * columns + column] }

  var transposed: Matrix { Matrix(columns, rows) { self[$1, $0] } }
  var norm: Double { values.reduce(0) { $0 + $1 * $1 }.squareRoot() }
  var floats: [Float] { values.map { Float($0) } }

  func firstColumns(_ count: Int) -> Matrix { Matrix(rows, count) { self[$0, $1] } }

  static func * (a: Matrix, b: Matrix) -> Matrix {
    Matrix(a.rows, b.columns) { row, column in
      (0..<a.columns).reduce(0) { $0 + a[row, $1] * b[$1, column] }
    }
  }

  static func * (factor: Double, a: Matrix) -> Matrix {
    Matrix(a.rows, a.columns) { factor * a[$0, $1] }
  }

  static func + (a: Matrix, b: Matrix) -> Matrix {
    Matrix(a.rows, a.columns) { a[$0, $1] + b[$0, $1] }
  }

  static func - (a: Matrix, b: Matrix) -> Matrix { a + -1 * b }

  func svd() throws -> SVD {
    try values.withUnsafeBufferPointer { try SVD($0, rows: rows, columns: columns, what: "M") }
  }

  /// From the matrix rounded to float32.
  func floatSVD() throws -> SVD {
    try floats.withUnsafeBufferPointer { try SVD($0, rows: rows, columns: columns, what: "M") }
  }
}

extension SVD {
  var left: Matrix { Matrix(rows, count, u) }
  var right: Matrix { Matrix(count, columns, vt) }
  var product: Matrix { left * .diagonal(singularValues.values) * right }
}

extension LowRankPair {
  init(_ b: Matrix, _ a: Matrix) throws {
    self.init(b: try Self.buffer(b), a: try Self.buffer(a), rank: a.rows)
  }

  private static func buffer(_ matrix: Matrix) throws -> FloatBuffer {
    let buffer = try FloatBuffer(count: matrix.values.count, what: "factor")
    for (index, value) in matrix.floats.enumerated() { buffer[index] = value }
    return buffer
  }

  /// B A
  func product(_ outFeatures: Int, _ inFeatures: Int) -> Matrix {
    Matrix(outFeatures, rank, b) * Matrix(rank, inFeatures, a)
  }
}
