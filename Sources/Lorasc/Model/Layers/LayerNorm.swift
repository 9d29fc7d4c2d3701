/// y = (x − mean) / √(variance + ε) ⊙ γ + β by rows, of the sum of a branch and its residual.
/// γ and β are frozen.
struct LayerNorm {
  let gamma: FloatView
  let beta: FloatView
  let epsilon: Float
  let columns: Int

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
    compute.forRows(rows, cost: 4 * columns) { start, end in
      let at = start * columns
      kernel(
        x + at, residual.map { $0 + at }, gamma.pointer, beta.pointer, epsilon, saved.sum + at,
        y + at, saved.mean + start, saved.reciprocal + start, end - start, columns)
    }
  }

  /// dx = d loss / d sum; in place too.
  func backward(
    _ dy: UnsafePointer<Float>, _ saved: Saved, _ dx: UnsafeMutablePointer<Float>, rows: Int,
    _ compute: Compute
  ) {
    let kernel = compute.kernels.layer_norm_backward
    compute.forRows(rows, cost: 6 * columns) { start, end in
      let at = start * columns
      kernel(
        dy + at, saved.sum + at, gamma.pointer, saved.mean + start, saved.reciprocal + start,
        dx + at, nil, nil, end - start, columns)
    }
  }
}
