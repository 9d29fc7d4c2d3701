import CSupport
import Glibc

/// The frequencies of rotary position embeddings (Su et al. 2021) as config.json gives them, in
/// rope_parameters, or before transformers 5 in rope_theta and rope_scaling.
///
/// Pair i of a head of d columns turns by position × f_i, f_i = θ^(−2i/d), and by scaling:
/// linear: f_i / factor; llama3: between f_i and f_i / factor by wavelength; yarn (Peng et al.
/// 2023): the same by a ramp over i, and all turned vectors times an attention factor. dynamic
/// changes nothing up to max_position_embeddings, and no row is longer here. longrope: f_i over a
/// factor of its own, with one list for short rows and one for those beyond the trained length.
struct RotaryForm: Sendable {
  /// Radians a position; d / 2 of them.
  let frequencies: [Double]
  var factor = 1.0

  init(_ config: ConfigReader, headSize: Int, positions: Int) throws {
    let nested = try config.json.optionalObject("rope_parameters")
    let older = try config.json.optionalObject("rope_scaling")
    guard nested == nil || older == nil || nested == older else {
      throw LorascError(
        .format, "rope_parameters and rope_scaling contradict",
        subject: "rope_scaling")
    }
    let rope = ConfigReader(json: nested ?? older ?? JSONObject())
    // Below 1 frequencies would grow without bounds.
    let theta = try rope.number(
      "rope_theta", try config.number("rope_theta", 10_000) { $0 >= 1 }, { $0 >= 1 })
    let kind = try rope.text("rope_type", try rope.text("type", "default"))
    guard try rope.number("partial_rotary_factor", 1, { $0 > 0 }) == 1 else {
      throw LorascError(
        .unsupported, "partial_rotary_factor is not offered",
        subject: "partial_rotary_factor")
    }
    guard headSize % 2 == 0 else {
      throw LorascError(
        .format, "heads of \(headSize) columns cannot be rotated", subject: "head_dim")
    }
    let plain = (0..<headSize / 2).map { pow(theta, -Double(2 * $0) / Double(headSize)) }
    func scale() throws -> Double { try rope.number("factor") { $0 >= 1 } }
    func trained() throws -> Double {
      Double(try rope.size("original_max_position_embeddings", positions))
    }
    switch kind {
    case "default": frequencies = plain
    case "dynamic":
      _ = try scale()
      frequencies = plain
    case "linear":
      let scale = try scale()
      frequencies = plain.map { $0 / scale }
    case "llama3":
      frequencies = try Self.llama3(plain, scale: try scale(), trained: try trained(), rope)
    case "yarn":
      frequencies = try Self.yarn(
        plain, theta: theta, scale: try scale(), trained: try trained(), rope)
      factor = try Self.attentionFactor(rope, scale: try scale())
    case "longrope":
      frequencies = try Self.longRope(
        plain, isLong: Double(positions) > (try trained()), rope)
      factor = try Self.longRopeFactor(rope, positions: positions, trained: try trained())
    default:
      throw LorascError(
        .unsupported, "rope_type \(kind) is not offered", subject: "rope_type")
    }
  }

  /// Wavelengths below trained / high stay, those above trained / low are scaled, between is
  /// a line.
  private static func llama3(
    _ plain: [Double], scale: Double, trained: Double, _ rope: ConfigReader
  ) throws -> [Double] {
    let low = try rope.number("low_freq_factor") { $0 > 0 }
    let high = try rope.number("high_freq_factor") { $0 > 0 }
    guard low < high else {
      throw LorascError(
        .format, "low_freq_factor \(low) is not below high_freq_factor \(high)",
        subject: "low_freq_factor")
    }
    return plain.map { frequency in
      let share = (trained * frequency / (2 * .pi) - low) / (high - low)
      let kept = min(1, max(0, share))
      return (1 - kept) * frequency / scale + kept * frequency
    }
  }

  private static func longRope(_ plain: [Double], isLong: Bool, _ rope: ConfigReader) throws
    -> [Double]
  {
    func list(_ key: String) throws -> [Double] {
      let factors = try rope.json.array(key).map { value -> Double in
        switch value {
        case .number(let factor) where factor > 0: factor
        case .integer(let factor) where factor > 0: Double(factor)
        default: throw rope.bad(key, "a list with \(value.kind)")
        }
      }
      guard factors.count == plain.count else { throw rope.bad(key, "a list of \(factors.count)") }
      return factors
    }
    let factors = try list("short_factor")
    guard try !isLong || list("long_factor") == factors else {
      throw LorascError(
        .unsupported, "long_factor other than short_factor is not offered", subject: "long_factor")
    }
    return zip(plain, factors).map { $0 / $1 }
  }

