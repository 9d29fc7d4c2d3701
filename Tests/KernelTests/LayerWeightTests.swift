import CSupport
import Testing

@testable import Lorasc

/// A layer's products with a matrix that isn't packed, by tiles of rows or at once, against sums in
/// float64: what is added sees the rows of X, what follows sees complete rows, each once; the forward
/// from W or from Wᵀ, whole or by blocks of columns.
@Suite struct LayerWeightTests {
  static let rows = [1, 20, 127, 128, 255, 256, 300, 1024, 1100]
  enum Transposed: CaseIterable { case never, whole, byBlocks }

  private let inner = 19
  private let columns = 35

  /// Rows of `cols`, `ld` apart; the gaps hold NaN, so that reading one shows.
  private func matrix(_ rows: Int, _ cols: Int, _ ld: Int, _ seed: UInt64) -> [Float] {
    var random = TestRandom(seed)
    return (0..<rows * ld).map { $0 % ld < cols ? random.float(in: -1...1) : .nan }
  }

  /// Y = X W + b, and each row's first X is added; W (inner, columns) by a function.
  private func expect(
    _ y: [Float], _ ldy: Int, _ x: [Float], _ ldx: Int, rows: Int, inner: Int, columns: Int,
    _ bias: [Float]?, _ start: [Float]?, _ w: (Int, Int) -> Float
  ) {
    for row in 0..<rows {
      for column in 0..<columns {
        let products = (0..<inner).map { Double(x[row * ldx + $0]) * Double(w($0, column)) }
        let exact =
          products.reduce(0, +) + Double(x[row * ldx]) + Double(bias?[column] ?? 0)
          + Double(start?[row * ldy + column] ?? 0)
        let error = abs(Double(y[row * ldy + column]) - exact)
        #expect(error < 1e-5, "row \(row), column \(column)")
      }
    }
  }

  private func addFirst(_ tile: TileSums, _ columns: Int) -> Bool {
    for row in 0..<tile.rows.count {
      for column in 0..<columns {
        tile.values[row * tile.ld + column] += tile.x.floats?[row * tile.ldx] ?? .nan
      }
    }
    return false
  }

  /// Blocks of 16 columns of Wᵀ, the last of 3.
  private func transposition(_ kind: Transposed, _ arena: Arena) throws -> Transposition? {
    let shapes = [(rows: columns, columns: inner)]
    return switch kind {
    case .never: nil
    case .whole: try Transposition(shapes, arena)
    case .byBlocks: try Transposition(shapes, most: 0, block: 0, arena)
    }
  }

  @Test(arguments: rows, MatrixProducts.allCases.filter(\.isAvailable))
  func forward(rows: Int, products: MatrixProducts) throws {
    for kind in Transposed.allCases { try forward(rows, products, kind) }
  }

