import CSupport
import Glibc
import Testing

@testable import Lorasc

@Suite struct LayerNormTests {
  static let shapes = [
    (0, 16), (1, 1), (3, 2), (2, 15), (3, 16), (3, 17), (2, 31), (4, 33), (5, 48), (2, 100),
    (7, 384), (2, 1000), (1, 4096),
  ]

  struct Reference {
    var sum: [Double] = []
    var y: [Double] = []
    var mean: [Double] = []
    var rstd: [Double] = []

    init(_ x: [Float], _ residual: [Float]?, _ gamma: [Float], _ beta: [Float], _ rows: Int) {
      let cols = gamma.count
      for r in 0..<rows {
        // The sum is rounded to float32, that is what is normalised.
        let s = (0..<cols).map { Double(x[r * cols + $0] + (residual?[r * cols + $0] ?? 0)) }
        let m = s.reduce(0, +) / Double(cols)
        let v = s.reduce(0) { $0 + ($1 - m) * ($1 - m) } / Double(cols)
        let k = 1 / (v + Double(Float(1e-12))).squareRoot()
        sum += s
        mean.append(m)
        rstd.append(k)
        y += (0..<cols).map { (s[$0] - m) * k * Double(gamma[$0]) + Double(beta[$0]) }
      }
    }
  }

  @Test(arguments: levels, shapes)
  func forward(level: KernelLevel, shape: (Int, Int)) throws {
    let kernels = try level.table()
    let (rows, cols) = shape
    var random = TestRandom(UInt64(rows * 10007 + cols))
    let x = random.floats(rows * cols)
    let residual = random.floats(rows * cols, in: -1...3)
    let gamma = random.floats(cols, in: 0.5...1.5)
    let beta = random.floats(cols)
    for other in [residual, nil] {
      let exact = Reference(x, other, gamma, beta, rows)
      let (sum, y) = (Guarded(count: x.count), Guarded(count: x.count))
      let (mean, rstd) = (Guarded(count: rows), Guarded(count: rows))
      kernels.layer_norm_forward(
        x, other, gamma, beta, 1e-12, sum.p, y.p, nil, mean.p, rstd.p, rows, cols)
      #expect(sum.isIntact && y.isIntact && mean.isIntact && rstd.isIntact)
      #expect(sum.values.map(Double.init) == exact.sum)
      // One column: the variance is eps alone, an error of the mean would be blown up.
      #expect(largestError(y.values, exact.y) < 1.5e-6)
      #expect(largestError(mean.values, exact.mean) < 3e-7)
      #expect(largestError(rstd.values, exact.rstd) < 5e-7)

      let inPlace = Guarded(x)
      let again = Guarded(count: x.count)
      kernels.layer_norm_forward(
        inPlace.p, other, gamma, beta, 1e-12, inPlace.p, again.p, nil, nil, nil, rows, cols)
      #expect(bitPatterns(inPlace.values) == bitPatterns(sum.values) && inPlace.isIntact)
      #expect(bitPatterns(again.values) == bitPatterns(y.values))

      // Output over the input, with the sum elsewhere, and over the sum.
      let over = Guarded(x)
      kernels.layer_norm_forward(
        over.p, other, gamma, beta, 1e-12, again.p, over.p, nil, nil, nil, rows, cols)
      #expect(bitPatterns(over.values) == bitPatterns(y.values))
    }
  }

  /// Mean 1000 times the deviation: a one-pass variance would be lost in rounding.
  @Test(arguments: levels)
  func largeMean(level: KernelLevel) throws {
    var random = TestRandom(5)
    let cols = 384
    let x = random.floats(cols, in: 999...1001)
    let ones = [Float](repeating: 1, count: cols)
    let zeros = [Float](repeating: 0, count: cols)
    let exact = Reference(x, nil, ones, zeros, 1)
    let (sum, y) = (Guarded(count: cols), Guarded(count: cols))
    try level.table().layer_norm_forward(
      x, nil, ones, zeros, 1e-12, sum.p, y.p, nil, nil, nil, 1, cols)
    #expect(largestError(y.values, exact.y) < 5e-7)
  }

  @Test(arguments: levels)
  func constantRowsAndNaN(level: KernelLevel) throws {
    let kernels = try level.table()
    let cols = 20
    let x = [Float](repeating: 3, count: cols) + [Float](repeating: .nan, count: cols)
    let ones = [Float](repeating: 1, count: cols)
    let (sum, y) = (Guarded(count: 2 * cols), Guarded(count: 2 * cols))
    kernels.layer_norm_forward(x, nil, ones, ones, 1e-5, sum.p, y.p, nil, nil, nil, 2, cols)
    #expect(y.values[..<cols].allSatisfy { $0 == 1 })
    #expect(y.values[cols...].allSatisfy { $0.isNaN })
  }

