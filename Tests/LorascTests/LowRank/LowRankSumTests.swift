import Testing

@testable import Lorasc

@Suite struct LowRankSumTests {
  /// Random terms and their sum.
  private struct Case {
    let sum: LowRankSum
    let dense: Matrix

    init(_ outFeatures: Int, _ inFeatures: Int, ranks: [Int], weights: [Double]) throws {
      var terms: [LowRankTerm] = []
      var dense = Matrix(outFeatures, inFeatures) { _, _ in 0 }
      for (index, (rank, weight)) in zip(ranks, weights).enumerated() {
        let b = Matrix.random(outFeatures, rank, seed: UInt64(index * 2 + 10))
        let a = Matrix.random(rank, inFeatures, seed: UInt64(index * 2 + 11))
        terms.append(LowRankTerm(try LowRankPair(b, a), weight: weight))
        dense = dense + weight * (b * a)
      }
      sum = try LowRankSum(
        outFeatures: outFeatures, inFeatures: inFeatures, terms: terms, what: "sum")
      self.dense = dense
    }
  }

  /// (out, in), ranks: R below, at and above min(out, in).
  static let cases: [([Int], [Int])] = [
    ([20, 30], [3, 2, 4]), ([30, 20], [3, 2, 4]), ([9, 12], [5, 4]), ([12, 9], [5, 4]),
    ([6, 40], [4, 4, 4]), ([40, 6], [4, 4, 4]), ([5, 5], [8]), ([1, 1], [1]), ([7, 4], [0, 2]),
    ([1, 8], [1, 1]),
  ]
  static let weights = [0.7, -1.3, 0.05]

  @Test(arguments: cases) func stackedIsTheSum(shape: [Int], ranks: [Int]) throws {
    let item = try Case(shape[0], shape[1], ranks: ranks, weights: Self.weights)
    let pair = try item.sum.stacked()
    #expect(pair.rank == ranks.reduce(0, +))
    #expect(pair.b.count == shape[0] * pair.rank && pair.a.count == pair.rank * shape[1])
    #expect((pair.product(shape[0], shape[1]) - item.dense).norm < 1e-6 * item.dense.norm)
    #expect(item.dense.norm > 0.01)
  }

  /// A is copied to the bit; B as well for weight 1, and rounded once for others.
  @Test func stackedLayout() throws {
    let first = try LowRankPair(Matrix(2, 1) { r, _ in [0.1, 2][r] }, Matrix(1, 3) { Double($1) })
    let second = try LowRankPair(
      Matrix(2, 2) { [[3, 4], [5, 6]][$0][$1] }, Matrix(2, 3) { Double($0 * 3 + $1 + 10) })
    let pair = try LowRankSum(
      outFeatures: 2, inFeatures: 3,
      terms: [LowRankTerm(first, weight: 1), LowRankTerm(second, weight: 0.1)], what: "sum"
    ).stacked()
    #expect(pair.b.values == [0.1, 0.3, 0.4, 2, 0.5, 0.6])
    #expect(pair.a.values == [0, 1, 2, 10, 11, 12, 13, 14, 15])
  }

  @Test(arguments: cases) func truncatedIsTheBest(shape: [Int], ranks: [Int]) throws {
    let item = try Case(shape[0], shape[1], ranks: ranks, weights: Self.weights)
    let values = try item.dense.svd().singularValues.values
    let all = values.reduce(0) { $0 + $1 * $1 }
    for rank in 0...min(shape[0], shape[1]) + 2 {
      let truncation = try item.sum.truncated(to: rank)
      let pair = truncation.pair
      #expect(pair.rank == rank)
      #expect(pair.b.count == shape[0] * rank && pair.a.count == rank * shape[1])
      let tail = values.dropFirst(rank).reduce(0) { $0 + $1 * $1 }
      let expected = (tail / all).squareRoot()
      #expect(abs(truncation.relativeError - expected) < 1e-12)
      let found = (pair.product(shape[0], shape[1]) - item.dense).norm / item.dense.norm
      #expect(abs(found - expected) < 1e-6)
      if rank >= min(ranks.reduce(0, +), shape[0], shape[1]) {
        #expect(truncation.relativeError == 0)
      }
    }
  }

  /// Vectors too, not just the values: equal to the dense decomposition's.
  @Test(arguments: cases) func decompositionIsTheDenseOne(shape: [Int], ranks: [Int]) throws {
    let item = try Case(shape[0], shape[1], ranks: ranks, weights: Self.weights)
    let svd = try item.sum.svd()
    let dense = try item.dense.svd()
    #expect(svd.count == min(ranks.reduce(0, +), shape[0], shape[1]))
    #expect((svd.product - item.dense).norm < 1e-13 * max(1, item.dense.norm))
    for index in 0..<svd.count {
      #expect(abs(svd.singularValues[index] - dense.singularValues[index]) < 1e-13)
      for column in 0..<shape[1] {
        #expect(abs(svd.right[index, column] - dense.right[index, column]) < 1e-10)
      }
      for row in 0..<shape[0] {
        #expect(abs(svd.left[row, index] - dense.left[row, index]) < 1e-10)
      }
    }
  }

  @Test func truncatedSharesTheValuesAndPads() throws {
    let item = try Case(10, 8, ranks: [2, 1], weights: [1, 1])
    let pair = try item.sum.truncated(to: 5).pair
    let values = try item.dense.svd().singularValues.values
    let expected = Matrix.diagonal(Array(values.prefix(3)) + [0, 0])
    let b = Matrix(10, 5, pair.b)
    let a = Matrix(5, 8, pair.a)
    #expect((b.transposed * b - expected).norm < 1e-5)
    #expect((a * a.transposed - expected).norm < 1e-5)
    #expect(a.values.suffix(16).allSatisfy { $0 == 0 } && (0..<10).allSatisfy { b[$0, 4] == 0 })
  }

