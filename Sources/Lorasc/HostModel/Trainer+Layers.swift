extension Trainer {
  /// A call of one of this trainer's layers: the trainer and its adapter are its alone.
  func onLayers<Result>(_ body: () throws -> Result) throws -> Result {
    try exclusively {
      try checkInterruption()
      return try body()
    }
  }

  /// A layer's backward added to the gradients: the host's are of its whole loss already, so that
  /// `apply` divides by 1.
  func countLayerGradients(rows: Int) {
    sums.weight = 1
    sums.rows += rows
    pendingRows += rows
  }

  /// An optimizer of the host's has made a step on the factors: what goes by steps goes on, noise per
  /// step and the position that is saved.
  ///
  /// - Throws: `.state` where gradients are accumulated for `apply`
  public func countStep() throws {
    try exclusively {
      guard sums.rows == 0 else { throw Self.somethingAccumulated }
      state.step += 1
      state.cascadeStep += 1
    }
  }

  /// What lies on a matrix of the backbone in this cascade, beside persistent noise; nil: nothing.
  func noise(on matrix: Int) -> MatrixNoise? {
    cascadeNoise.on(matrix, of: model, plan.compute.kernels)
  }
}

extension TrainerSettings {
  /// Masks of a layer's call: that of an adapter's input alone.
  func dropout(key: UInt64, ofAdapter expert: Float) -> DropoutPlan {
    DropoutPlan(expert: expert, seed: seed, draw: Int(truncatingIfNeeded: key))
  }
}
