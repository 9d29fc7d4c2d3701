import CSupport
import Testing

@testable import Lorasc

/// The products of adapters that have few columns or few rows against sums in float64: at each CPU
/// level, whose kernel or whose library makes them, of both types, any number of rows and columns.
@Suite struct SkinnyTests {
  struct Setup: CustomTestStringConvertible {
    let level: KernelLevel
    let products: MatrixProducts
    let type: PackedProducts.ElementType

    var testDescription: String { "\(level) \(products) \(type)" }
  }

  static let setups = levels.flatMap { level in
    MatrixProducts.allCases.filter(\.isAvailable).flatMap { products in
      // Products in bfloat16 are oneDNN's, or a kernel's in its place.
      (products == .onednn ? [PackedProducts.ElementType.float32, .bfloat16] : [.float32]).map {
        Setup(level: level, products: products, type: $0)
      }
    }
  }

  /// Rows that are apart, in the type, and as float64; what lies between them is NaN.
  private final class Matrix {
    let floats: Guarded<Float>
    let halves: Guarded<UInt16>
    let isBFloat16: Bool
    let exact: [[Double]]

    init(_ rows: Int, _ columns: Int, ld: Int, _ type: PackedProducts.ElementType, seed: UInt64) {
      var random = TestRandom(seed)
      let values = (0..<rows * ld).map {
        $0 % ld < columns ? random.float(in: -1...1) : Float.nan
      }
      isBFloat16 = type == .bfloat16
      let rounded = values.map(SkinnyTests.rounded)
      floats = Guarded(values)
      halves = Guarded(rounded.map { UInt16(truncatingIfNeeded: $0.bitPattern >> 16) })
      let seen = isBFloat16 ? rounded : values
      exact = (0..<rows).map { row in (0..<columns).map { Double(seen[row * ld + $0]) } }
    }

    var values: Values { isBFloat16 ? Values(nil, halves: halves.p) : Values(floats.p) }
  }

  private static func rounded(_ x: Float) -> Float {
    guard !x.isNaN else { return x }
    let bits = x.bitPattern
    return Float(bitPattern: (bits &+ 0x7fff &+ (bits >> 16 & 1)) & 0xffff_0000)
  }

  /// Of a sum's error, of the sum of its terms' sizes.
  private static func bound(_ terms: Int) -> Double {
    (4 + Double(terms).squareRoot() / 2) * 0x1p-24
  }

  static let ranks = [1, 2, 3, 4, 7, 8, 9, 12, 16, 17, 24, 33, 64, 65]

  @Test(arguments: setups, ranks)
  func productsMatchFloat64(setup: Setup, rank: Int) throws {
    let computes = try [1, 2, 4].map {
      try Compute(threads: $0, level: setup.level, products: setup.products)
    }
    let arena = Arena()
    for (rows, inner) in [(1, 64), (3, 33), (4, 1), (13, 100), (200, 48), (257, 34)] {
      let x = Matrix(rows, inner, ld: inner + 3, setup.type, seed: UInt64(rows * 7 + inner))
      var random = TestRandom(UInt64(rank))
      // (inner, rank) and (rank, inner)
      for isTransposed in [false, true] {
        let f = random.floats(inner * rank, in: -1...1)
        let memory = try SkinnyFactor.Memory(inner: inner, rank: rank, setup.type, "factor", arena)
        var first: [UInt32]?
        for compute in computes {
          let p = Guarded(count: rows * rank)
          BLASThreads.withSingleThread {
            f.withUnsafeBufferPointer {
              guard let f = $0.baseAddress else { return }
              let factor = SkinnyFactor(
                f, isTransposed: isTransposed, inner: inner, rank: rank, rows: 1000, memory,
                compute)
              factor.multiplyAll(x.values, ldx: inner + 3, rows: rows, p.p, compute)
            }
          }
          #expect(p.isIntact)
          let bits = bitPatterns(p.values)
          #expect(bits == first ?? bits, "\(rows), \(inner): threads \(compute.threads)")
          first = first ?? bits
          guard compute.threads == 1 else { continue }
          var worst = 0.0
          for row in 0..<rows {
            for j in 0..<rank {
              let share = error(
                p.values[row * rank + j], 0,
                (0..<inner).map { k in
                  let value = f[isTransposed ? j * inner + k : k * rank + j]
                  return x.exact[row][k]
                    * Double(setup.type == .bfloat16 ? Self.rounded(value) : value)
                })
              worst = share.isNaN ? .infinity : max(worst, share)
            }
          }
          #expect(worst < Self.bound(inner), "\(rows), \(inner)")
        }
      }
      #expect(x.floats.isIntact && x.halves.isIntact)
    }
  }

