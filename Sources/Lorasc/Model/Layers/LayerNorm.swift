/// y = (x − mean) / √(variance + ε) ⊙ γ + β by rows, of the sum of a branch and its residual.
final class LayerNorm {
  /// (columns)
  var gamma: UnsafePointer<Float>
  var beta: UnsafePointer<Float>
  /// (columns); nil: frozen
  var gradientGamma: UnsafeMutablePointer<Float>?
  var gradientBeta: UnsafeMutablePointer<Float>?
  private let epsilon: Float
  private let columns: Int

  init(_ module: NormModule) {
    gamma = module.gamma.pointer
    beta = module.beta.pointer
    epsilon = module.epsilon
    columns = module.columns
  }

  var isTrained: Bool { gradientGamma != nil || gradientBeta != nil }

  /// What the backward needs: the sum (rows, columns), mean and 1/√(variance + ε) (rows).
  struct Saved {
    let sum: UnsafeMutablePointer<Float>
    let mean: UnsafeMutablePointer<Float>
    let reciprocal: UnsafeMutablePointer<Float>

    init(rows: Int, columns: Int, _ what: String, _ arena: Arena) throws {
      sum = try arena.matrix(rows, columns, what + ".sum")
      mean = try arena.floats(rows, what + ".mean")
      reciprocal = try arena.floats(rows, what + ".reciprocal")
    }
  }

  /// saved.sum = x + residual, y = LayerNorm(saved.sum).
  func forward(
    _ x: UnsafePointer<Float>, residual: UnsafePointer<Float>?, _ y: UnsafeMutablePointer<Float>,
    _ saved: Saved, rows: Int, _ compute: Compute
  ) {
    let kernel = compute.kernels.layer_norm_forward
    let (gamma, beta, epsilon, columns) = (gamma, beta, epsilon, columns)
    compute.forRows(rows, cost: 4 * columns) { start, end in
      let at = start * columns
      kernel(
        x + at, residual.map { $0 + at }, gamma, beta, epsilon, saved.sum + at, y + at,
        saved.mean + start, saved.reciprocal + start, end - start, columns)
    }
  }

  /// dx = d loss / d sum, in place too; where they are trained dγ += Σ dy ⊙ x̂, dβ += Σ dy.
  func backward(
    _ dy: UnsafePointer<Float>, _ saved: Saved, _ dx: UnsafeMutablePointer<Float>, rows: Int,
    _ compute: Compute
  ) {
    let kernel = compute.kernels.layer_norm_backward
    let (gamma, columns) = (gamma, columns)
    if isTrained {
      // All rows in order on one thread: a sum over rows has one order then.
      kernel(
        dy, saved.sum, gamma, saved.mean, saved.reciprocal, dx, gradientGamma, gradientBeta, rows,
        columns)
      return
    }
    compute.forRows(rows, cost: 6 * columns) { start, end in
      let at = start * columns
      kernel(
        dy + at, saved.sum + at, gamma, saved.mean + start, saved.reciprocal + start,
        dx + at, nil, nil, end - start, columns)
    }
  }
}
