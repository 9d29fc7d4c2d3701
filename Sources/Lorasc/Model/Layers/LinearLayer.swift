/// A low-rank expert on a linear layer, as pointers into the adapter's parameters and the
/// trainer's gradients: Y += s (X Aᵀ) Bᵀ.
struct LowRankBinding {
  let rank: Int
  let scale: Float
  /// (r, in)
  let a: UnsafePointer<Float>
  /// (out, r)
  let b: UnsafePointer<Float>
  let gradientA: UnsafeMutablePointer<Float>
  let gradientB: UnsafeMutablePointer<Float>
  /// (tokens, r): X Aᵀ of the forward, kept for dB.
  let projected: UnsafeMutablePointer<Float>
  /// (tokens, r): dY B, shared by all layers.
  let scratch: UnsafeMutablePointer<Float>
}

/// Gradients of a linear layer that is trained in full.
struct FullBinding {
  /// (out, in)
  let gradientWeight: UnsafeMutablePointer<Float>
  /// (out)
  let gradientBias: UnsafeMutablePointer<Float>?
}

/// Y = X Wᵀ + b + s (X Aᵀ) Bᵀ with X (rows, in), Y (rows, out); W is whatever the trainer's
/// working weights say now: frozen, noisy or merged.
final class LinearLayer {
  let name: String
  let inFeatures: Int
  let outFeatures: Int
  /// (out, in)
  var weight: UnsafePointer<Float>
  var bias: UnsafePointer<Float>?
  /// Used by forward and backward while `expertActive`.
  var expert: LowRankBinding?
  var expertActive = true
  var full: FullBinding?

  init(_ module: LinearModule) {
    name = module.name
    inFeatures = module.inFeatures
    outFeatures = module.outFeatures
    weight = module.weight.pointer
    bias = module.bias?.pointer
  }

  init(
    _ name: String, inFeatures: Int, outFeatures: Int, weight: UnsafePointer<Float>,
    bias: UnsafePointer<Float>?
  ) {
    self.name = name
    self.inFeatures = inFeatures
    self.outFeatures = outFeatures
    self.weight = weight
    self.bias = bias
  }

  var isTrained: Bool { expert != nil || full != nil }

  /// - Parameters:
  ///   - x: (rows, in), rows `ldx` apart
  ///   - y: (rows, out), rows `ldy` apart
  func forward(
    _ x: UnsafePointer<Float>, ldx: Int, _ y: UnsafeMutablePointer<Float>, ldy: Int, rows: Int,
    _ compute: Compute
  ) {
    if let bias {
      let broadcast = compute.kernels.broadcast_rows
      compute.forRows(rows, cost: outFeatures) { start, end in
        broadcast(bias, y + start * ldy, end - start, outFeatures, ldy)
      }
    }
    compute.gemm(
      rows, outFeatures, inFeatures, a: x, lda: ldx, b: weight, ldb: inFeatures, transposeB: true,
      c: y, ldc: ldy, beta: bias == nil ? 0 : 1)
    guard expertActive, let expert else { return }
    compute.gemm(
      rows, expert.rank, inFeatures, a: x, lda: ldx, b: expert.a, ldb: inFeatures,
      transposeB: true, c: expert.projected, ldc: expert.rank)
    compute.gemm(
      rows, outFeatures, expert.rank, a: expert.projected, lda: expert.rank, b: expert.b,
      ldb: expert.rank, transposeB: true, c: y, ldc: ldy, alpha: expert.scale, beta: 1)
  }

  /// With G = dL/dY: dB += s Gᵀ(X Aᵀ), dA += s (G B)ᵀ X, dX = G W + s (G B) A; trained in
  /// full: dW += Gᵀ X, db += column sums of G.
  ///
  /// - Parameters:
  ///   - dx: (rows, in), or nil where nothing below is trained
  ///   - accumulate: add to dx instead of setting it
  func backward(
    _ dy: UnsafePointer<Float>, lddy: Int, x: UnsafePointer<Float>, ldx: Int,
    dx: UnsafeMutablePointer<Float>?, lddx: Int, accumulate: Bool = false, rows: Int,
    _ compute: Compute
  ) {
    if let full {
      compute.gemm(
        outFeatures, inFeatures, rows, a: dy, lda: lddy, transposeA: true, b: x, ldb: ldx,
        c: full.gradientWeight, ldc: inFeatures, beta: 1)
      if let gradientBias = full.gradientBias {
        compute.kernels.column_sums(dy, rows, outFeatures, lddy, gradientBias)
      }
    }
    if let dx {
      compute.gemm(
        rows, inFeatures, outFeatures, a: dy, lda: lddy, b: weight, ldb: inFeatures, c: dx,
        ldc: lddx, beta: accumulate ? 1 : 0)
    }
    guard expertActive, let expert else { return }
    compute.gemm(
      rows, expert.rank, outFeatures, a: dy, lda: lddy, b: expert.b, ldb: expert.rank,
      c: expert.scratch, ldc: expert.rank)
    compute.gemm(
      outFeatures, expert.rank, rows, a: dy, lda: lddy, transposeA: true, b: expert.projected,
      ldb: expert.rank, c: expert.gradientB, ldc: expert.rank, alpha: expert.scale, beta: 1)
    compute.gemm(
      expert.rank, inFeatures, rows, a: expert.scratch, lda: expert.rank, transposeA: true, b: x,
      ldb: ldx, c: expert.gradientA, ldc: inFeatures, alpha: expert.scale, beta: 1)
    if let dx {
      compute.gemm(
        rows, inFeatures, expert.rank, a: expert.scratch, lda: expert.rank, b: expert.a,
        ldb: inFeatures, c: dx, ldc: lddx, alpha: expert.scale, beta: 1)
    }
  }
}