  @Test(arguments: levels, shapes)
  func backward(level: KernelLevel, shape: (Int, Int)) throws {
    let kernels = try level.table()
    let (rows, cols) = shape
    guard cols > 1 else { return }
    var random = TestRandom(UInt64(rows * 10007 + cols))
    let s = random.floats(rows * cols)
    let dy = random.floats(rows * cols)
    let gamma = random.floats(cols, in: 0.5...1.5)
    let start = random.floats(cols)
    let reference = Reference(s, nil, gamma, gamma, rows)
    let mean = reference.mean.map(Float.init)
    let rstd = reference.rstd.map(Float.init)
    var dx: [Double] = []
    var dgamma = start.map(Double.init)
    var dbeta = dgamma
    for r in 0..<rows {
      let at = r * cols
      let k = Double(rstd[r])
      let h = (0..<cols).map { (Double(s[at + $0]) - Double(mean[r])) * k }
      let g = (0..<cols).map { Double(dy[at + $0]) * Double(gamma[$0]) }
      let a = g.reduce(0, +) / Double(cols)
      let b = zip(g, h).reduce(0) { $0 + $1.0 * $1.1 } / Double(cols)
      for c in 0..<cols {
        dx.append(k * (g[c] - a - h[c] * b))
        dgamma[c] += Double(dy[at + c]) * h[c]
        dbeta[c] += Double(dy[at + c])
      }
    }
    let out = Guarded(count: dy.count)
    let (outGamma, outBeta) = (Guarded(start), Guarded(start))
    kernels.layer_norm_backward(
      dy, s, gamma, mean, rstd, nil, out.p, nil, outGamma.p, outBeta.p, rows, cols)
    #expect(out.isIntact && outGamma.isIntact && outBeta.isIntact)
    #expect(largestError(out.values, dx) < 2e-6)
    #expect(largestError(outGamma.values, dgamma) < 2e-6)
    #expect(largestError(outBeta.values, dbeta) < 2e-6)

    let inPlace = Guarded(dy)
    kernels.layer_norm_backward(
      inPlace.p, s, gamma, mean, rstd, nil, inPlace.p, nil, nil, nil, rows, cols)
    #expect(bitPatterns(inPlace.values) == bitPatterns(out.values) && inPlace.isIntact)
  }
}

@Suite struct SoftmaxTests {
  static let shapes = [
    (0, 4, 4), (1, 1, 1), (3, 1, 5), (2, 2, 2), (3, 15, 15), (3, 16, 20), (4, 17, 17), (3, 33, 40),
    (5, 64, 64), (2, 127, 130), (2, 500, 512), (16, 64, 64), (17, 64, 70), (40, 33, 40),
    (3, 1500, 1500), (2, 5000, 5001),
  ]

  /// Rows of `cols` elements `ld` apart; what lies between must stay.
  private func matrix(_ rows: Int, _ cols: Int, _ ld: Int, _ seed: UInt64) -> [Float] {
    var random = TestRandom(seed)
    return (0..<rows * ld).map { $0 % ld < cols ? random.float(in: -20...20) : 777 }
  }

  private func reference(_ x: [Float], _ rows: Int, _ cols: Int, _ ld: Int, _ scale: Double) -> (
    p: [Double], lse: [Double]
  ) {
    var p = x.map(Double.init)
    var lse: [Double] = []
    for r in 0..<rows {
      let row = (0..<cols).map { scale * Double(x[r * ld + $0]) }
      let top = row.max() ?? 0
      let total = row.reduce(0) { $0 + exp($1 - top) }
      lse.append(top + log(total))
      for c in 0..<cols { p[r * ld + c] = exp(row[c] - top) / total }
    }
    return (p, lse)
  }

