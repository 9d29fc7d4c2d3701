extension Trainer {
  /// LoRA-FA's projection (Zhang et al. 2023, as PEFT's LoraFAOptimizer): with A frozen,
  /// g_B ← g_B (A Aᵀ + 1e-8 I)⁻¹ / s² is the step of B that is nearest to the full gradient's.
  func projectGradients() throws {
    for target in adapter.targets {
      let module = model.matrices[target.matrix]
      guard module.isLinear else { continue }
      let rank = target.rank
      let a = adapter.parameters.pointer(target.a)
      var gram = [Double](repeating: 0, count: rank * rank)
      for i in 0..<rank {
        for j in 0...i {
          var sum = i == j ? 1e-8 : 0.0
          for k in 0..<module.inFeatures {
            sum += Double(a[i * module.inFeatures + k]) * Double(a[j * module.inFeatures + k])
          }
          gram[i * rank + j] = sum
          gram[j * rank + i] = sum
        }
      }
      let inverse = try gram.withUnsafeBufferPointer {
        try SVD($0, rows: rank, columns: rank, what: module.name).pseudoInverse()
      }
      let scale = Double(target.scale) * Double(target.scale)
      let rows = gradient.pointer + adapter.parameters.list[target.b].offset
      var projected = [Float](repeating: 0, count: rank)
      for row in 0..<module.outFeatures {
        let g = rows + row * rank
        for j in 0..<rank {
          var sum = 0.0
          for k in 0..<rank { sum += Double(g[k]) * inverse[k * rank + j] }
          projected[j] = Float(sum / scale)
        }
        g.update(from: projected, count: rank)
      }
    }
  }
}

extension SVD {
  /// V diag(1/σ) Uᵀ, (columns, rows), without singular values below the rounding of the largest.
  fileprivate func pseudoInverse() -> [Double] {
    var inverse = [Double](repeating: 0, count: columns * rows)
    guard count > 0 else { return inverse }
    let limit = singularValues[0] * Double(max(rows, columns)) * Double.ulpOfOne
    for index in 0..<count where singularValues[index] > limit {
      for column in 0..<columns {
        let v = vt[index * columns + column] / singularValues[index]
        for row in 0..<rows { inverse[column * rows + row] += v * u[row * count + index] }
      }
    }
    return inverse
  }
}
