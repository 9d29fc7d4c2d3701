import Glibc

/// Weighted sums over rows: divided by the total weight when the step is applied.
struct LossSums {
  var loss = 0.0
  var weight = 0.0
  /// Rows that carry a loss, and of these the rightly classified.
  var rows = 0
  var correct = 0

  static func += (left: inout LossSums, right: LossSums) {
    left.loss += right.loss
    left.weight += right.weight
    left.rows += right.rows
    left.correct += right.correct
  }
}

/// Cross-entropy with class weights and label smoothing, or mean squared error, as PyTorch
/// defines them; arithmetic in float64, a row at a time.
///
/// Cross-entropy of a row with label y, weights w, smoothing e over C classes:
/// (1 − e) w_y (−log p_y) + (e / C) Σ_c w_c (−log p_c), counted with weight w_y in the mean.
/// Squared error of a row: mean over its outputs, counted with weight 1. Row weights multiply
/// both.
struct Loss {
  let problem: ProblemType
  let labels: Int
  var smoothing = 0.0
  /// A weight a class, or empty: all 1.
  var classWeights: [Double] = []

  /// - Parameters:
  ///   - logits: (rows, labels)
  ///   - gradient: (rows, labels), d(weighted sum)/d logits, or nil
  func callAsFunction(
    logits: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>?, _ batch: StagedBatch
  ) -> LossSums {
    var sums = LossSums()
    for row in 0..<batch.rows {
      let at = row * labels
      let rowWeight = Double(batch.weights[row])
      switch problem {
      case .classification:
        let label = Int(batch.labels[row])
        guard label >= 0, rowWeight > 0 else {
          if let gradient { for c in 0..<labels { gradient[at + c] = 0 } }
          continue
        }
        sums += crossEntropy(logits + at, gradient.map { $0 + at }, label, rowWeight)
      case .regression:
        guard let targets = batch.targets, rowWeight > 0 else {
          if let gradient { for c in 0..<labels { gradient[at + c] = 0 } }
          continue
        }
        sums += squaredError(logits + at, gradient.map { $0 + at }, targets + at, rowWeight)
      }
    }
    return sums
  }

  private func crossEntropy(
    _ logits: UnsafePointer<Float>, _ gradient: UnsafeMutablePointer<Float>?, _ label: Int,
    _ rowWeight: Double
  ) -> LossSums {
    var largest = -Double.infinity
    var best = 0
    for c in 0..<labels where Double(logits[c]) > largest {
      largest = Double(logits[c])
      best = c
    }
    var total = 0.0
    for c in 0..<labels { total += exp(Double(logits[c]) - largest) }
    let logTotal = log(total) + largest
    func weight(_ c: Int) -> Double { classWeights.isEmpty ? 1 : classWeights[c] }

    // Every class's share of the target, weighted: the loss is Σ_c share_c (−log p_c).
    let spread = smoothing / Double(labels)
    var loss = 0.0
    var shares = 0.0
    for c in 0..<labels {
      let share = weight(c) * (spread + (c == label ? 1 - smoothing : 0))
      shares += share
      if share != 0 { loss += share * (logTotal - Double(logits[c])) }
    }
    if let gradient {
      for c in 0..<labels {
        let share = weight(c) * (spread + (c == label ? 1 - smoothing : 0))
        let probability = exp(Double(logits[c]) - logTotal)
        gradient[c] = Float(rowWeight * (shares * probability - share))
      }
    }
    return LossSums(
      loss: rowWeight * loss, weight: rowWeight * weight(label), rows: 1,
      correct: best == label ? 1 : 0)
  }

  private func squaredError(
    _ outputs: UnsafePointer<Float>, _ gradient: UnsafeMutablePointer<Float>?,
    _ targets: UnsafePointer<Float>, _ rowWeight: Double
  ) -> LossSums {
    var loss = 0.0
    for c in 0..<labels {
      let difference = Double(outputs[c]) - Double(targets[c])
      loss += difference * difference / Double(labels)
      if let gradient { gradient[c] = Float(rowWeight * 2 * difference / Double(labels)) }
    }
    return LossSums(loss: rowWeight * loss, weight: rowWeight, rows: 1, correct: 0)
  }
}
