import CSupport
import Glibc

/// AdamW or SGD over the adapter's parameters, as PyTorch's, with state in the parameters'
/// layout. Factors and modules trained in full count their steps apart, because a boundary
/// starts the factors anew.
final class Optimizer {
  let settings: TrainerSettings
  /// AdamW's first moment, or SGD's momentum buffer.
  let first: FloatBuffer
  /// AdamW's second moment.
  let second: FloatBuffer?
  var factorSteps = 0
  var fullSteps = 0

  init(_ settings: TrainerSettings, count: Int) throws {
    self.settings = settings
    first = try FloatBuffer(count: count, what: "optimizer state")
    second =
      settings.optimizer == .adamw ? try FloatBuffer(count: count, what: "optimizer state") : nil
  }

  /// True where the step could carry a parameter out of float32's range, by a bound that every
  /// sane step is far below: |p| + rate · |gradient or moment| / eps.
  ///
  /// - Parameter norm: of the gradient as the step sees it
  func couldOverflow(
    _ parameters: ParameterSet, norm: Double, learningRate: Double, _ kernels: lorasc_kernels
  ) -> Bool {
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

  /// One step of every parameter along `gradient` · `gradientScale`.
  func step(
    _ parameters: ParameterSet, gradient: UnsafePointer<Float>, gradientScale: Double,
    learningRate: Double, _ kernels: lorasc_kernels
  ) {
    factorSteps += 1
    fullSteps += 1
    for (index, parameter) in parameters.list.enumerated() {
      let at = parameter.offset
      let steps = parameter.kind.isFactor ? factorSteps : fullSteps
      if let second {
        kernels.adamw(
          parameters.pointer(index), gradient + at, first.pointer + at, second.pointer + at,
          parameter.count, gradientScale, learningRate, settings.beta1, settings.beta2,
          settings.epsilon, settings.weightDecay, 1 - pow(settings.beta1, Double(steps)),
          (1 - pow(settings.beta2, Double(steps))).squareRoot())
      } else {
        kernels.sgd(
          parameters.pointer(index), gradient + at,
          settings.momentum > 0 ? first.pointer + at : nil, parameter.count, gradientScale,
          learningRate, settings.momentum, settings.weightDecay, steps == 1 ? 1 : 0)
      }
    }
  }

  /// At a boundary: the factors' state as at the start.
  func resetFactors(_ parameters: ParameterSet) {
    factorSteps = 0
    for parameter in parameters.list where parameter.kind.isFactor {
      for buffer in [first, second].compactMap({ $0 }) {
        (buffer.pointer + parameter.offset).update(repeating: 0, count: parameter.count)
      }
    }
  }
}