  private static func longRopeFactor(_ rope: ConfigReader, positions: Int, trained: Double) throws
    -> Double
  {
    if rope.has("attention_factor") { return try rope.number("attention_factor") { $0 > 0 } }
    let scale = try rope.number("factor", Double(positions) / trained) { $0 > 0 }
    guard scale > 1 else { return 1 }
    guard trained > 1 else { throw rope.bad("original_max_position_embeddings", String(trained)) }
    return (1 + log(scale) / log(trained)).squareRoot()
  }

  private static func yarn(
    _ plain: [Double], theta: Double, scale: Double, trained: Double, _ rope: ConfigReader
  ) throws -> [Double] {
    let columns = Double(2 * plain.count)
    func pair(ofRotations rotations: Double) -> Double {
      columns * log(trained / (rotations * 2 * .pi)) / (2 * log(theta))
    }
    guard theta > 1 else { throw rope.bad("rope_theta", String(theta)) }
    var low = pair(ofRotations: try rope.number("beta_fast", 32) { $0 > 0 })
    var high = pair(ofRotations: try rope.number("beta_slow", 1) { $0 > 0 })
    if try rope.flag("truncate", true) {
      low = low.rounded(.down)
      high = high.rounded(.up)
    }
    low = max(low, 0)
    high = min(high, columns - 1)
    // No division by zero where both ends fall together.
    if low == high { high += 0.001 }
    return plain.enumerated().map { index, frequency in
      let scaled = min(1, max(0, (Double(index) - low) / (high - low)))
      return frequency / scale * scaled + frequency * (1 - scaled)
    }
  }

  private static func attentionFactor(_ rope: ConfigReader, scale: Double) throws -> Double {
    // float32 must hold a turned vector.
    func isModest(_ value: Double) -> Bool { value < 1e6 }
    if rope.has("attention_factor") {
      return try rope.number("attention_factor") { $0 > 0 && isModest($0) }
    }
    func strength(_ weight: Double) -> Double { scale <= 1 ? 1 : 0.1 * weight * log(scale) + 1 }
    let one = try rope.number("mscale", 0) { $0 >= 0 && isModest($0) }
    let all = try rope.number("mscale_all_dim", 0) { $0 >= 0 && isModest($0) }
    return one > 0 && all > 0 ? strength(one) / strength(all) : strength(1)
  }
}

/// Turns queries and keys by their positions, in place.
final class Rotary {
  private let headSize: Int
  /// (positions, headSize / 2)
  private let cosines: UnsafeMutablePointer<Float>
  private let sines: UnsafeMutablePointer<Float>

  init(_ form: RotaryForm, positions: Int, _ arena: Arena) throws {
    let pairs = form.frequencies.count
    headSize = 2 * pairs
    cosines = try arena.matrix(positions, pairs, "plan.rotary.cosines")
    sines = try arena.matrix(positions, pairs, "plan.rotary.sines")
    guard !arena.isMeasuring else { return }
    for position in 0..<positions {
      for (pair, frequency) in form.frequencies.enumerated() {
        let angle = Double(position) * frequency
        cosines[position * pairs + pair] = Float(form.factor * cos(angle))
        sines[position * pairs + pair] = Float(form.factor * sin(angle))
      }
    }
  }

  enum Direction: Float {
    case forward = 1
    /// Gradients go back by the transpose.
    case backward = -1
  }

  /// - Parameters:
  ///   - x: (tokens, heads headSize), rows `ld` apart
  ///   - positions: (tokens)
  func rotate(
    _ x: Values, heads: Int, ld: Int, positions: UnsafePointer<Int32>, tokens: Int,
    _ direction: Direction, _ compute: Compute
  ) {
    compute.forRows(tokens, cost: 2 * heads * headSize) { start, end in
      let (x, positions, count) = (x + start * ld, positions + start, end - start)
      if let x = x.floats {
        compute.kernels.rotate(
          x, count, heads, headSize, ld, cosines, sines, positions, direction.rawValue)
      } else if let x = x.halves {
        compute.kernels.rotate_bf16(
          x, count, heads, headSize, ld, cosines, sines, positions, direction.rawValue)
      }
    }
  }
}
