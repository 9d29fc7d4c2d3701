extension Trainer {
  /// Puts a loss of the host's in place of the built-in one; nil gives that back.
  ///
  /// The loss runs on the thread of `accumulate`, `run` or `evaluate`, once for the rows that
  /// are computed together; of a language model chunk by chunk, and twice where its output layer
  /// is trained, first without the gradient. It writes the sum over all items, and its gradient;
  /// both are divided by the total weight when the step is applied. What it throws ends the call.
  /// It may use the library, but not this trainer and its adapter: `.busy`.
  ///
  /// Labels are checked as ever, and accuracies are those of the outputs. A saved state says that
  /// there was such a loss: `resume` wants one again.
  /// - Throws: `.option` with `label_smoothing` or `class_weights`, which are the built-in loss's;
  ///   `.state` with gradients accumulated, or for a model of the host's; `.outOfMemory`
  public func setLoss(_ loss: ((inout LossOutputs) throws -> Void)?) throws {
    try model.requireForward()
    try exclusively {
      guard sums.rows == 0 else { throw Self.somethingAccumulated }
      guard let loss else {
        hostLoss = nil
        return
      }
      for (option, isSet) in [
        ("label_smoothing", settings.labelSmoothing > 0),
        ("class_weights", !settings.classWeights.isEmpty),
      ] where isSet {
        throw LorascError(
          .option, "option \(option) belongs to the built-in loss", subject: option)
      }
      try plan.head?.prepareForHostLoss()
      hostLoss = HostLoss(body: loss, compute: plan.compute)
    }
  }

  var loss: Loss {
    Loss(
      problem: adapter.head.problem, labels: adapter.head.labels,
      smoothing: settings.labelSmoothing, classWeights: settings.classWeights,
      similarityScale: settings.similarityScale, host: hostLoss)
  }
}