  @Test(arguments: levels, shapes)
  func forwardAndAgain(level: KernelLevel, shape: (Int, Int, Int)) throws {
    let kernels = try level.table()
    let (rows, cols, ld) = shape
    let x = matrix(rows, cols, ld, 3)
    for scale in [Float(1), 0.125, 0] {
      let exact = reference(x, rows, cols, ld, Double(scale))
      let p = Guarded(x)
      let lse = Guarded(count: rows)
      kernels.softmax_forward(p.p, rows, cols, ld, scale, lse.p, nil)
      #expect(p.isIntact && lse.isIntact)
      #expect(largestError(p.values, exact.p) < 4e-7)
      #expect(largestError(lse.values, exact.lse) < 1.2e-7)
      // Small probabilities are right to their own last places too; at scale 1 the argument's
      // rounding, |x| <= 40, counts 40 times.
      let relative = zip(p.values, exact.p).reduce(0) { max($0, abs(Double($1.0) / $1.1 - 1)) }
      #expect(relative < 3e-6)

      let without = Guarded(x)
      kernels.softmax_forward(without.p, rows, cols, ld, scale, nil, nil)
      #expect(bitPatterns(without.values) == bitPatterns(p.values))

      let again = Guarded(x)
      let strided = Guarded(count: rows * 3, of: 0)
      for r in 0..<rows { strided.p[3 * r] = lse.p[r] }
      kernels.softmax_again(again.p, rows, cols, ld, scale, strided.p, 3, nil)
      #expect(again.isIntact && largestError(again.values, exact.p) < 3e-6)
    }
  }

  @Test(arguments: levels, shapes)
  func backward(level: KernelLevel, shape: (Int, Int, Int)) throws {
    let (rows, cols, ld) = shape
    let p = reference(matrix(rows, cols, ld, 4), rows, cols, ld, 0.25).p.map(Float.init)
    let dp = matrix(rows, cols, ld, 5)
    let out = Guarded(dp)
    try level.table().softmax_backward(p, out.p, rows, cols, ld, 0.25, nil)
    var exact = dp.map(Double.init)
    for r in 0..<rows {
      let row = r * ld..<r * ld + cols
      let delta = row.reduce(0) { $0 + Double(p[$1]) * Double(dp[$1]) }
      for i in row { exact[i] = 0.25 * Double(p[i]) * (Double(dp[i]) - delta) }
    }
    // |dp| is up to 20.
    #expect(out.isIntact && largestError(out.values, exact) < 4e-6)
  }

  @Test(arguments: levels)
  func specialRows(level: KernelLevel) throws {
    let kernels = try level.table()
    for cols in [2, 5, 16, 19, 40] {
      // All equal and huge; one -inf; a NaN; +inf; nothing but -inf.
      let same = [Float](repeating: 3e38, count: cols)
      var masked = [Float](repeating: 1, count: cols)
      masked[cols - 1] = -.infinity
      var broken = masked
      broken[cols - 1] = .nan
      var infinite = masked
      infinite[0] = .infinity
      let nothing = [Float](repeating: -.infinity, count: cols)
      let x = Guarded(same + masked + broken + infinite + nothing)
      let lse = Guarded(count: 5)
      kernels.softmax_forward(x.p, 5, cols, cols, 1, lse.p, nil)
      let rows = (0..<5).map { Array(x.values[$0 * cols..<($0 + 1) * cols]) }
      #expect(rows[0].allSatisfy { abs($0 * Float(cols) - 1) < 1e-6 })
      #expect(lse.p[0] == 3e38)
      #expect(rows[1][cols - 1] == 0)
      #expect(rows[1].dropLast().allSatisfy { abs($0 * Float(cols - 1) - 1) < 1e-6 })
      for r in 2..<5 {
        #expect(rows[r].allSatisfy { $0.isNaN }, "row \(r) of \(cols)")
        #expect(lse.p[r].isNaN)
      }
    }
  }

  /// exp of what is not above 0, through `softmax_again` with lse 0.
  @Test(arguments: levels)
  func exponential(level: KernelLevel) throws {
    let kernels = try level.table()
    let lse: [Float] = [0]
    var x: [Float] = []
    for i in -873_300...0 { x.append(Float(i) / 10000) }
    let y = Guarded(x)
    kernels.softmax_again(y.p, 1, x.count, x.count, 1, lse, 1, nil)
    var worst = (0.0, Float(0))
    for (x, y) in zip(x, y.values) where ulps(y, exp(Double(x))) > worst.0 {
      worst = (ulps(y, exp(Double(x))), x)
    }
    #expect(worst.0 <= 1, "\(worst)")

    let special = Guarded([-.infinity, -1e30, -200, -104, -88, 0, -0.0, .nan])
    kernels.softmax_again(special.p, 1, 8, 8, 1, lse, 1, nil)
    let values = special.values
    #expect(Array(values.dropLast()) == [0, 0, 0, 0, 0, 1, 1])
    #expect(values[7].isNaN)
  }
}
