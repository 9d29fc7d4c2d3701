import CSupport
import Glibc

/// The learning rate of a step, and the schedule's share of it.
struct StepRates {
  let base: Double
  let schedule: Double
}

/// What becomes of the experts' optimizer state at a boundary.
enum BoundaryOptimizer: Sendable {
  case reset
  /// The smallest values of this share are zeroed (ReLoRA).
  case prune(Double)
  case keep
}

/// AdamW or SGD over the adapter's parameters, as PyTorch's, with state in the parameters'
/// layout. Experts and what is trained in full count their steps apart, because a boundary
/// starts the experts anew.
final class Optimizer {
  let settings: TrainerSettings
  /// AdamW's first moment, or SGD's momentum buffer.
  let first: FloatBuffer
  /// AdamW's second moment.
  let second: FloatBuffer?
  var factorSteps = 0
  var fullSteps = 0
  /// Parameters that stay as they are.
  private let frozen: Set<Int>

  init(_ settings: TrainerSettings, count: Int, frozen: Set<Int>) throws {
    self.settings = settings
    self.frozen = frozen
    first = try FloatBuffer(count: count, what: "optimizer state")
    second =
      settings.optimizer == .adamw ? try FloatBuffer(count: count, what: "optimizer state") : nil
  }

  /// True where the step could carry a parameter out of float32's range, by a bound that every
  /// sane step is far below: |p| + rate · |gradient or moment| / eps.
  ///
  /// - Parameter norm: of the gradient as the step sees it
  func couldOverflow(
    _ parameters: ParameterSet, norm: Double, _ rates: StepRates, _ kernels: lorasc_kernels
  ) -> Bool {
    let learningRate = parameters.list.reduce(0) { max($0, group(of: $1.kind, rates).rate) }
    let largest = Double(kernels.max_abs(parameters.values.pointer, parameters.bufferCount))
    let moment = Double(kernels.max_abs(first.pointer, first.count))
    let decay = learningRate * settings.weightDecay
    let change =
      settings.optimizer == .adamw
      ? max(norm, moment) / ((1 - settings.beta1) * settings.epsilon)
      : norm + settings.momentum * moment + settings.weightDecay * largest
    let bound = largest * max(1, decay) + learningRate * change
    return !(bound < 1e38)
  }

  /// Learning rate and weight decay; LoRA+'s groups (Hayou et al. 2024) as PEFT makes them.
  private func group(of kind: Parameter.Kind, _ rates: StepRates) -> (rate: Double, decay: Double) {
    let (ratio, decay) = (settings.loraPlusRatio, settings.weightDecay)
    guard ratio > 0 else { return (rates.base, decay) }
    switch kind {
    case .factorA, .matrix: return (rates.base, decay)
    case .embeddingA, .embeddingB: return (settings.loraPlusEmbeddingRate * rates.schedule, decay)
    case .factorB, .magnitude: return (rates.base * ratio, decay)
    case .norm, .bias: return (rates.base * ratio, 0)
    }
  }

  /// One step of every parameter along `gradient` · `gradientScale`.
  func step(
    _ parameters: ParameterSet, gradient: UnsafePointer<Float>, gradientScale: Double,
    _ rates: StepRates, _ kernels: lorasc_kernels
  ) {
    factorSteps += 1
    fullSteps += 1
    for (index, parameter) in parameters.list.enumerated() where !frozen.contains(index) {
      let at = parameter.offset
      let (learningRate, weightDecay) = group(of: parameter.kind, rates)
      let steps = parameter.kind.isExpert ? factorSteps : fullSteps
      if let second {
        kernels.adamw(
          parameters.pointer(index), gradient + at, first.pointer + at, second.pointer + at,
          parameter.count, gradientScale, learningRate, settings.beta1, settings.beta2,
          settings.epsilon, weightDecay, 1 - pow(settings.beta1, Double(steps)),
          (1 - pow(settings.beta2, Double(steps))).squareRoot())
      } else {
        kernels.sgd(
          parameters.pointer(index), gradient + at,
          settings.momentum > 0 ? first.pointer + at : nil, parameter.count, gradientScale,
          learningRate, settings.momentum, weightDecay, steps == 1 ? 1 : 0)
      }
    }
  }

  /// At a boundary: the experts' state as `boundary_optimizer` says.
  func crossBoundary(_ parameters: ParameterSet) {
    if case .reset = settings.boundaryOptimizer { factorSteps = 0 }
    for parameter in parameters.list where parameter.kind.isExpert {
      for buffer in [first, second].compactMap({ $0 }) {
        let state = UnsafeMutableBufferPointer(
          start: buffer.pointer + parameter.offset, count: parameter.capacity)
        switch settings.boundaryOptimizer {
        case .reset: state.update(repeating: 0)
        case .prune(let ratio): Self.prune(state, ratio)
        case .keep: break
        }
      }
    }
  }

  /// Zeroes what is not above the `ratio` quantile of the magnitudes, interpolated linearly
  /// (Lialin et al. 2023, ReLoRA).
  private static func prune(_ state: UnsafeMutableBufferPointer<Float>, _ ratio: Double) {
    guard !state.isEmpty else { return }
    let sorted = state.map { abs($0) }.sorted()
    let place = ratio * Double(sorted.count - 1)
    let below = min(Int(place), sorted.count - 1)
    let above = min(below + 1, sorted.count - 1)
    let share = place - Double(below)
    let threshold = Double(sorted[below]) * (1 - share) + Double(sorted[above]) * share
    for index in state.indices where Double(abs(state[index])) <= threshold { state[index] = 0 }
  }
}
