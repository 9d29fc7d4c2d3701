/// Means over each row's tokens: (tokens, columns) → (rows, columns), and back.
enum MeanPooling {
  static func forward(
    _ hidden: UnsafePointer<Float>, _ means: UnsafeMutablePointer<Float>, _ batch: StagedBatch,
    columns: Int, _ compute: Compute
  ) {
    let kernels = compute.kernels
    for row in 0..<batch.rows {
      let length = batch.length(of: row)
      let mean = means + row * columns
      kernels.fill(0, mean, columns)
      kernels.column_sums(
        hidden + Int(batch.starts[row]) * columns, length, columns, columns, mean)
      kernels.axpby(1 / Float(length), mean, 0, mean, columns)
    }
  }

  static func backward(
    _ gradient: UnsafePointer<Float>, _ dHidden: UnsafeMutablePointer<Float>,
    _ batch: StagedBatch, columns: Int, _ compute: Compute
  ) {
    for row in 0..<batch.rows {
      let share = 1 / Float(batch.length(of: row))
      for token in Int(batch.starts[row])..<Int(batch.starts[row + 1]) {
        compute.kernels.axpby(
          share, gradient + row * columns, 0, dHidden + token * columns, columns)
      }
    }
  }
}
