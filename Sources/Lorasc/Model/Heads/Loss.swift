import Glibc

/// Weighted sums over items: divided by the total weight when the step is applied.
struct LossSums {
  var loss = 0.0
  var weight = 0.0
  /// Items that carry a loss, rows or tokens, and of these the rightly classified.
  var rows = 0
  var correct = 0

  /// There is something to learn from, and no overflow.
  var isUsable: Bool { weight > 0 && loss.isFinite }

  static func += (left: inout LossSums, right: LossSums) {
    left.loss += right.loss
    left.weight += right.weight
    left.rows += right.rows
    left.correct += right.correct
  }
}

/// What a loss compares logits with: rows, tokens or examples.
struct LossItems {
  let count: Int
  /// (count): classes, or `Batch.ignoredLabel`
  let labels: UnsafePointer<Int32>
  /// (count)
  let weights: UnsafePointer<Float>
  /// (count, num_labels)
  let targets: UnsafePointer<Float>?
  /// (count): each item's row by its number
  let rows: UnsafePointer<Int>
  /// (count): of tokens their places in their rows
  let places: UnsafePointer<Int>?

  func hasLoss(_ item: Int) -> Bool { labels[item] >= 0 && weights[item] > 0 }
}

/// Cross-entropy with class weights and label smoothing, mean squared error, or binary
/// cross-entropy, as PyTorch defines them; arithmetic in float64, an item at a time.
///
/// Cross-entropy of an item with label y, weights w, smoothing e over C classes:
/// (1 − e) w_y (−log p_y) + (e / C) Σ_c w_c (−log p_c), counted with weight w_y in the mean.
/// Squared error of an item: mean over its outputs. Binary cross-entropy of targets t: the mean
/// over outputs z of log(1 + eᶻ) − t z. Both count with weight 1. Weights of items multiply all.
struct Loss {
  let problem: ProblemType
  var labels: Int
  var smoothing = 0.0
  /// A weight a class, or empty: all 1.
  var classWeights: [Double] = []
  /// Of the contrastive loss: what cosines are multiplied by.
  var similarityScale: Float = 1
  /// Takes the place of all these.
  var host: HostLoss?

  /// - Parameters:
  ///   - logits: (items, labels)
  ///   - gradient: (items, labels), d(weighted sum)/d logits, or nil
  /// - Throws: as the host's loss does
  func callAsFunction(
    logits: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>?, _ items: LossItems
  ) throws -> LossSums {
    guard let host else { return builtIn(logits, gradient, items) }
    return try host(
      logits: logits, gradient: gradient, width: labels, items, builtIn(logits, nil, items))
  }

  private func builtIn(
    _ logits: UnsafePointer<Float>, _ gradient: UnsafeMutablePointer<Float>?, _ items: LossItems
  ) -> LossSums {
    var sums = LossSums()
    for item in 0..<items.count {
      let at = item * labels
      let weight = Double(items.weights[item])
      let own = gradient.map { $0 + at }
      switch (problem, items.targets) {
      case (.regression, let targets?) where weight > 0:
        sums += squaredError(logits + at, own, targets + at, weight)
      case (.multiLabel, let targets?) where weight > 0:
        sums += binaryCrossEntropy(logits + at, own, targets + at, weight)
      case (.classification, _) where items.hasLoss(item),
        (.contrastive, _) where items.hasLoss(item), (.nextToken, _) where items.hasLoss(item):
        sums += crossEntropy(logits + at, own, Int(items.labels[item]), weight)
      default: if let own { for c in 0..<labels { own[c] = 0 } }
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

  /// Right where every output is on its target's side.
  private func binaryCrossEntropy(
    _ logits: UnsafePointer<Float>, _ gradient: UnsafeMutablePointer<Float>?,
    _ targets: UnsafePointer<Float>, _ rowWeight: Double
  ) -> LossSums {
    var loss = 0.0
    var isRight = true
    for c in 0..<labels {
      let (z, t) = (Double(logits[c]), Double(targets[c]))
      // log(1 + eᶻ) = max(z, 0) + log(1 + e^−|z|)
      loss += (max(z, 0) + log1p(exp(-abs(z))) - t * z) / Double(labels)
      let probability = z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z))
      if let gradient { gradient[c] = Float(rowWeight * (probability - t) / Double(labels)) }
      isRight = isRight && (z > 0) == (t > 0.5)
    }
    return LossSums(
      loss: rowWeight * loss, weight: rowWeight, rows: 1, correct: isRight ? 1 : 0)
  }
}
