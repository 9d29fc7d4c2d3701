/// Normalises rows of the sum x of a branch and its residual.
///
/// LayerNorm: y = (x − mean) / √(variance + ε) ⊙ γ + β;
/// RMSNorm (without β): y = x / √(mean of x² + ε) ⊙ γ.
final class Norm {
  /// (columns)
  var gamma: UnsafePointer<Float>
  /// nil: RMSNorm
  var beta: UnsafePointer<Float>?
  /// (columns); nil: frozen
  var gradientGamma: UnsafeMutablePointer<Float>?
  var gradientBeta: UnsafeMutablePointer<Float>?
  private let epsilon: Float
  private let columns: Int

  init(_ module: NormModule) {
    gamma = module.gamma.pointer
    beta = module.beta?.pointer
    epsilon = module.epsilon
    columns = module.columns
  }

  var isTrained: Bool { gradientGamma != nil || gradientBeta != nil }

  /// What the backward needs: the sum (rows, columns), mean and 1 / √… (rows).
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

  /// saved.sum = x + residual, y = Norm(saved.sum); x may be saved.sum.
  ///
  /// - Parameter y: float32, rounded or both, as it has room
  func forward(
    _ x: UnsafePointer<Float>, residual: UnsafePointer<Float>?, _ y: Values, _ saved: Saved,
    rows: Int, _ compute: Compute
  ) {
    compute.forRows(rows, cost: 4 * columns) { start, end in
      forward(x, residual: residual, y, saved, rows: start..<end, compute)
    }
  }

  /// The same of some rows, on the calling thread.
  func forward(
    _ x: UnsafePointer<Float>, residual: UnsafePointer<Float>?, _ y: Values, _ saved: Saved,
    rows: Range<Int>, _ compute: Compute
  ) {
    let (at, start, kernels) = (rows.lowerBound * columns, rows.lowerBound, compute.kernels)
    let y = y + at
    if let beta {
      kernels.layer_norm_forward(
        x + at, residual.map { $0 + at }, gamma, beta, epsilon, saved.sum + at, y.floats,
        y.halves, saved.mean + start, saved.reciprocal + start, rows.count, columns)
    } else {
      kernels.rms_norm_forward(
        x + at, residual.map { $0 + at }, gamma, epsilon, saved.sum + at, y.floats,
        y.halves, saved.reciprocal + start, rows.count, columns)
    }
  }

  /// What a forward gave, from the sum that it saved.
  func again(_ saved: Saved, _ y: Values, rows: Int, _ compute: Compute) {
    forward(saved.sum, residual: nil, y, saved, rows: rows, compute)
  }

  /// dx = d loss / d sum (+ add), in place too; where they are trained dγ += Σ dy ⊙ x̂,
  /// dβ += Σ dy.
  /// - Parameter dx: float32; rounded too where it has room for it
  func backward(
    _ dy: UnsafePointer<Float>, _ saved: Saved, add: UnsafePointer<Float>? = nil, _ dx: Values,
    rows: Int, _ compute: Compute
  ) {
    if isTrained {
      // All rows in order on one thread: a sum over rows has one order then.
      return backward(dy, saved, add, dx, gradientGamma, gradientBeta, 0, rows, compute)
    }
    compute.forRows(rows, cost: 6 * columns) { start, end in
      backward(dy, saved, add, dx, nil, nil, start, end, compute)
    }
  }

  private func backward(
    _ dy: UnsafePointer<Float>, _ saved: Saved, _ add: UnsafePointer<Float>?,
    _ dx: Values, _ dGamma: UnsafeMutablePointer<Float>?, _ dBeta: UnsafeMutablePointer<Float>?,
    _ start: Int, _ end: Int, _ compute: Compute
  ) {
    let at = start * columns
    let dx = dx + at
    guard let floats = dx.floats else { return }
    if beta != nil {
      compute.kernels.layer_norm_backward(
        dy + at, saved.sum + at, gamma, saved.mean + start, saved.reciprocal + start,
        add.map { $0 + at }, floats, dx.halves, dGamma, dBeta, end - start, columns)
    } else {
      compute.kernels.rms_norm_backward(
        dy + at, saved.sum + at, gamma, saved.reciprocal + start, add.map { $0 + at }, floats,
        dx.halves, dGamma, end - start, columns)
    }
  }
}
