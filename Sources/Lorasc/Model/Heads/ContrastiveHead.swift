/// Sentence embeddings that tell an anchor's positive from all others of the batch: the
/// multiple-negatives ranking loss (Henderson et al. 2017), as sentence-transformers'.
///
/// Rows come in examples of g: anchor, positive, negatives. With unit vectors a_i of the n
/// anchors and c_j of the other n (g − 1) rows: cross-entropy of S = scale · A Cᵀ against
/// anchor i's positive.
final class ContrastiveHead: OutputLayer {
  private let columns: Int
  private let group: Int
  /// (rows, hidden): means; unit vectors; the gradient of these
  private let means: UnsafeMutablePointer<Float>
  private let units: UnsafeMutablePointer<Float>
  private let gradient: UnsafeMutablePointer<Float>
  /// (rows): 1 / norm of a mean
  private let reciprocals: UnsafeMutablePointer<Float>
  /// (n, hidden), (n (g − 1), hidden): anchors and candidates apart, then their gradients
  private let anchors: UnsafeMutablePointer<Float>
  private let candidates: UnsafeMutablePointer<Float>
  /// (n, n (g − 1))
  private let scores: UnsafeMutablePointer<Float>
  private let dScores: UnsafeMutablePointer<Float>
  private let mostExamples: Int
  private let labels: UnsafeMutablePointer<Int32>
  private let weights: UnsafeMutablePointer<Float>
  private let numbers: UnsafeMutablePointer<Int>

  init(columns: Int, group: Int, rows: Int, examples: Int, _ arena: Arena) throws {
    self.columns = columns
    self.group = group
    mostExamples = min(examples, rows / group)
    let n = mostExamples
    means = try arena.matrix(rows, columns, "plan.head.means")
    units = try arena.matrix(rows, columns, "plan.head.units")
    gradient = try arena.matrix(rows, columns, "plan.head.gradient")
    reciprocals = try arena.floats(rows, "plan.head.reciprocals")
    anchors = try arena.matrix(n, columns, "plan.head.anchors")
    candidates = try arena.matrix(n * (group - 1), columns, "plan.head.candidates")
    scores = try arena.matrix(n, n * (group - 1), "plan.head.scores")
    dScores = try arena.matrix(n, n * (group - 1), "plan.head.scores_gradient")
    labels = try arena.integers(n, "plan.head.labels")
    weights = try arena.floats(n, "plan.head.weights")
    numbers = try arena.indices(n, "plan.head.numbers")
  }

  func module(of tensor: HeadTensor) -> LinearLayer? { nil }

  func train(
    _ hidden: UnsafePointer<Float>, dHidden: UnsafeMutablePointer<Float>?, _ batch: StagedBatch,
    _ loss: Loss, dropout: DropoutPlan, _ compute: Compute
  ) throws -> LossSums {
    let sums = try forward(hidden, batch, loss, dScores, compute)
    guard sums.isUsable, let dHidden else { return sums }
    backward(dHidden, batch, loss, compute)
    return sums
  }

  func evaluate(
    _ hidden: UnsafePointer<Float>, _ batch: StagedBatch, _ loss: Loss, _ compute: Compute
  ) throws -> LossSums {
    try forward(hidden, batch, loss, nil, compute)
  }

  private func forward(
    _ hidden: UnsafePointer<Float>, _ batch: StagedBatch, _ loss: Loss,
    _ dScores: UnsafeMutablePointer<Float>?, _ compute: Compute
  ) throws -> LossSums {
    let n = min(mostExamples, batch.rows / group)
    let others = n * (group - 1)
    let rows = batch.items(isByToken: false)
    MeanPooling.forward(hidden, means, batch, columns: columns, compute)
    for row in 0..<batch.rows {
      let (mean, unit) = (means + row * columns, units + row * columns)
      let norm = compute.kernels.sum_squared_deviations(mean, 0, columns).squareRoot()
      // PyTorch's cosine: a norm below 1e-8 counts as that.
      reciprocals[row] = Float(1 / max(norm, 1e-8))
      compute.kernels.axpby(reciprocals[row], mean, 0, unit, columns)
    }
    for example in 0..<n {
      let first = units + example * group * columns
      (anchors + example * columns).update(from: first, count: columns)
      (candidates + example * (group - 1) * columns)
        .update(from: first + columns, count: (group - 1) * columns)
      labels[example] = Int32(example * (group - 1))
      weights[example] = rows.weights[example * group]
      numbers[example] = rows.rows[example * group]
    }
    compute.gemm(
      n, others, columns, a: anchors, lda: columns, b: candidates, ldb: columns, transposeB: true,
      c: scores, ldc: others, alpha: loss.similarityScale)
    var ranking = loss
    ranking.labels = others
    return try ranking(
      logits: scores, gradient: dScores,
      LossItems(
        count: n, labels: labels, weights: weights, targets: nil, rows: numbers, places: nil))
  }

  /// Through S = scale · A Cᵀ, the unit vectors u = v / ‖v‖ (dv = (du − u ⟨u, du⟩) / ‖v‖) and
  /// the means.
  private func backward(
    _ dHidden: UnsafeMutablePointer<Float>, _ batch: StagedBatch, _ loss: Loss,
    _ compute: Compute
  ) {
    let n = min(mostExamples, batch.rows / group)
    let others = n * (group - 1)
    let kernels = compute.kernels
    // Anchors' gradients go to every g-th row, candidates' to those between.
    compute.gemm(
      n, columns, others, a: dScores, lda: others, b: candidates, ldb: columns,
      c: gradient, ldc: group * columns, alpha: loss.similarityScale)
    compute.gemm(
      others, columns, n, a: dScores, lda: others, transposeA: true, b: anchors, ldb: columns,
      c: candidates, ldc: columns, alpha: loss.similarityScale)
    for example in 0..<n {
      (gradient + (example * group + 1) * columns)
        .update(from: candidates + example * (group - 1) * columns, count: (group - 1) * columns)
    }
    for row in 0..<batch.rows {
      let (g, unit) = (gradient + row * columns, units + row * columns)
      let along = kernels.dot(g, unit, columns)
      kernels.axpby(-along, unit, 1, g, columns)
      kernels.axpby(reciprocals[row], g, 0, g, columns)
    }
    MeanPooling.backward(gradient, dHidden, batch, columns: columns, compute)
  }

  func predict(
    _ hidden: UnsafePointer<Float>, _ batch: StagedBatch, items: [Int],
    into out: UnsafeMutablePointer<Float>, _ compute: Compute
  ) {
    MeanPooling.forward(hidden, means, batch, columns: columns, compute)
    for (place, row) in items.enumerated() {
      (out + place * columns).update(from: means + row * columns, count: columns)
    }
  }
}
