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
  var persists: Bool { isOn && lifetime == .persist }

  /// Standard deviation (n − 1) of a matrix, summed in float64 in a fixed order.
  static func deviation(_ matrix: UnsafePointer<Float>, count: Int, _ kernels: lorasc_kernels)
    -> Double
  {
    guard count > 1 else { return 0 }
    let mean = kernels.sum(matrix, count) / Double(count)
    return (kernels.sum_squared_deviations(matrix, mean, count) / Double(count - 1)).squareRoot()
  }
}

/// The noise of one matrix in one cascade or step, by rows.
struct MatrixNoise: RowNoise {
  private let noise: Noise
  private let deviation: Double
  private let columns: Int
  private let stream: lorasc_random_stream
  private let kernels: lorasc_kernels

  /// - Parameters:
  ///   - deviation: of the clean matrix at the cascade's start, see `Noise.deviation`
  ///   - step: of the optimizer from 1, 0 where the noise stays for a cascade
  init(
    _ noise: Noise, deviation: Double, _ module: MatrixModule, cascade: Int, step: Int,
    _ kernels: lorasc_kernels
  ) {
    self.noise = noise
    self.deviation = deviation
    self.kernels = kernels
    columns = module.columns
    stream =
      RandomStream(
        seed: noise.seed, purpose: .noise, cascade: cascade, step: step,
        name: module.name + ".weight"
      ).c
  }

  func add(
    _ rows: Range<Int>, to clean: UnsafePointer<Float>, into out: UnsafeMutablePointer<Float>
  ) {
    let first = UInt64(rows.lowerBound * columns)
    let count = rows.count * columns
    switch noise.form {
    case .noisytune:
      kernels.add_uniform(clean, out, count, stream, first, Float(noise.strength * deviation))
    case .gaussian:
      kernels.add_normal(
        clean, out, count, stream, first, Float(noise.strength * deviation / 12.0.squareRoot()))
    case .rowScaled:
      for row in 0..<rows.count {
        let at = row * columns
        let squares = kernels.sum_squared_deviations(clean + at, 0, columns)
        kernels.add_normal(
          clean + at, out + at, columns, stream, first + UInt64(at),
          Float(noise.strength * (squares / Double(columns)).squareRoot()))
      }
    }
  }
}

extension MatrixNoise {
  /// out = clean + ε, all rows, in place too.
  func add(
    to source: WeightSource, _ module: MatrixModule, into out: UnsafeMutablePointer<Float>,
    _ compute: Compute
  ) {
    let clean: UnsafePointer<Float>
    if case .float32(let values) = source {
      clean = values
    } else {
      source.copy(module.count, to: out)
      clean = UnsafePointer(out)
    }
    let columns = module.columns
    compute.forRows(module.rows, cost: 8 * columns) { start, end in
      add(start..<end, to: clean + start * columns, into: out + start * columns)
    }
  }
}

/// The noise that training sees at one step, beside what persists in the weights.
struct CascadeNoise {
  let noise: Noise
  /// Of each noisy matrix at the cascade's start.
  let deviations: [Int: Double]
  let cascade: Int
  /// From 1 where each step has its own, else 0.
  let step: Int

  /// - Parameter done: optimizer steps so far
  init(_ noise: Noise, deviations: [Int: Double], cascade: Int, done: Int) {
    self.noise = noise
    self.deviations = noise.isOn && !noise.persists ? deviations : [:]
    self.cascade = cascade
    step = noise.isOn && noise.lifetime == .perStep ? done + 1 : 0
  }

  func on(_ matrix: Int, of model: Model, _ kernels: lorasc_kernels) -> MatrixNoise? {
    deviations[matrix].map {
      MatrixNoise(
        noise, deviation: $0, model.matrices[matrix], cascade: cascade, step: step, kernels)
    }
  }
}

/// The noise that lies on the backbone of the current cascade until its merge.
struct BackboneNoise: Sendable {
  let noise: Noise
  /// Of each noisy matrix at the cascade's start.
  let deviations: [Int: Double]
}
