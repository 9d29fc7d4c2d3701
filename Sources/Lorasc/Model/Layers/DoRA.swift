import CSupport

/// Weight-decomposed adaptation (Liu et al. 2024) of a linear layer: W' = k ⊙ V' by rows, with
/// V' = V + s B A, c = ‖V'‖ by rows, k = m / c.
///
/// The norms come from c² = ‖V‖² + 2 s Σ (V Aᵀ) ⊙ B + s² Σ (B (A Aᵀ)) ⊙ B by rows, so that V' is
/// never formed.
struct DoRA {
  /// (out)
  let magnitude: UnsafePointer<Float>
  let gradientMagnitude: UnsafeMutablePointer<Float>
  /// Differentiate the norms too, instead of taking them for constants.
  let isExact: Bool
  let buffers: Buffers

  /// What a forward keeps for its backward, for ranks up to r and at most `tokens` tokens.
  struct Buffers {
    /// (out): ‖V‖² by rows, set with the layer's weight
    let squares: AlignedBuffer<Double>
    /// (out): c and k of the forward
    let norms: UnsafeMutablePointer<Float>
    let factors: UnsafeMutablePointer<Float>
    /// (tokens, out): X V'ᵀ of the forward
    let directed: UnsafeMutablePointer<Float>
    /// (r, out): A Vᵀ of the forward
    let weightByA: UnsafeMutablePointer<Float>
    /// (out, r): B (A Aᵀ)
    let gram: UnsafeMutablePointer<Float>
    /// (r, r): A Aᵀ; Bᵀ D B
    let small: UnsafeMutablePointer<Float>
    /// (out): dm of one backward; D = k dm / c
    let change: UnsafeMutablePointer<Float>

    init(_ module: MatrixModule, rank: Int, tokens: Int, _ arena: Arena) throws {
      let out = module.outFeatures
      squares = try AlignedBuffer(count: out, what: "plan.dora.squares")
      norms = try arena.floats(out, "plan.dora.norms")
      factors = try arena.floats(out, "plan.dora.factors")
      directed = try arena.matrix(tokens, out, "plan.dora.directed")
      weightByA = try arena.matrix(rank, out, "plan.dora.weight_by_a")
      gram = try arena.matrix(out, rank, "plan.dora.gram")
      small = try arena.matrix(rank, rank, "plan.dora.small")
      change = try arena.floats(out, "plan.dora.change")
    }
  }

  var factors: UnsafeMutablePointer<Float> { buffers.factors }
  var directed: UnsafeMutablePointer<Float> { buffers.directed }

  /// c and k from the factors as they are now.
  func measure(_ weight: LayerWeight, _ expert: Expert, _ compute: Compute) {
    let (rank, inFeatures, outFeatures) = (expert.rank, weight.inFeatures, weight.outFeatures)
    weight.multiply(
      expert.a, ldx: inFeatures, buffers.weightByA, ldy: outFeatures, rows: rank, compute)
    compute.gemm(
      rank, rank, inFeatures, a: expert.a, lda: inFeatures, b: expert.a, ldb: inFeatures,
      transposeB: true, c: buffers.small, ldc: rank)
    compute.gemm(
      outFeatures, rank, rank, a: expert.b, lda: rank, b: buffers.small, ldb: rank, c: buffers.gram,
      ldc: rank)
    compute.forRows(outFeatures, cost: 20 * rank) { start, end in
      for row in start..<end { measure(row, expert, outFeatures) }
    }
  }

  private func measure(_ row: Int, _ expert: Expert, _ outFeatures: Int) {
    let (rank, scale) = (expert.rank, Double(expert.scale))
    var mixed = 0.0
    var own = 0.0
    for k in 0..<rank {
      let b = Double(expert.b[row * rank + k])
      mixed += Double(buffers.weightByA[k * outFeatures + row]) * b
      own += Double(buffers.gram[row * rank + k]) * b
    }
    let norm = max(0, buffers.squares[row] + scale * (2 * mixed + scale * own)).squareRoot()
    buffers.norms[row] = Float(norm)
    // A row of zeros stays one.
    factors[row] = norm > 0 ? Float(Double(magnitude[row]) / norm) : 0
  }

  /// y = k ⊙ y + b, of rows that held X V'ᵀ, which stays for the backward.
  ///
  /// - Parameter y: (rows, out), rows `ldy` apart, those from `first` on
  func scale(
    _ y: UnsafeMutablePointer<Float>, ldy: Int, first: Int, rows: Int,
    bias: UnsafePointer<Float>?, outFeatures: Int, _ compute: Compute
  ) {
    lorasc_copy_past_caches(y, ldy, directed + first * outFeatures, rows, outFeatures)
    compute.kernels.scale_columns(factors, bias, y, rows, outFeatures, ldy)
  }

  /// The backward's products take H = k ⊙ G.
  func weighed(_ memory: WeighedInput.Memory) -> WeighedInput {
    WeighedInput(factors: factors, other: directed, memory: memory)
  }

  /// dm += Σ_n G ⊙ (X V'ᵀ) / c, once H is made; `buffers.change` keeps what this added.
  func addMagnitudeGradient(
    _ weighed: WeighedInput, rows: Int, outFeatures: Int, _ compute: Compute
  ) {
    buffers.change.update(repeating: 0, count: outFeatures)
    weighed.addSums(to: buffers.change, rows: rows, outFeatures, compute)
    for row in 0..<outFeatures {
      buffers.change[row] = buffers.norms[row] > 0 ? buffers.change[row] / buffers.norms[row] : 0
      gradientMagnitude[row] += buffers.change[row]
    }
  }

  /// What the norms add to the gradients where they are differentiated: with D = diag(k dm / c),
  /// dB −= s D V' Aᵀ and dA −= s Bᵀ D V', V' Aᵀ = V Aᵀ + s B (A Aᵀ).
  func addNormGradients(_ weight: LayerWeight, _ expert: Expert, _ compute: Compute) {
    let (rank, inFeatures, outFeatures) = (expert.rank, weight.inFeatures, weight.outFeatures)
    let scale = expert.scale
    for row in 0..<outFeatures {
      buffers.change[row] =
        buffers.norms[row] > 0 ? factors[row] * buffers.change[row] / buffers.norms[row] : 0
    }
    for row in 0..<outFeatures {
      for column in 0..<rank {
        let k = row * rank + column
        expert.gradientB?[k] -=
          scale * buffers.change[row]
          * (buffers.weightByA[column * outFeatures + row] + scale * buffers.gram[k])
        // Both are used up: (out, r) and (r, out) of D B from here on.
        buffers.gram[k] = buffers.change[row] * expert.b[k]
        buffers.weightByA[column * outFeatures + row] = buffers.gram[k]
      }
    }
    guard let gradientA = expert.gradientA else { return }
    weight.multiplyTransposed(
      buffers.weightByA, ldg: outFeatures, gradientA, lddx: inFeatures, rows: rank, alpha: -scale,
      beta: 1, compute)
    compute.gemm(
      rank, rank, outFeatures, a: expert.b, lda: rank, transposeA: true, b: buffers.gram, ldb: rank,
      c: buffers.small, ldc: rank)
    compute.gemm(
      rank, inFeatures, rank, a: buffers.small, lda: rank, b: expert.a, ldb: inFeatures,
      c: gradientA,
      ldc: inFeatures, alpha: -scale * scale, beta: 1)
  }
}
