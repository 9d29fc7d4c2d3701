import CSupport
import Glibc
import Testing

@testable import Lorasc

@Suite struct ActivationTests {
  enum Kind: Int32, CaseIterable, Sendable {
    case gelu, geluTanh, relu, silu, tanh

    func forward(_ x: Double) -> Double {
      switch self {
      case .gelu: x * 0.5 * erfc(-x / 2.0.squareRoot())
      case .geluTanh: x * Kind.logistic(Kind.twiceInner(x))
      case .relu: max(x, 0)
      case .silu: x * Kind.logistic(x)
      case .tanh: Glibc.tanh(x)
      }
    }

    func slope(_ x: Double) -> Double {
      switch self {
      case .gelu:
        return 0.5 * erfc(-x / 2.0.squareRoot()) + x * exp(-x * x / 2)
          / (2 * Double.pi).squareRoot()
      case .geluTanh:
        let s = Kind.logistic(Kind.twiceInner(x))
        let inner = 2 * (2 / Double.pi).squareRoot() * (1 + 3 * 0.044715 * x * x)
        return s + x * s * Kind.logistic(-Kind.twiceInner(x)) * inner
      case .relu: return x > 0 ? 1 : 0
      case .silu:
        return Kind.logistic(x) * (1 + x * Kind.logistic(-x))
      case .tanh:
        return 1 / (cosh(x) * cosh(x))
      }
    }

    /// Allowed error of forward in units of the last place; measured: GELU 2.7, tanh form 2.6,
    /// SiLU 1.8, tanh 2.5.
    var forwardLimit: Double {
      switch self {
      case .relu: 0
      case .tanh, .silu, .gelu, .geluTanh: 3
      }
    }

    static func logistic(_ x: Double) -> Double { 1 / (1 + exp(-x)) }
    static func twiceInner(_ x: Double) -> Double {
      2 * (2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)
    }
  }

  /// Dense where the functions bend, then powers of two down to subnormals and up to large.
  static let points: [Float] = {
    var points: [Float] = []
    for i in -24000...24000 { points.append(Float(i) / 2000 + 1.0 / 4097) }
    for e in -149...13 { points += [Float(sign: .plus, exponent: e, significand: 1.3)] }
    return points + points.map { -$0 } + [0, -0.0, 89, -89, 110, -110, 1e4, -1e4]
  }()

  private func apply(_ level: KernelLevel, _ kind: Kind, _ x: [Float]) throws -> [Float] {
    let y = Guarded(count: x.count)
    try level.table().activation_forward(kind.rawValue, x, y.p, x.count)
    #expect(y.isIntact)
    return y.values
  }

  private func slope(_ level: KernelLevel, _ kind: Kind, _ x: [Float]) throws -> [Float] {
    let dx = Guarded(count: x.count)
    let ones = [Float](repeating: 1, count: x.count)
    try level.table().activation_backward(kind.rawValue, x, ones, dx.p, x.count)
    #expect(dx.isIntact)
    return dx.values
  }

  /// The error of the small result of a large |x| (the negative tail) counts relative to itself
  /// times x^2: exp(-x^2/2) amplifies the rounding of its argument by that much. Results below
  /// 1e-34 may be 0: where exp(-x) overflows, SiLU and tanh-GELU are.
  @Test(arguments: levels, Kind.allCases)
  func forwardMatchesFloat64(level: KernelLevel, kind: Kind) throws {
    let x = Self.points
    let y = try apply(level, kind, x)
    var worst = (0.0, Float(0))
    for (x, y) in zip(x, y) {
      let tail = kind == .tanh || kind == .relu ? 1 : max(1, Double(x * x))
      let exact = kind.forward(Double(x))
      if y == 0 && abs(exact) < 1e-34 && x < -9 { continue }
      let error = ulps(y, exact) / min(tail, 300)
      if error > worst.0 { worst = (error, x) }
    }
    #expect(worst.0 <= kind.forwardLimit, "\(worst)")
  }

