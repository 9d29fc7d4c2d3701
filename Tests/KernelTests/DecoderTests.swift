import CSupport
import Glibc
import Testing

@testable import Lorasc

/// RMSNorm, gates and rotary positions against their formulas in float64.
@Suite struct DecoderTests {
  static let shapes = [
    (0, 16), (1, 1), (3, 2), (2, 15), (3, 16), (3, 17), (4, 33), (2, 100), (3, 576),
  ]

  @Test(arguments: levels, shapes)
  func rmsNormForward(level: KernelLevel, shape: (Int, Int)) throws {
    let kernels = try level.table()
    let (rows, cols) = shape
    var random = TestRandom(UInt64(rows * 31 + cols))
    let (x, residual) = (random.floats(rows * cols), random.floats(rows * cols, in: -1...2))
    let gamma = random.floats(cols, in: 0.5...1.5)
    for other in [residual, nil] {
      let (sum, y, rstd) = (Guarded(count: x.count), Guarded(count: x.count), Guarded(count: rows))
      kernels.rms_norm_forward(x, other, gamma, 1e-5, sum.p, y.p, nil, rstd.p, rows, cols)
      #expect(sum.isIntact && y.isIntact && rstd.isIntact)
      for r in 0..<rows {
        let s = (0..<cols).map { Double(x[r * cols + $0] + (other?[r * cols + $0] ?? 0)) }
        let k = 1 / (s.reduce(0) { $0 + $1 * $1 } / Double(cols) + Double(Float(1e-5))).squareRoot()
        #expect(sum.values[r * cols..<(r + 1) * cols].map(Double.init) == s)
        #expect(abs(Double(rstd.values[r]) / k - 1) < 5e-7)
        for c in 0..<cols {
          #expect(abs(Double(y.values[r * cols + c]) - s[c] * k * Double(gamma[c])) < 2e-6)
        }
      }
      let inPlace = Guarded(x)
      kernels.rms_norm_forward(inPlace.p, other, gamma, 1e-5, inPlace.p, y.p, nil, nil, rows, cols)
      #expect(bitPatterns(inPlace.values) == bitPatterns(sum.values))
    }
  }

  @Test(arguments: levels, shapes)
  func rmsNormBackward(level: KernelLevel, shape: (Int, Int)) throws {
    let kernels = try level.table()
    let (rows, cols) = shape
    var random = TestRandom(UInt64(rows * 37 + cols))
    let (dy, s) = (random.floats(rows * cols), random.floats(rows * cols))
    let (gamma, add) = (random.floats(cols, in: 0.5...1.5), random.floats(rows * cols))
    let (rstd, start) = (random.floats(rows, in: 0.5...2), random.floats(cols))
    var dgamma = start.map(Double.init)
    for other in [add, nil] {
      let (dx, dg) = (Guarded(count: dy.count), Guarded(start))
      dgamma = start.map(Double.init)
      kernels.rms_norm_backward(dy, s, gamma, rstd, other, dx.p, nil, dg.p, rows, cols)
      for r in 0..<rows {
        let row = r * cols..<(r + 1) * cols
        let h = s[row].map { Double($0) * Double(rstd[r]) }
        let g = zip(dy[row], gamma).map { Double($0) * Double($1) }
        let average = zip(g, h).reduce(0) { $0 + $1.0 * $1.1 } / Double(cols)
        for c in 0..<cols {
          let expected =
            Double(other?[r * cols + c] ?? 0) + Double(rstd[r]) * (g[c] - h[c] * average)
          #expect(abs(Double(dx.values[r * cols + c]) - expected) < 4e-6)
          dgamma[c] += Double(dy[r * cols + c]) * h[c]
        }
      }
      #expect(dx.isIntact && dg.isIntact)
      #expect(largestError(dg.values, dgamma) < 4e-6)
      let over = Guarded(dy)
      kernels.rms_norm_backward(over.p, s, gamma, rstd, other, over.p, nil, nil, rows, cols)
      #expect(bitPatterns(over.values) == bitPatterns(dx.values))
    }
    let sum = Guarded(add)
    let apart = Guarded(count: dy.count)
    kernels.rms_norm_backward(dy, s, gamma, rstd, sum.p, sum.p, nil, nil, rows, cols)
    kernels.rms_norm_backward(dy, s, gamma, rstd, add, apart.p, nil, nil, rows, cols)
    #expect(bitPatterns(sum.values) == bitPatterns(apart.values))
  }