  @Test(arguments: setups, ranks)
  func sumsOverRowsMatchFloat64(setup: Setup, rank: Int) throws {
    let computes = try [1, 2, 4].map {
      try Compute(threads: $0, level: setup.level, products: setup.products)
    }
    for (rows, width) in [(1, 32), (2, 31), (17, 33), (300, 64), (77, 100), (601, 48)] {
      let x = Matrix(rows, width, ld: width + 5, setup.type, seed: UInt64(rows * 7 + width))
      let p = Matrix(rows, rank, ld: rank, setup.type, seed: UInt64(rank))
      var random = TestRandom(3)
      let start = random.floats(rank * width)
      for (alpha, beta) in [(Float(1), Float(0)), (2, 1)] {
        var first: [UInt32]?
        for compute in computes {
          let c = Guarded(beta == 0 ? start.map { _ in .nan } : start)
          let parts = Guarded(count: SumSplit.elements(rank * width, rows))
          let rounded = Guarded([UInt16](repeating: 0x7fc0, count: (rows + 1) * rank))
          BLASThreads.withSingleThread {
            compute.sum(
              rows, rank, width, p.floats.p, rounded: x.isBFloat16 ? rounded.p : nil, x.values,
              ldx: width + 5, c.p, alpha: alpha, beta: beta, parts: parts.p)
          }
          #expect(c.isIntact && parts.isIntact && rounded.isIntact)
          let bits = bitPatterns(c.values)
          #expect(bits == first ?? bits, "\(rows), \(width): threads \(compute.threads)")
          first = first ?? bits
          guard compute.threads == 1 else { continue }
          var worst = 0.0
          for j in 0..<rank {
            for column in 0..<width {
              let at = j * width + column
              let share = error(
                c.p[at], beta == 0 ? 0 : Double(start[at]),
                (0..<rows).map { Double(alpha) * p.exact[$0][j] * x.exact[$0][column] })
              worst = share.isNaN ? .infinity : max(worst, share)
            }
          }
          #expect(worst < Self.bound(rows), "\(rows), \(width), \(alpha), \(beta)")
        }
      }
    }
  }

  @Test(arguments: setups, ranks)
  func additionsMatchFloat64AndAreRoundedWhereTheyAreToBe(setup: Setup, rank: Int) throws {
    let compute = try Compute(threads: 2, level: setup.level, products: setup.products)
    let scale: Float = 0.75
    for (rows, width) in [(1, 16), (3, 33), (5, 48), (14, 64), (61, 96)] {
      let isBFloat16 = setup.type == .bfloat16
      var random = TestRandom(UInt64(rows * 7 + width))
      let (first, ldy, ldr) = (3, width + 5, width + 1)
      let p = random.floats((first + rows) * rank, in: -1...1)
      let f = random.floats(rank * width, in: -1...1)
      let start = random.floats(rows * ldy, in: -1...1)
      let factor = Guarded([UInt16](repeating: 0x7fc0, count: rank * width))
      let projected = Guarded([UInt16](repeating: 0x7fc0, count: (first + rows) * rank))
      func added(_ y: Guarded<Float>, _ halves: UnsafeMutablePointer<UInt16>?) -> Bool {
        BLASThreads.withSingleThread {
          p.withUnsafeBufferPointer { p in
            f.withUnsafeBufferPointer { f in
              guard let p = p.baseAddress, let f = f.baseAddress else { return false }
              let wide = WideFactor(
                f, rank: rank, width: width, rows: 1000, scale: scale,
                isBFloat16
                  ? WideFactor.Memory(factor: factor.p, projected: projected.p) : nil, compute)
              return wide.add(
                p,
                to: TileSums(
                  rows: first..<first + rows, x: Values(nil), ldx: 0, values: y.p, ld: ldy,
                  rounded: halves, ldRounded: ldr), compute)
            }
          }
        }
      }
      let y = Guarded(start)
      #expect(!added(y, nil))
      let usesPairs = factor.values.first != 0x7fc0
      var worst = 0.0
      for row in 0..<rows {
        #expect(
          y.values[row * ldy + width..<(row + 1) * ldy]
            == start[row * ldy + width..<(row + 1) * ldy], "between rows")
        for column in 0..<width {
          let at = row * ldy + column
          let share = error(
            y.values[at], Double(start[at]),
            (0..<rank).map { k in
              let (a, b) = (p[(first + row) * rank + k], f[k * width + column])
              return usesPairs
                ? Double(Self.rounded(a)) * Double(Self.rounded(scale * b))
                : Double(scale) * Double(a) * Double(b)
            })
          worst = share.isNaN ? .infinity : max(worst, share)
        }
      }
      #expect(worst < Self.bound(rank), "\(rows), \(width)")

      let (again, halves) = (Guarded(start), Guarded([UInt16](repeating: 7, count: rows * ldr)))
      let isRounded = added(again, halves.p)
      #expect(isRounded == usesPairs)
      for row in 0..<rows where isRounded {
        var expected = [UInt16](repeating: 7, count: ldr)
        compute.kernels.f32_to_bf16(y.p + row * ldy, &expected, width)
        #expect(Array(halves.values[row * ldr..<(row + 1) * ldr]) == expected)
      }
      if !isRounded { #expect(bitPatterns(again.values) == bitPatterns(y.values)) }
      for memory in [factor, projected, halves] { #expect(memory.isIntact) }
      #expect(y.isIntact && again.isIntact)
    }
  }

  private func error(_ value: Float, _ start: Double, _ terms: [Double]) -> Double {
    let exact = terms.reduce(start, +)
    return abs(Double(value) - exact) / terms.reduce(abs(start)) { $0 + abs($1) }
  }

  @Test(arguments: levels)
  func rowsInPairsAreRoundedRows(level: KernelLevel) throws {
    let kernels = try level.table()
    var random = TestRandom(5)
    for (rows, columns) in [(1, 1), (2, 16), (5, 17), (8, 40), (3, 7)] {
      let x = Guarded(random.floats(rows * (columns + 2)))
      let y = Guarded([UInt16](repeating: 7, count: (rows + 1) / 2 * 2 * columns))
      kernels.pair_rows(x.p, rows, columns, columns + 2, 1, y.p, columns)
      #expect(x.isIntact && y.isIntact)
      for row in 0..<(rows + 1) / 2 * 2 {
        var expected = [UInt16](repeating: 0, count: columns)
        if row < rows { kernels.f32_to_bf16(x.p + row * (columns + 2), &expected, columns) }
        let own = (0..<columns).map { y.p[(row / 2 * columns + $0) * 2 + row % 2] }
        #expect(own == expected, "\(rows), \(columns): row \(row)")
      }
    }
  }
}
