/// Where a trainer stands: with the adapter's and the optimizer's state, all that a
/// bit-for-bit continuation needs. Plain data.
struct TrainerState: Equatable {
  /// Optimizer steps done, in all and in this cascade.
  var step = 0
  var cascadeStep = 0
  var lastCascadeSteps = 0
  /// Of the run; 0 while unknown.
  var totalSteps = 0
  var totalCascades = 0
  var stepsPerEpoch = 0
  /// Forward passes of training so far: keys the dropout masks.
  var draw = 0
  /// Position in the data: passes over it, and rows of this one that are done.
  var epoch = 0
  var rowsDone = 0
  /// Rows of the dataset of the run, 0 before the first.
  var datasetRows = 0
  /// The last cascade whose persistent noise is in the masters.
  var noisedCascade = 0
  /// What a run owes after its last step.
  var isEvaluationDue = false
  var isBoundaryDue = false

  /// Steps of cascade `number`, the current one, as far as known: planned, else the last one's;
  /// at most what is left of the run.
  func cascadeLength(_ number: Int, _ unit: TrainerSettings.CascadeUnit) -> Int {
    let left = totalSteps > 0 ? totalSteps - (step - cascadeStep) : Int.max
    switch unit {
    case .steps(let length): return min(length, left)
    case .epochs(let length) where stepsPerEpoch > 0:
      let (steps, overflow) = length.multipliedReportingOverflow(by: stepsPerEpoch)
      return min(overflow ? Int.max : steps, left)
    case .list(let lengths) where number < lengths.count: return min(lengths[number - 1], left)
    case .list where totalSteps > 0: return left
    default: return lastCascadeSteps
    }
  }
}
