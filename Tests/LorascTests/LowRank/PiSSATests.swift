import Testing

@testable import Lorasc

@Suite struct LowRankPiSSATests {
  private func factors(_ weight: Matrix, rank: Int, scale: Float) throws -> LowRankPair {
    try weight.floats.withUnsafeBufferPointer {
      try PiSSA.factors(
        of: $0, outFeatures: weight.rows, inFeatures: weight.columns, rank: rank, scale: scale,
        what: "query.weight")
    }
  }

  @Test(arguments: [[12, 20], [20, 12], [9, 9]], [Float(1), 0.25, 3])
  func residualHasTheTail(shape: [Int], scale: Float) throws {
    let weight = Matrix.random(shape[0], shape[1], seed: 3)
    let rank = 4
    let pair = try factors(weight, rank: rank, scale: scale)
    #expect(pair.rank == rank)
    #expect(pair.b.count == shape[0] * rank && pair.a.count == rank * shape[1])
    let residual = weight - Double(scale) * pair.product(shape[0], shape[1])
    let all = try weight.svd().singularValues.values
    let tail = try residual.svd().singularValues.values
    for (index, value) in all.dropFirst(rank).enumerated() {
      #expect(abs(tail[index] - value) < 2e-6)
    }
    #expect(tail.suffix(rank).allSatisfy { $0 < 2e-6 })
    #expect(tail[0] > 0.1)
  }

  /// Both sides have the squared norms σ_i / s.
  @Test func sharesTheValuesBetweenBothSides() throws {
    let weight = Matrix.random(8, 11, seed: 4)
    let pair = try factors(weight, rank: 3, scale: 2)
    let b = Matrix(8, 3, pair.b)
    let a = Matrix(3, 11, pair.a)
    let values = try weight.svd().singularValues.values
    let expected = Matrix.diagonal(values.prefix(3).map { $0 / 2 })
    #expect((b.transposed * b - expected).norm < 1e-6)
    #expect((a * a.transposed - expected).norm < 1e-6)
  }

  @Test func knownFactors() throws {
    let weight = Matrix(3, 2) { [[0, 18], [-2, 0], [0, 0]][$0][$1] }
    let pair = try factors(weight, rank: 2, scale: 2)
    #expect(pair.b.values == [3, 0, 0, -1, 0, 0])
    #expect(pair.a.values == [0, 3, 1, 0])
  }

  @Test func padsBeyondTheWeight() throws {
    let weight = Matrix.random(2, 3, seed: 6)
    let pair = try factors(weight, rank: 5, scale: 1)
    #expect((pair.product(2, 3) - weight).norm < 1e-6)
    #expect(pair.a.values.suffix(9) == [Float](repeating: 0, count: 9)[...])
    #expect(pair.b.count == 10 && pair.b[2] == 0 && pair.b[9] == 0 && pair.b[5] != 0)
  }

  @Test func refuses() {
    expectFailure(.nonFinite, "query.weight") {
      _ = try factors(Matrix(2, 2) { _, _ in .nan }, rank: 1, scale: 1)
    }
    for scale in [Float(0), -1, .nan, .infinity] {
      expectFailure(.argument, "query.weight", "scale") {
        _ = try factors(Matrix.random(2, 2, seed: 7), rank: 1, scale: scale)
      }
    }
  }
}
