import CSupport
import Testing

@testable import Lorasc

@Suite struct VectorTests {
  static let shapes = [
    (0, 3, 3), (1, 0, 2), (1, 1, 1), (2, 15, 15), (3, 16, 16), (5, 17, 23), (64, 63, 64),
    (65, 64, 64), (130, 70, 71), (200, 129, 129),
  ]

  @Test(arguments: levels, shapes)
  func broadcastRows(level: KernelLevel, shape: (Int, Int, Int)) throws {
    let (rows, cols, ld) = shape
    var random = TestRandom(1)
    let bias = random.floats(cols)
    for given in [bias, nil] {
      let y = Guarded(count: rows * ld, of: 7)
      try level.table().broadcast_rows(given, y.p, rows, cols, ld)
      let exact = (0..<rows * ld).map { $0 % ld < cols ? (given?[$0 % ld] ?? 0) : 7 }
      #expect(y.values == exact && y.isIntact)
    }
  }

  @Test(arguments: levels, shapes)
  func columnSums(level: KernelLevel, shape: (Int, Int, Int)) throws {
    let (rows, cols, ld) = shape
    var random = TestRandom(2)
    let x = random.floats(rows * ld)
    let start = random.floats(cols)
    let out = Guarded(start)
    try level.table().column_sums(x, rows, cols, ld, out.p)
    // The documented order, in float32: bits must agree.
    var exact = start
    for block in stride(from: 0, to: rows, by: 64) {
      for c in 0..<cols {
        var sum: Float = 0
        for r in block..<min(block + 64, rows) { sum += x[r * ld + c] }
        exact[c] += sum
      }
    }
    #expect(bitPatterns(out.values) == bitPatterns(exact) && out.isIntact)
  }

  /// Forward, backward and the form that adds, between rows that are farther apart than they are
  /// long: k (cols); y, x, dx (rows, cols).
  @Test(arguments: levels, shapes)
  func scaledColumns(level: KernelLevel, shape: (Int, Int, Int)) throws {
    let (rows, cols, ld) = shape
    let other = cols + 5
    let kernels = try level.table()
    var random = TestRandom(4)
    let (k, bias) = (random.floats(cols), random.floats(cols))
    let x = random.floats(rows * ld)
    for given in [bias, nil] {
      let y = Guarded(x)
      kernels.scale_columns(k, given, y.p, rows, cols, ld)
      let exact = (0..<rows * ld).map { i in
        let c = i % ld
        guard c < cols else { return Double(x[i]) }
        return Double(k[c]) * Double(x[i]) + Double(given?[c] ?? 0)
      }
      #expect(largestError(y.values, exact) < 2e-7 && y.isIntact)
    }

    let (dy, start) = (random.floats(rows * other), random.floats(cols))
    let (dx, dk) = (Guarded(count: rows * ld, of: 7), Guarded(start))
    kernels.scale_columns_backward(k, dy, x, dx.p, dk.p, rows, cols, other, ld, ld)
    let gradients = (0..<rows * ld).map { i in
      i % ld < cols ? k[i % ld] * dy[i / ld * other + i % ld] : 7
    }
    #expect(dx.values == gradients && dx.isIntact)
    for c in 0..<cols {
      let terms =
        [Double(start[c])] + (0..<rows).map { Double(dy[$0 * other + c]) * Double(x[$0 * ld + c]) }
      let size = terms.reduce(0) { $0 + abs($1) }
      #expect(abs(Double(dk.values[c]) - terms.reduce(0, +)) <= 1e-6 * size)
    }
    #expect(dk.isIntact)

    let total = Guarded(dy)
    kernels.add_scaled_columns(k, x, total.p, rows, cols, ld, other)
    let added = (0..<rows * other).map { i in
      let c = i % other
      return Double(dy[i]) + (c < cols ? Double(k[c]) * Double(x[i / other * ld + c]) : 0)
    }
    #expect(largestError(total.values, added) < 2e-7 && total.isIntact)
  }

  @Test(arguments: levels)
  func fillAndAxpby(level: KernelLevel) throws {
    let kernels = try level.table()
    var random = TestRandom(3)
    for n in lengths {
      let y = Guarded(count: n)
      kernels.fill(2.5, y.p, n)
      #expect(y.values.allSatisfy { $0 == 2.5 } && y.isIntact)

      let x = random.floats(n)
      let old = random.floats(n)
      for (alpha, beta) in [(Float(1), Float(1)), (0.5, 1), (-2, 0.25), (0, 3)] {
        let z = Guarded(old)
        kernels.axpby(alpha, x, beta, z.p, n)
        let exact = zip(x, old).map { Double(alpha) * Double($0) + Double(beta) * Double($1) }
        #expect(largestError(z.values, exact) < 2e-7 && z.isIntact)
      }
      let unread = Guarded(count: n, of: .nan)
      kernels.axpby(3, x, 0, unread.p, n)
      #expect(unread.values == x.map { 3 * $0 } && unread.isIntact)
      let doubled = Guarded(x)
      kernels.axpby(1, doubled.p, 1, doubled.p, n)
      #expect(doubled.values == x.map { 2 * $0 })
    }
  }

  @Test(arguments: levels)
  func dot(level: KernelLevel) throws {
    var random = TestRandom(4)
    for n in lengths {
      let x = random.floats(n)
      let y = random.floats(n)
      let value = try Double(level.table().dot(x, y, n))
      let exact = zip(x, y).reduce(0) { $0 + Double($1.0) * Double($1.1) }
      let size = zip(x, y).reduce(0) { $0 + abs(Double($1.0) * Double($1.1)) }
      #expect(abs(value - exact) <= 1e-6 * size, "n \(n)")
    }
  }

  /// The documented order, so the same bits at every level.
  @Test(arguments: levels)
  func float64SumsInTheDocumentedOrder(level: KernelLevel) throws {
    let kernels = try level.table()
    var random = TestRandom(5)
    for n in lengths + [100_003] {
      let x = random.floats(n, in: -1e3...1e3)
      func inLanes(_ f: (Double) -> Double) -> Double {
        var lanes = [Double](repeating: 0, count: 16)
        for (i, x) in x.enumerated() { lanes[i % 16] += f(Double(x)) }
        return lanes[1...].reduce(lanes[0], +)
      }
      #expect(kernels.sum(x, n).bitPattern == inLanes { $0 }.bitPattern, "n \(n)")
      let center = 0.1
      let exact = inLanes { ($0 - center) * ($0 - center) }
      #expect(
        kernels.sum_squared_deviations(x, center, n).bitPattern == exact.bitPattern, "n \(n)")
    }
  }

  @Test(arguments: levels)
  func maxAbs(level: KernelLevel) throws {
    let kernels = try level.table()
    var random = TestRandom(6)
    #expect(kernels.max_abs([], 0) == 0)
    #expect(kernels.max_abs([-0.0], 1).bitPattern == 0)
    for n in lengths where n > 0 {
      let x = random.floats(n)
      #expect(kernels.max_abs(x, n) == x.map(abs).max())
      for special in [Float.nan, -.nan, .infinity, -.infinity] {
        var y = x
        y[Int(random.word() % UInt64(n))] = special
        #expect(kernels.max_abs(y, n) == .infinity)
      }
      var large = x
      large[n - 1] = -Float.greatestFiniteMagnitude
      #expect(kernels.max_abs(large, n) == .greatestFiniteMagnitude)
    }
  }
}
