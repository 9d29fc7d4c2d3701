import Glibc

/// The learning rate's factor over a run, as transformers' `get_constant_schedule_with_warmup`,
/// `get_linear_schedule_with_warmup` and `get_cosine_schedule_with_warmup`.
struct Schedule: Sendable {
  enum Shape: String, Sendable {
    case constant, linear, cosine
    case jaggedCosine = "jagged_cosine"
  }

  let shape: Shape
  let warmupSteps: Int
  let warmupRatio: Double
  /// Of the cosines' end.
  let minimum: Double
  /// It starts anew in each cascade.
  let spansCascade: Bool

  init(_ options: Options) throws {
    shape = Shape(rawValue: try options.text("schedule")) ?? .linear
    warmupSteps = try options.integer("warmup_steps")
    warmupRatio = try options.number("warmup_ratio")
    minimum = try options.number("min_lr_ratio")
    spansCascade = try options.text("schedule_span") == "cascade"
    if spansCascade, shape == .jaggedCosine {
      throw LorascError(
        .option, "option schedule_span: jagged_cosine spans the run", subject: "schedule_span")
    }
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
    case .cosine, .jaggedCosine:
      let cosine = max(0, 0.5 * (1 + cos(Double.pi * Double(step - warmup) / rest)))
      return minimum + (1 - minimum) * cosine
    }
  }

  /// The same, where the rate rises again after a boundary, over `rewarmup` steps of the
  /// cascade: by (j + 1) / (w + 1) at step j; `jagged_cosine` by j / w to where the cosine is
  /// after them, as ReLoRA (Lialin et al. 2023).
  func factor(step: Int, total: Int, cascadeStep: Int, rewarmup: Int) -> Double {
    guard cascadeStep < rewarmup else { return factor(step: step, total: total) }
    if shape == .jaggedCosine {
      return Double(cascadeStep) / Double(rewarmup)
        * factor(step: step - cascadeStep + rewarmup, total: total)
    }
    return Double(cascadeStep + 1) / Double(rewarmup + 1) * factor(step: step, total: total)
  }
}
