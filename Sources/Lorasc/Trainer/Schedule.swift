import Glibc

/// The learning rate's factor over a run, as transformers' `get_constant_schedule_with_warmup`,
/// `get_linear_schedule_with_warmup` and `get_cosine_schedule_with_warmup`.
struct Schedule: Sendable {
  enum Shape: String, Sendable { case constant, linear, cosine }

  let shape: Shape
  let warmupSteps: Int
  let warmupRatio: Double

  init(_ options: Options) throws {
    shape = Shape(rawValue: try options.text("schedule")) ?? .linear
    warmupSteps = try options.integer("warmup_steps")
    warmupRatio = try options.number("warmup_ratio")
  }

  /// True where the factor depends on the number of all steps.
  var needsTotal: Bool { shape != .constant || (warmupSteps == 0 && warmupRatio > 0) }

  /// - Parameters:
  ///   - step: steps done before this one
  ///   - total: steps of the whole run, 0 while unknown (then only for constant shapes)
  func factor(step: Int, total: Int) -> Double {
    let warmup = warmupSteps > 0 ? warmupSteps : Int((warmupRatio * Double(total)).rounded(.up))
    if step < warmup { return Double(step) / Double(max(1, warmup)) }
    let rest = Double(max(1, total - warmup))
    switch shape {
    case .constant: return 1
    case .linear: return max(0, Double(total - step) / rest)
    case .cosine: return max(0, 0.5 * (1 + cos(Double.pi * Double(step - warmup) / rest)))
    }
  }

  /// After a boundary the rate rises again: factor (j + 1) / (w + 1) at step j of the cascade.
  static func rewarmup(step: Int, over steps: Int) -> Double {
    step >= steps ? 1 : Double(step + 1) / Double(steps + 1)
  }
}