  /// What is added to LayerNorm's gradient, in place too.
  @Test(arguments: levels, shapes)
  func layerNormAdds(level: KernelLevel, shape: (Int, Int)) throws {
    let kernels = try level.table()
    let (rows, cols) = shape
    var random = TestRandom(UInt64(rows * 41 + cols))
    let (dy, s, add) = (
      random.floats(rows * cols), random.floats(rows * cols), random.floats(rows * cols)
    )
    let (gamma, mean) = (random.floats(cols), random.floats(rows))
    let rstd = random.floats(rows, in: 0.5...2)
    let (plain, added) = (Guarded(count: dy.count), Guarded(add))
    kernels.layer_norm_backward(dy, s, gamma, mean, rstd, nil, plain.p, nil, nil, nil, rows, cols)
    kernels.layer_norm_backward(
      dy, s, gamma, mean, rstd, added.p, added.p, nil, nil, nil, rows, cols)
    #expect(added.isIntact)
    for index in dy.indices {
      #expect(added.values[index] == add[index] + plain.values[index])
    }
  }

  @Test(arguments: levels, [0, 1, 15, 16, 17, 40, 1000])
  func gates(level: KernelLevel, count: Int) throws {
    let kernels = try level.table()
    var random = TestRandom(UInt64(count + 3))
    let (gate, up) = (random.floats(count, in: -4...4), random.floats(count))
    let dy = random.floats(count)
    for kind in Int32(0)..<5 {
      let (f, slope) = (Guarded(count: count), Guarded(count: count))
      let ones = [Float](repeating: 1, count: count)
      kernels.activation_forward(kind, gate, f.p, count)
      kernels.activation_backward(kind, gate, ones, slope.p, count)
      let y = Guarded(count: count)
      kernels.gate_forward(kind, gate, up, y.p, count)
      let (dgate, dup) = (Guarded(count: count), Guarded(count: count))
      kernels.gate_backward(kind, gate, up, dy, dgate.p, dup.p, count)
      #expect(y.isIntact && dgate.isIntact && dup.isIntact)
      for i in 0..<count {
        #expect(y.values[i] == f.values[i] * up[i])
        // SiLU and tanh-GELU are x times the slope's logistic there, not a quotient.
        let value = Double(dy[i]) * Double(f.values[i])
        let isOther = kind == 1 || kind == 3
        #expect(
          isOther
            ? abs(Double(dup.values[i]) - value) <= 3.6e-7 * abs(value)
            : dup.values[i] == dy[i] * f.values[i])
        let expected = Double(dy[i]) * Double(up[i]) * Double(slope.values[i])
        #expect(abs(Double(dgate.values[i]) - expected) < 1e-6)
      }
      let over = Guarded(dy)
      let again = Guarded(gate)
      kernels.gate_backward(kind, again.p, up, over.p, again.p, over.p, count)
      #expect(bitPatterns(over.values) == bitPatterns(dup.values))
      #expect(bitPatterns(again.values) == bitPatterns(dgate.values))
    }
  }

  @Test(arguments: levels, [(1, 2), (3, 6), (2, 32), (3, 34), (2, 64), (1, 128)])
  func rotation(level: KernelLevel, form: (Int, Int)) throws {
    let kernels = try level.table()
    let (heads, size) = form
    let (rows, half, ld) = (5, size / 2, heads * size + 3)
    var random = TestRandom(UInt64(size))
    let x = random.floats(rows * ld)
    let positions: [Int32] = [0, 3, 1, 6, 6]
    let angles = random.floats(7 * half, in: 0...6)
    let (cosines, sines) = (angles.map { cosf($0) }, angles.map { sinf($0) })
    let turned = Guarded(x)
    kernels.rotate(turned.p, rows, heads, size, ld, cosines, sines, positions, 1)
    #expect(turned.isIntact)
    for r in 0..<rows {
      for head in 0..<heads {
        for i in 0..<half {
          let (a, b) = (r * ld + head * size + i, r * ld + head * size + i + half)
          let at = Int(positions[r]) * half + i
          let (c, s) = (Double(cosines[at]), Double(sines[at]))
          #expect(abs(Double(turned.values[a]) - (Double(x[a]) * c - Double(x[b]) * s)) < 3e-7)
          #expect(abs(Double(turned.values[b]) - (Double(x[b]) * c + Double(x[a]) * s)) < 3e-7)
        }
      }
      // Nothing beside the heads is touched.
      for column in heads * size..<ld {
        #expect(turned.values[r * ld + column] == x[r * ld + column])
      }
    }
    kernels.rotate(turned.p, rows, heads, size, ld, cosines, sines, positions, -1)
    #expect(largestError(turned.values, x.map(Double.init)) < 1e-6)
  }
}
