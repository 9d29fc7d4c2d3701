import CSupport
import Testing

@testable import Lorasc

@Suite struct OptimizerTests {
  @Test(arguments: levels)
  func adamwFollowsFloat64OverTenSteps(level: KernelLevel) throws {
    let kernels = try level.table()
    var random = TestRandom(1)
    let (lr, b1, b2, eps, decay) = (1e-2, 0.9, 0.999, 1e-8, 0.01)
    for n in lengths {
      let start = random.floats(n)
      let (p, m, v) = (Guarded(start), Guarded(count: n, of: 0), Guarded(count: n, of: 0))
      var exact = start.map(Double.init)
      var exactM = [Double](repeating: 0, count: n)
      var exactV = exactM
      var (power1, power2) = (1.0, 1.0)
      for _ in 0..<10 {
        let grad = random.floats(n)
        power1 *= b1
        power2 *= b2
        let (c1, c2) = (1 - power1, (1 - power2).squareRoot())
        kernels.adamw(p.p, grad, m.p, v.p, n, 0.5, lr, b1, b2, eps, decay, c1, c2)
        for i in 0..<n {
          let g = 0.5 * Double(grad[i])
          exact[i] *= 1 - lr * decay
          exactM[i] = b1 * exactM[i] + (1 - b1) * g
          exactV[i] = b2 * exactV[i] + (1 - b2) * g * g
          exact[i] -= lr / c1 * exactM[i] / (exactV[i].squareRoot() / c2 + eps)
        }
      }
      #expect(p.isIntact && m.isIntact && v.isIntact)
      #expect(largestError(p.values, exact) < 1e-6)
      #expect(largestError(m.values, exactM) < 1e-6)
      #expect(largestError(v.values, exactV) < 1e-6)
    }
  }

  /// Zero gradients from the start: 0 / (0 + eps), and only the decay acts.
  @Test(arguments: levels)
  func adamwWithoutGradient(level: KernelLevel) throws {
    let n = 19
    let p = Guarded(count: n, of: 2)
    let (m, v) = (Guarded(count: n, of: 0), Guarded(count: n, of: 0))
    let zeros = [Float](repeating: 0, count: n)
    try level.table().adamw(p.p, zeros, m.p, v.p, n, 1, 0.1, 0.9, 0.999, 1e-8, 0.5, 0.1, 0.03)
    #expect(p.values.allSatisfy { $0 == 2 * 0.95 })
  }

  @Test(arguments: levels, [false, true])
  func sgdFollowsFloat64(level: KernelLevel, momentum: Bool) throws {
    let kernels = try level.table()
    var random = TestRandom(2)
    let (lr, mu, decay) = (0.05, 0.9, 0.01)
    for n in lengths {
      let start = random.floats(n)
      // NaN: the first step must not read the buffer.
      let (p, buf) = (Guarded(start), Guarded(count: n, of: .nan))
      var exact = start.map(Double.init)
      var velocity = [Double](repeating: 0, count: n)
      for step in 0..<5 {
        let grad = random.floats(n)
        kernels.sgd(
          p.p, grad, momentum ? buf.p : nil, n, 0.25, lr, mu, decay, step == 0 ? 1 : 0)
        for i in 0..<n {
          let g = 0.25 * Double(grad[i]) + decay * exact[i]
          velocity[i] = momentum && step > 0 ? mu * velocity[i] + g : g
          exact[i] -= lr * velocity[i]
        }
      }
      #expect(p.isIntact && buf.isIntact)
      #expect(largestError(p.values, exact) < 5e-7)
      if momentum { #expect(largestError(buf.values, velocity) < 5e-7) }
    }
  }
}
