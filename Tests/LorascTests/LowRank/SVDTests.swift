import Testing

@testable import Lorasc

@Suite struct LowRankSVDTests {
  /// Of a matrix with norm about 1.
  static let tolerance = 1e-13
  static let shapes = [
    [1, 1], [7, 7], [5, 3], [3, 5], [60, 4], [4, 60], [1, 9], [9, 1], [40, 33],
  ]

  private func expectDecomposition(_ svd: SVD, of matrix: Matrix, _ location: SourceLocation) {
    let scale = max(matrix.norm, 1)
    let k = min(matrix.rows, matrix.columns)
    #expect(svd.count == k, sourceLocation: location)
    #expect(
      (svd.product - matrix).norm <= Self.tolerance * scale, "U Σ Vᵀ", sourceLocation: location)
    let one = Matrix.diagonal([Double](repeating: 1, count: k))
    #expect(
      (svd.left.transposed * svd.left - one).norm <= Self.tolerance * Double(k), "UᵀU",
      sourceLocation: location)
    #expect(
      (svd.right * svd.right.transposed - one).norm <= Self.tolerance * Double(k), "VᵀV",
      sourceLocation: location)
    let values = svd.singularValues.values
    #expect(zip(values, values.dropFirst()).allSatisfy { $0 >= $1 }, sourceLocation: location)
    #expect(values.allSatisfy { $0 >= 0 }, sourceLocation: location)
    for row in 0..<k {
      let vector = (0..<matrix.columns).map { svd.right[row, $0] }
      #expect(vector.max { abs($0) < abs($1) } ?? 1 > 0, "sign", sourceLocation: location)
    }
  }

  @Test(arguments: shapes) func decomposes(shape: [Int]) throws {
    let matrix = Matrix.random(shape[0], shape[1], seed: UInt64(shape[0] * 64 + shape[1]))
    expectDecomposition(try matrix.svd(), of: matrix, #_sourceLocation)
    expectDecomposition(try matrix.floatSVD(), of: matrix, #_sourceLocation)
    #expect(try matrix.svd().vt.values == matrix.floatSVD().vt.values)
  }

  @Test(arguments: [[20, 30], [30, 20]]) func ofLowerRank(shape: [Int]) throws {
    let matrix = Matrix.random(shape[0], 3, seed: 1) * Matrix.random(3, shape[1], seed: 2)
    let svd = try matrix.svd()
    expectDecomposition(svd, of: matrix, #_sourceLocation)
    #expect(svd.singularValues[2] > 0.1)
    #expect(svd.singularValues.values.dropFirst(3).allSatisfy { $0 < Self.tolerance })
  }

  @Test func ofZeros() throws {
    let matrix = Matrix(4, 3) { _, _ in 0 }
    let svd = try matrix.svd()
    expectDecomposition(svd, of: matrix, #_sourceLocation)
    #expect(svd.singularValues.values == [0, 0, 0])
    #expect(svd.relativeError(rank: 0) == 0)
  }

  /// M = [[3, 0], [4, 5]]: MᵀM has the eigenvalues 45 and 5, for (1, 1) and (1, -1).
  @Test func knownTwoByTwo() throws {
    let svd = try Matrix(2, 2) { [[3, 0], [4, 5]][$0][$1] }.floatSVD()
    #expect(abs(svd.singularValues[0] - 45.0.squareRoot()) < 1e-14)
    #expect(abs(svd.singularValues[1] - 5.0.squareRoot()) < 1e-14)
    let right = [(0.5).squareRoot(), (0.5).squareRoot()]
    let left = [(0.1).squareRoot(), (0.9).squareRoot()]
    for index in 0..<2 {
      #expect(abs(svd.right[0, index] - right[index]) < 1e-14)
      #expect(abs(svd.left[index, 0] - left[index]) < 1e-14)
    }
  }

  /// H₁ Σ H₂ for reflections H: the columns of H₁ and rows of H₂ are the vectors.
  @Test(arguments: [[5, 3], [3, 5]]) func knownVectors(shape: [Int]) throws {
    let (rows, columns) = (shape[0], shape[1])
    let left = Matrix.reflection((0..<rows).map { 1 / Double($0 + 2) })
    let right = Matrix.reflection((0..<columns).map { Double($0 * $0) - 0.7 })
    let values = [8, 2, 0.125]
    let middle = Matrix(rows, columns) { $0 == $1 ? values[$0] : 0 }
    let svd = try (left * middle * right).svd()
    for (index, value) in values.enumerated() {
      #expect(abs(svd.singularValues[index] - value) < 1e-13)
      let vector = (0..<columns).map { right[index, $0] }
      let sign: Double = (vector.max { abs($0) < abs($1) } ?? 1) < 0 ? -1 : 1
      for column in 0..<columns {
        #expect(abs(svd.right[index, column] - sign * right[index, column]) < 1e-12)
      }
      for row in 0..<rows {
        #expect(abs(svd.left[row, index] - sign * left[row, index]) < 1e-12)
      }
    }
  }

  @Test func signOfOneByOne() throws {
    let svd = try Matrix(1, 1) { _, _ in -2.5 }.svd()
    #expect(svd.u.values == [-1] && svd.singularValues.values == [2.5] && svd.vt.values == [1])
  }

  @Test(arguments: [[0, 0], [0, 5], [5, 0]]) func ofNothing(shape: [Int]) throws {
    let svd = try Matrix(shape[0], shape[1]) { _, _ in 0 }.svd()
    #expect(svd.count == 0 && svd.rows == shape[0] && svd.columns == shape[1])
    #expect(svd.u.count == 0 && svd.vt.count == 0)
    #expect(svd.relativeError(rank: 0) == 0)
    let pair = try svd.pair(rank: 2, what: "M")
    #expect(pair.b.values == [Float](repeating: 0, count: shape[0] * 2))
    #expect(pair.a.values == [Float](repeating: 0, count: shape[1] * 2))
  }

  @Test(arguments: [Double.nan, .infinity, -.infinity]) func refusesNonFinite(value: Double) {
    for place in 0..<6 {
      let matrix = Matrix(2, 3) { $0 * 3 + $1 == place ? value : 1 }
      expectFailure(.nonFinite, "M") { _ = try matrix.svd() }
      expectFailure(.nonFinite, "M") { _ = try matrix.floatSVD() }
    }
  }

  @Test func largeAndSmall() throws {
    for scale in [1e-290, 1e300] {
      let svd = try Matrix.diagonal([2 * scale, 4 * scale]).svd()
      #expect(abs(svd.singularValues[0] / scale - 4) < 1e-14)
      #expect(abs(svd.singularValues[1] / scale - 2) < 1e-14)
      #expect(abs(svd.relativeError(rank: 1) - 0.2.squareRoot()) < 1e-14)
    }
    let beyond = Matrix(3, 3) { _, _ in 1.5e308 }
    expectFailure(.nonFinite, "singular values") { _ = try beyond.svd() }
  }

  @Test func refusesSizes() throws {
    let few = try DoubleBuffer(count: 4, what: "few")
    for (rows, columns) in [
      (1 << 31, 1), (1, 1 << 31), (Int.max, Int.max), (1 << 16, 1 << 15), (-1, 4), (-2, -2),
      (1 << 40, 0),
    ] {
      expectFailure(.limit, "M") {
        _ = try SVD(overwriting: few, rows: rows, columns: columns, what: "M")
      }
    }
    expectFailure(.shape, "M", "(2, 3)") {
      _ = try SVD(overwriting: few, rows: 2, columns: 3, what: "M")
    }
    // Refused before anything is read, for LAPACK's workspace alone.
    for (rows, columns) in [(30_000, 30_000), (23_169, 23_169), (1, 1 << 30), (1 << 30, 1)] {
      expectFailure(.limit, "M", "workspace") {
        try LAPACK.svd(few, rows: rows, columns: columns, u: few, s: few, vt: few, what: "M")
      }
    }
  }

  @Test func pairsRefuseScalesAndRanks() throws {
    let svd = try Matrix.random(3, 2, seed: 5).svd()
    for scale in [0, -1, .nan, .infinity] {
      expectFailure(.argument, "scale") { _ = try svd.pair(rank: 1, scale: scale, what: "M") }
    }
    expectFailure(.argument, "rank -1") { _ = try svd.pair(rank: -1, what: "M") }
    expectFailure(.outOfMemory) { _ = try svd.pair(rank: .max, what: "M") }
    expectFailure(.outOfMemory) { _ = try svd.pair(rank: .max / 4, what: "M") }
    let huge = try Matrix.diagonal([1e100]).svd()
    expectFailure(.nonFinite, "M") { _ = try huge.pair(rank: 1, what: "M") }
  }
}
