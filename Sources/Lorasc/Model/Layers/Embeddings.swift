/// Y[n] = W[id n], with a low-rank expert + s (Aᵀ[id n]) Bᵀ: W (entries, columns),
/// A (r, entries), B (columns, r).
final class EmbeddingLayer: MatrixLayer {
  private let entries: Int
  private let columns: Int
  private let paddingIndex: Int?
  var weight: WeightSource
  var expert: Expert?
  var expertActive = true
  var gradientWeight: UnsafeMutablePointer<Float>?

  init(_ module: MatrixModule) {
    entries = module.inFeatures
    columns = module.outFeatures
    weight = WeightSource(module.weight)
    if case .embedding(let index) = module.kind { paddingIndex = index } else { paddingIndex = nil }
  }

  var isTrained: Bool { expert != nil || gradientWeight != nil }

  /// Y (tokens, columns) += the rows of these ids.
  func forward(
    _ ids: UnsafePointer<Int32>, addTo y: UnsafeMutablePointer<Float>, tokens: Int,
    _ compute: Compute
  ) {
    let axpby = compute.kernels.axpby
    let (weight, columns, entries) = (weight, columns, entries)
    compute.forRows(tokens, cost: columns) { start, end in
      if case .float32(let weight) = weight {
        for token in start..<end {
          axpby(1, weight + Int(ids[token]) * columns, 1, y + token * columns, columns)
        }
        return
      }
      withUnsafeTemporaryAllocation(of: Float.self, capacity: columns) { row in
        guard let row = row.baseAddress else { return }
        for token in start..<end {
          let id = Int(ids[token])
          weight.copy(rows: id..<id + 1, columns: columns, to: row)
          axpby(1, row, 1, y + token * columns, columns)
        }
      }
    }
    guard expertActive, let expert else { return }
    for token in 0..<tokens {
      for k in 0..<expert.rank {
        expert.projected[token * expert.rank + k] = expert.a[k * entries + Int(ids[token])]
      }
    }
    compute.gemm(
      tokens, columns, expert.rank, a: expert.projected, lda: expert.rank, b: expert.b,
      ldb: expert.rank, transposeB: true, c: y, ldc: columns, alpha: expert.scale, beta: 1)
  }

  /// With G = dL/dY (tokens, columns) and P = Aᵀ[ids]: dB += s Gᵀ P, column id of dA += s (G B)
  /// of its tokens; trained in full: row id of dW += G of its tokens. The padding entry has no
  /// gradient, as PyTorch's.
  func backward(
    _ dy: UnsafePointer<Float>, _ ids: UnsafePointer<Int32>, tokens: Int, _ compute: Compute
  ) {
    if let gradientWeight {
      for token in 0..<tokens where Int(ids[token]) != paddingIndex {
        compute.kernels.axpby(
          1, dy + token * columns, 1, gradientWeight + Int(ids[token]) * columns, columns)
      }
    }
    guard expertActive, let expert else { return }
    let rank = expert.rank
    if let gradientB = expert.gradientB {
      compute.gemm(
        columns, rank, tokens, a: dy, lda: columns, transposeA: true, b: expert.projected,
        ldb: rank, c: gradientB, ldc: rank, alpha: expert.scale, beta: 1)
    }
    guard let gradientA = expert.gradientA else { return }
    compute.gemm(
      tokens, rank, columns, a: dy, lda: columns, b: expert.b, ldb: rank,
      c: expert.scratch.projected, ldc: rank, alpha: expert.scale)
    for token in 0..<tokens where Int(ids[token]) != paddingIndex {
      for k in 0..<rank {
        gradientA[k * entries + Int(ids[token])] += expert.scratch.projected[token * rank + k]
      }
    }
  }
}
