import CSupport

/// Noise on the frozen backbone during a cascade (option `noise`): ε is drawn anew each
/// cascade from the counter-based generator keyed by (seed, cascade, module), so it can be
/// made again bit for bit and never has to be subtracted.
struct Noise: Sendable {
  enum Form: String, Sendable {
    /// U(−λ/2, λ/2) · std(W) (Wu et al. 2022, NoisyTune)
    case noisytune
    /// N(0, λ² std² / 12): the uniform's variance
    case gaussian
    /// N(0, λ² ‖W_i‖² / columns) in row i
    case rowScaled = "row_scaled"
  }
  enum Lifetime: String, Sendable {
    case removed, persist
    case perStep = "per_step"
  }

  let strength: Double
  let form: Form
  let lifetime: Lifetime
  let onAllMatrices: Bool
  let seed: UInt64

  init(_ options: Options) throws {
    strength = try options.number("noise")
    form = Form(rawValue: try options.text("noise_form")) ?? .noisytune
    lifetime = Lifetime(rawValue: try options.text("noise_lifetime")) ?? .removed
    onAllMatrices = try options.text("noise_targets") == "all"
    seed = UInt64(try options.integer("seed"))
  }

  var isOn: Bool { strength > 0 }

  /// out = clean + ε_t, in place too.
  /// - Parameters:
  ///   - deviation: of the clean matrix at the cascade's start, see `deviation`
  ///   - step: of the optimizer, 0 where the noise stays for a cascade
  func add(
    to source: WeightSource, deviation: Double, _ module: MatrixModule, cascade: Int,
    step: Int = 0, into out: UnsafeMutablePointer<Float>, _ compute: Compute
  ) {
    var clean = UnsafePointer(out)
    switch source {
    case .float32(let values): clean = values
    case .stored(let matrix): matrix.copy(to: out)
    }
    let stream = RandomStream(
      seed: seed, purpose: .noise, cascade: cascade, step: step, name: module.name + ".weight"
    ).c
    let kernels = compute.kernels
    let columns = module.columns
    let (form, strength) = (form, strength)
    compute.forRows(module.rows, cost: 8 * columns) { start, end in
      let at = start * columns
      let count = (end - start) * columns
      switch form {
      case .noisytune:
        kernels.add_uniform(
          clean + at, out + at, count, stream, UInt64(at), Float(strength * deviation))
      case .gaussian:
        kernels.add_normal(
          clean + at, out + at, count, stream, UInt64(at),
          Float(strength * deviation / 12.0.squareRoot()))
      case .rowScaled:
        for row in start..<end {
          let at = row * columns
          let squares = kernels.sum_squared_deviations(clean + at, 0, columns)
          kernels.add_normal(
            clean + at, out + at, columns, stream, UInt64(at),
            Float(strength * (squares / Double(columns)).squareRoot()))
        }
      }
    }
  }

  /// Standard deviation (n − 1) of a matrix, summed in float64 in a fixed order.
  static func deviation(_ matrix: UnsafePointer<Float>, count: Int, _ kernels: lorasc_kernels)
    -> Double
  {
    guard count > 1 else { return 0 }
    let mean = kernels.sum(matrix, count) / Double(count)
    return (kernels.sum_squared_deviations(matrix, mean, count) / Double(count - 1)).squareRoot()
  }
}

/// The noise that lies on the backbone of the current cascade until its merge.
struct BackboneNoise: Sendable {
  let noise: Noise
  /// Of each noisy matrix at the cascade's start.
  let deviations: [Int: Double]
}