  private func forward(_ rows: Int, _ products: MatrixProducts, _ kind: Transposed) throws {
    let (ldx, ldy) = (inner + 3, columns + 2)
    let (w, bias) = (matrix(columns, inner, inner, 1), matrix(1, columns, columns, 2))
    let x = matrix(rows, inner, ldx, 3)
    let (ownW, ownX) = (Guarded(w), Guarded(x))
    let xAt = ownX.p
    let arena = Arena()
    var weight = LayerWeight(inFeatures: inner, outFeatures: columns, source: .float32(ownW.p))
    weight.transposition = try transposition(kind, arena)
    let start = matrix(rows, columns, ldy, 4)
    for (given, adds) in [(nil, false), (bias, false), (nil, true)] {
      var first: [UInt32]?
      for threads in [1, 2, 4] {
        let compute = try Compute(threads: threads, products: products)
        let y = Guarded(adds ? start : start.map { _ in .nan })
        let seen = Guarded([UInt16](repeating: 0, count: rows))
        let (at, seenAt, columns) = (y.p, seen.p, columns)
        BLASThreads.withSingleThread {
          weight.multiply(
            Values(xAt), ldx: ldx, Values(at), ldy: ldy, rows: rows, bias: given, adds: adds,
            compute,
            adding: { addFirst($0, columns) },
            then: { rows, _ in for row in rows where at[row * ldy].isFinite { seenAt[row] += 1 } })
        }
        #expect(y.isIntact && seen.isIntact && seen.values.allSatisfy { $0 == 1 })
        let bits = bitPatterns(y.values)
        #expect(bits == first ?? bits)
        first = bits
        guard threads == 1 else { continue }
        expect(
          y.values, ldy, x, ldx, rows: rows, inner: inner, columns: columns, given,
          adds ? start : nil
        ) { w[$1 * inner + $0] }
      }
    }
    withExtendedLifetime(arena) { #expect(ownW.isIntact && ownX.isIntact) }
  }

  /// Every element of W once, at its place, from blocks of any number of rows.
  @Test(arguments: [1, 15, 16, 17, 48, 100], [1, 7, 16])
  func transposes(rows: Int, columns: Int) throws {
    let compute = try Compute(threads: 2)
    let w = matrix(rows, columns, columns, 8)
    let own = Guarded(w)
    for block in [0, columns * 16 * 3, columns * 16 * 4] {
      let arena = Arena()
      let transposition = try Transposition(
        [(rows: rows, columns: columns)], most: 0, block: block, arena)
      var next = 0
      transposition.forBlocks(own.p, rows: rows, columns: columns, compute) { range, transposed in
        #expect(range.lowerBound == next)
        next = range.upperBound
        for row in range {
          for column in 0..<columns {
            let value = transposed.values[column * transposed.ld + row - range.lowerBound]
            #expect(value == w[row * columns + column])
          }
        }
      }
      withExtendedLifetime(arena) { #expect(next == rows && own.isIntact) }
    }
  }

  /// Of G weighed by columns, or as it is.
  @Test(arguments: rows, MatrixProducts.allCases.filter(\.isAvailable))
  func backward(rows: Int, products: MatrixProducts) throws {
    let (ldg, lddx) = (columns + 3, inner + 2)
    let w = matrix(columns, inner, inner, 1)
    let g = matrix(rows, columns, ldg, 3)
    let (k, other) = (matrix(1, columns, columns, 4), matrix(rows, columns, columns, 5))
    let (ownW, ownG, ownK, ownOther) = (Guarded(w), Guarded(g), Guarded(k), Guarded(other))
    let gAt = ownG.p
    let weight = LayerWeight(inFeatures: inner, outFeatures: columns, source: .float32(ownW.p))
    for isWeighed in [false, true] {
      var first: [UInt32]?
      for threads in [1, 2, 4] {
        let compute = try Compute(threads: threads, products: products)
        let arena = Arena()
        let memory = try WeighedInput.Memory(
          rows: rows, inner: columns, lanes: threads, "weighed", arena)
        let dx = Guarded(matrix(rows, inner, lddx, 6).map { _ in .nan })
        let seen = Guarded([UInt16](repeating: 0, count: rows))
        let sums = Guarded([Float](repeating: 0, count: columns))
        let (at, seenAt, sumsAt, inner) = (dx.p, seen.p, sums.p, inner)
        let weighed = WeighedInput(factors: ownK.p, other: ownOther.p, memory: memory)
        BLASThreads.withSingleThread {
          weight.multiplyTransposed(
            Values(gAt), ldg: ldg, Values(at), lddx: lddx, rows: rows, adds: false,
            weighed: isWeighed ? weighed : nil, compute,
            adding: { addFirst($0, inner) },
            then: { rows, _ in for row in rows where at[row * lddx].isFinite { seenAt[row] += 1 } })
          if isWeighed { weighed.addSums(to: sumsAt, rows: rows, columns, compute) }
        }
        #expect(dx.isIntact && seen.isIntact && seen.values.allSatisfy { $0 == 1 })
        let bits = bitPatterns(dx.values + sums.values)
        #expect(bits == first ?? bits)
        first = bits
        guard threads == 1 else { continue }
        let h = g.indices.map { isWeighed && $0 % ldg < columns ? k[$0 % ldg] * g[$0] : g[$0] }
        expect(
          dx.values, lddx, h, ldg, rows: rows, inner: columns, columns: inner, nil, nil
        ) { w[$0 * inner + $1] }
        for column in 0..<columns where isWeighed {
          let exact = (0..<rows).reduce(0.0) {
            $0 + Double(g[$1 * ldg + column]) * Double(other[$1 * columns + column])
          }
          #expect(abs(Double(sums.values[column]) - exact) < 1e-4)
        }
      }
    }
    #expect(ownW.isIntact && ownG.isIntact && ownK.isIntact && ownOther.isIntact)
  }

  /// Copies past the caches, from and to any place, of rows with and without gaps.
  @Test func copies() {
    var random = TestRandom(7)
    for (n, gap) in [(0, 0), (1, 0), (3, 2), (4, 0), (5, 1), (16, 0), (63, 5), (200, 0)] {
      let (rows, ld) = (3, n + gap)
      let from = random.floats(rows * ld + 3)
      for (first, second) in [(0, 0), (1, 0), (0, 1), (3, 2)] {
        let to = Guarded([Float](repeating: 7, count: rows * n + 3))
        from.withUnsafeBufferPointer { from in
          guard let from = from.baseAddress else { return }
          lorasc_copy_past_caches(from + first, ld, to.p + second, rows, n)
        }
        var expected = [Float](repeating: 7, count: rows * n + 3)
        for row in 0..<rows {
          let (start, place) = (first + row * ld, second + row * n)
          expected.replaceSubrange(place..<place + n, with: from[start..<start + n])
        }
        #expect(to.values == expected && to.isIntact)
      }
    }
  }
}
