/// What a run tells its host.
public struct Progress: Sendable {
  public enum Event: UInt32, Sendable {
    /// An optimizer step is done.
    case step = 1
    /// Of the merged view, at an epoch's end.
    case evaluation = 2
    /// A cascade's end.
    case cascade = 3
    /// A batch of an evaluation is done.
    case evaluating = 4
    /// The run is complete.
    case end = 5
  }
  public var event: Event
  public var step: Int
  public var totalSteps: Int
  /// From 1.
  public var epoch: Int
  public var totalEpochs: Int
  public var cascade: Int
  public var totalCascades: Int
  public var loss: Double
  public var gradientNorm: Double
  public var learningRate: Double
  /// Trained on by this call so far.
  public var tokens: Int
  /// Spent by this call so far, and of these in training steps.
  public var seconds: Double
  public var trainSeconds: Double
  public var evaluation = Evaluation(loss: .nan)
  public var fastEvaluation = Evaluation(loss: .nan)

  public var tokensPerSecond: Double { trainSeconds > 0 ? Double(tokens) / trainSeconds : 0 }
  /// By the steps of this call.
  public var secondsLeft: Double

  /// What the host answers.
  public enum Answer: Sendable { case goOn, cancel }
}