  @Test(arguments: levels, Kind.allCases)
  func slopeMatchesFloat64(level: KernelLevel, kind: Kind) throws {
    let x = Self.points
    let dx = try slope(level, kind, x)
    var worst = (0.0, Float(0))
    for (x, dx) in zip(x, dx) {
      let error = abs(Double(dx) - kind.slope(Double(x)))
      if error > worst.0 { worst = (error, x) }
    }
    #expect(worst.0 <= (kind == .relu ? 0 : 2.5e-7), "\(worst)")
  }

  @Test(arguments: levels, Kind.allCases)
  func everyLengthInPlaceAndNot(level: KernelLevel, kind: Kind) throws {
    let kernels = try level.table()
    var random = TestRandom(1)
    for n in lengths {
      let x = random.floats(n, in: -5...5)
      let dy = random.floats(n)
      let y = try apply(level, kind, x)
      #expect(largestError(y, x.map { kind.forward(Double($0)) }) < 4e-7, "n \(n)")
      let inPlace = Guarded(x)
      kernels.activation_forward(kind.rawValue, inPlace.p, inPlace.p, n)
      #expect(bitPatterns(inPlace.values) == bitPatterns(y) && inPlace.isIntact)

      let dx = Guarded(count: n)
      kernels.activation_backward(kind.rawValue, x, dy, dx.p, n)
      let exact = zip(x, dy).map { kind.slope(Double($0)) * Double($1) }
      #expect(largestError(dx.values, exact) < 1e-6 && dx.isIntact, "n \(n)")
      let overDy = Guarded(dy)
      kernels.activation_backward(kind.rawValue, x, overDy.p, overDy.p, n)
      #expect(bitPatterns(overDy.values) == bitPatterns(dx.values) && overDy.isIntact)
      let overX = Guarded(x)
      kernels.activation_backward(kind.rawValue, overX.p, dy, overX.p, n)
      #expect(bitPatterns(overX.values) == bitPatterns(dx.values) && overX.isIntact)
    }
  }

  @Test(arguments: levels, Kind.allCases)
  func limits(level: KernelLevel, kind: Kind) throws {
    let huge = Float.greatestFiniteMagnitude
    let x: [Float] = [.nan, .infinity, huge, 1e20, -huge, -1e20]
    let y = try apply(level, kind, x)
    #expect(y[0].isNaN)
    if kind == .tanh {
      #expect(Array(y[1...]) == [1, 1, 1, -1, -1])
    } else {
      #expect(Array(y[1...]) == [.infinity, huge, 1e20, 0, 0])
    }
    let dx = try slope(level, kind, x + [-.infinity])
    // PyTorch's ReLU lets the gradient through where the input is NaN.
    #expect(kind == .relu ? dx[0] == 1 : dx[0].isNaN)
    let top: Float = kind == .tanh ? 0 : 1
    #expect(dx[1...3].allSatisfy { abs($0 - top) < 1e-30 }, "\(dx)")
    #expect(dx[4...].allSatisfy { abs($0) < 1e-30 }, "\(dx)")
  }

  @Test(arguments: levels)
  func tanhKeepsSignOfZeroAndTinyNumbers(level: KernelLevel) throws {
    let tiny: [Float] = [
      0, -0.0, .leastNonzeroMagnitude, -.leastNonzeroMagnitude, .leastNormalMagnitude, 1e-20,
      -1e-20,
      1e-5, -1e-5,
    ]
    let y = try apply(level, .tanh, tiny)
    #expect(bitPatterns(y) == bitPatterns(tiny))
  }

  @Test(arguments: levels)
  func reluAtZeroHasSlopeZeroAndKeepsNaN(level: KernelLevel) throws {
    let dx = try slope(level, .relu, [0, -0.0])
    #expect(dx == [0, 0])
  }
}