  /// The same pair twice: rank 2, though R is 4.
  @Test func errorIsZeroFromTheNumericalRankOn() throws {
    let pair = try LowRankPair(.random(16, 2, seed: 1), .random(2, 12, seed: 2))
    let terms = [LowRankTerm(pair, weight: 0.3), LowRankTerm(pair, weight: 0.6)]
    let sum = try LowRankSum(outFeatures: 16, inFeatures: 12, terms: terms, what: "sum")
    #expect(try sum.truncated(to: 1).relativeError > 0.01)
    #expect(try sum.truncated(to: 2).relativeError == 0)
  }

  @Test(arguments: [[16, 12], [3, 4]]) func termsThatCancelAreZero(shape: [Int]) throws {
    let pair = try LowRankPair(.random(shape[0], 2, seed: 1), .random(2, shape[1], seed: 2))
    let terms = [LowRankTerm(pair, weight: 0.3), LowRankTerm(pair, weight: -0.3)]
    let sum = try LowRankSum(
      outFeatures: shape[0], inFeatures: shape[1], terms: terms, what: "sum")
    let truncation = try sum.truncated(to: 1)
    #expect(truncation.relativeError == 0)
    #expect(truncation.pair.b.values.allSatisfy { $0 == 0 })
    #expect(truncation.pair.a.values.allSatisfy { $0 == 0 })
  }

  /// Factors of very different size, whose products are not: none is taken for rounding.
  @Test func unbalancedTermsCount() throws {
    let terms = try [1e12, 1e-12].enumerated().map { index, size in
      LowRankTerm(
        try LowRankPair(
          Matrix(6, 1) { row, _ in row == index ? size : 0 },
          Matrix(1, 5) { _, column in column == index ? 1 / size : 0 }),
        weight: 1 / Double(index + 1))
    }
    let sum = try LowRankSum(outFeatures: 6, inFeatures: 5, terms: terms, what: "sum")
    #expect(abs(try sum.truncated(to: 1).relativeError - 0.2.squareRoot()) < 1e-6)
  }

  @Test func nothing() throws {
    let empty = try LowRankSum(outFeatures: 3, inFeatures: 2, terms: [], what: "sum")
    #expect(try empty.stacked().rank == 0)
    let truncation = try empty.truncated(to: 2)
    #expect(truncation.relativeError == 0)
    #expect(truncation.pair.b.values == [0, 0, 0, 0, 0, 0])
    #expect(truncation.pair.a.values == [0, 0, 0, 0])
    for (rows, columns) in [(0, 4), (4, 0), (0, 0)] {
      let pair = try LowRankPair(.random(rows, 2, seed: 1), Matrix(2, columns) { _, _ in 1 })
      let sum = try LowRankSum(
        outFeatures: rows, inFeatures: columns, terms: [LowRankTerm(pair, weight: 1)], what: "sum")
      #expect(try sum.stacked().a.count == 2 * columns)
      #expect(try sum.truncated(to: 1).relativeError == 0)
    }
  }

  @Test func refuses() throws {
    func sum(_ pair: LowRankPair, _ weight: Double) throws -> LowRankSum {
      try LowRankSum(
        outFeatures: 2, inFeatures: 2, terms: [LowRankTerm(pair, weight: weight)], what: "sum")
    }
    let good = Matrix.random(2, 1, seed: 1)
    let bad = Matrix(2, 1) { row, _ in row == 1 ? .nan : 1 }
    for (b, a, weight) in [
      (bad, good, 1), (good, bad, 1), (good, good, Double.nan), (good, good, .infinity),
    ] {
      let pair = try LowRankPair(b, a.transposed)
      expectFailure(.nonFinite, "sum") { _ = try sum(pair, weight).stacked() }
      expectFailure(.nonFinite, "sum") { _ = try sum(pair, weight).truncated(to: 1) }
    }
    let pair = try LowRankPair(good, good.transposed)
    // In range for float64, not for float32.
    expectFailure(.nonFinite, "sum") { _ = try sum(pair, 1e60).stacked() }
    expectFailure(.nonFinite, "sum") { _ = try sum(pair, 1e100).truncated(to: 1) }
    expectFailure(.argument, "rank -1") { _ = try sum(pair, 1).truncated(to: -1) }
    expectFailure(.shape, "term 1 of sum") {
      _ = try sum(LowRankPair(.random(3, 1, seed: 1), good.transposed), 1)
    }
    expectFailure(.shape, "term 1 of sum") {
      _ = try sum(LowRankPair(good, .random(1, 3, seed: 1)), 1)
    }
    for rank in [-1, 1 << 31, Int.max] {
      let term = LowRankTerm(
        b: UnsafeBufferPointer(pair.b.buffer), a: UnsafeBufferPointer(pair.a.buffer), rank: rank,
        weight: 1, owners: [pair.b, pair.a])
      expectFailure(.limit, "sum") {
        _ = try LowRankSum(outFeatures: 2, inFeatures: 2, terms: [term], what: "sum")
      }
    }
    expectFailure(.limit, "sum") {
      _ = try LowRankSum(outFeatures: -1, inFeatures: 2, terms: [], what: "sum")
    }
  }
}
