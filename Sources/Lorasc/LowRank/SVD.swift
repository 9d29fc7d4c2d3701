/// The economy singular value decomposition of a matrix M (m, n), in float64:
/// M = U diag(σ) Vᵀ with k = min(m, n) singular values.
///
/// Signs: in each right singular vector the element of largest magnitude, the first of equals, is
/// positive. Vectors of equal singular values, and of zero, are one orthonormal basis of many.
/// Equal inputs give equal bits with one version of OpenBLAS, one CPU and one BLAS thread.
struct SVD {
  let rows: Int
  let columns: Int
  /// (m, k), row-major; orthonormal columns.
  let u: DoubleBuffer
  /// σ, (k), falling, none negative.
  let singularValues: DoubleBuffer
  /// (k, n), row-major; orthonormal rows.
  let vt: DoubleBuffer

  var count: Int { singularValues.count }

  /// - Parameters:
  ///   - matrix: (rows, columns), row-major; kept alive by the caller.
  ///   - what: the matrix's name in messages.
  /// - Throws: `.nonFinite` for NaN and infinities, also where σ would be one; `.shape` where
  ///   `matrix` has another count; `.limit` for sizes beyond 32 bits; `.outOfMemory`;
  ///   `.internal` where LAPACK fails, as when its iteration doesn't converge.
  init(_ matrix: UnsafeBufferPointer<Float>, rows: Int, columns: Int, what: String) throws {
    try Self.check(matrix.count, rows, columns, what: what)
    let copy = try DoubleBuffer(count: matrix.count, what: what)
    for (index, value) in matrix.enumerated() { copy.pointer[index] = Double(value) }
    try self.init(overwriting: copy, rows: rows, columns: columns, what: what)
  }

  /// The same of a float64 matrix.
  init(_ matrix: UnsafeBufferPointer<Double>, rows: Int, columns: Int, what: String) throws {
    try Self.check(matrix.count, rows, columns, what: what)
    let copy = try DoubleBuffer(count: matrix.count, what: what)
    for (index, value) in matrix.enumerated() { copy.pointer[index] = value }
    try self.init(overwriting: copy, rows: rows, columns: columns, what: what)
  }

  /// The same without a copy: what `matrix` holds afterwards is unspecified.
  init(overwriting matrix: DoubleBuffer, rows: Int, columns: Int, what: String) throws {
    try Self.check(matrix.count, rows, columns, what: what)
    try matrix.requireFinite(what)
    let k = min(rows, columns)
    u = try DoubleBuffer(count: rows * k, what: "\(what): U")
    singularValues = try DoubleBuffer(count: k, what: "\(what): singular values")
    vt = try DoubleBuffer(count: k * columns, what: "\(what): V")
    self.rows = rows
    self.columns = columns
    try LAPACK.svd(
      matrix, rows: rows, columns: columns, u: u, s: singularValues, vt: vt, what: what)
    try singularValues.requireFinite("the singular values of \(what)")
    try chooseSigns()
  }

  /// U diag(σ) Vᵀ = Q (core) P for a decomposed core (R, R): U = Q U_core, Vᵀ = V_coreᵀ P.
  /// - Parameters:
  ///   - q: (R, rows), row-major: Qᵀ, whose rows are orthonormal.
  ///   - p: (R, columns), row-major; orthonormal rows.
  init(
    core: SVD, between q: DoubleBuffer, rows: Int, and p: DoubleBuffer, columns: Int, what: String
  ) throws {
    let count = core.count
    u = try LAPACK.product(rows, count, count, q, transposeA: true, core.u, what: what)
    singularValues = core.singularValues
    vt = try LAPACK.product(count, columns, count, core.vt, p, what: what)
    self.rows = rows
    self.columns = columns
    try chooseSigns()
  }

  private static func check(_ count: Int, _ rows: Int, _ columns: Int, what: String) throws {
    guard try LAPACK.count(rows, columns, what: what) == count else {
      throw LorascError(
        .shape, "\(what) has \(count) elements where (\(rows), \(columns)) is due", subject: what)
    }
  }

  private func chooseSigns() throws {
    let signs = try DoubleBuffer(count: count, what: "signs of singular vectors")
    for index in 0..<count {
      let row = UnsafeMutableBufferPointer(start: vt.pointer + index * columns, count: columns)
      var largest = 0.0
      for value in row where abs(value) > abs(largest) { largest = value }
      signs.pointer[index] = largest < 0 ? -1 : 1
      if largest < 0 { for column in row.indices { row[column].negate() } }
    }
    for row in 0..<rows {
      for index in 0..<count { u.pointer[row * count + index] *= signs.pointer[index] }
    }
    withExtendedLifetime((u, vt, signs)) {}
  }
}

extension AlignedBuffer where Element: FloatingPoint {
  /// - Throws: `.nonFinite` where one element is NaN or infinite.
  func requireFinite(_ what: String) throws {
    guard withExtendedLifetime(self, { buffer.allSatisfy { $0.isFinite } }) else {
      throw LorascError(.nonFinite, "\(what): holds NaN or infinity", subject: what)
    }
  }
}
