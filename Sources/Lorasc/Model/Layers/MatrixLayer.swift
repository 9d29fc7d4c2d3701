/// The plan's side of a matrix module: which weight it sees now, and what of it is trained.
protocol MatrixLayer: AnyObject {
  /// In the module's layout; whatever the working weights say: frozen, noisy or merged.
  var weight: WeightSource { get set }
  /// Used by forward and backward while `expertActive`.
  var expert: Expert? { get set }
  var expertActive: Bool { get set }
  /// In the layout of `weight`; nil: the weight is frozen.
  var gradientWeight: UnsafeMutablePointer<Float>? { get set }
}

/// A low-rank expert on a layer, as pointers into the adapter's parameters and the trainer's
/// gradients, with the buffers that its forward keeps for its backward.
struct Expert {
  let rank: Int
  let scale: Float
  /// (r, in)
  let a: UnsafePointer<Float>
  /// (out, r)
  let b: UnsafePointer<Float>
  /// nil: frozen
  let gradientA: UnsafeMutablePointer<Float>?
  let gradientB: UnsafeMutablePointer<Float>?
  /// (tokens, r): X Aᵀ of the forward, kept for dB.
  let projected: UnsafeMutablePointer<Float>
  let scratch: Scratch
  let dora: DoRA?

  /// Buffers that all experts of a trainer share.
  struct Scratch {
    /// (tokens, r): dY B
    let projected: UnsafeMutablePointer<Float>
    /// (r, out): Bᵀ, or what is added to dB, transposed: oneDNN's float32 products with few columns
    /// take up to twice the time of those with few rows
    let transposedB: UnsafeMutablePointer<Float>
    /// Of sums over tokens, r times in or out: see `SumSplit`.
    let parts: UnsafeMutablePointer<Float>
    /// (tokens, in): the input after dropout; nil without dropout and DoRA
    let input: UnsafeMutablePointer<Float>?
    /// For k ⊙ dY; nil without DoRA
    let weighed: WeighedInput.Memory?
    /// For products with what is held as bfloat16; nil: all is float32
    let rounded: Rounded?
  }

  struct Rounded {
    /// (r, in) or (out, r): A or B
    let factor: UnsafeMutablePointer<UInt16>
    /// (tokens, r): X Aᵀ or dY B
    let projected: UnsafeMutablePointer<UInt16>
  }

  /// Bᵀ (r, out) in scratch memory, for P Bᵀ: from B itself it takes 1.1 to 1.8 times as long.
  func transposedB(_ outFeatures: Int, _ compute: Compute) -> UnsafePointer<Float> {
    let (b, rank, transposed) = (b, rank, scratch.transposedB)
    compute.forRows(outFeatures, cost: 10 * rank) { start, end in
      for row in start..<end {
        for k in 0..<rank { transposed[k * outFeatures + row] = b[row * rank + k] }
      }
    }
    return UnsafePointer(transposed)
  }

  /// A or B for products; rounded, too, in bfloat16.
  func factor(_ values: UnsafePointer<Float>, _ count: Int, _ compute: Compute) -> Values {
    round(values, count, into: scratch.rounded?.factor, compute)
  }

  /// The same of X Aᵀ or dY B.
  func projection(_ values: UnsafePointer<Float>, _ count: Int, _ compute: Compute) -> Values {
    round(values, count, into: scratch.rounded?.projected, compute)
  }

  private func round(
    _ values: UnsafePointer<Float>, _ count: Int, into halves: UnsafeMutablePointer<UInt16>?,
    _ compute: Compute
  ) -> Values {
    if let halves { compute.kernels.f32_to_bf16(values, halves, count) }
    return Values(reading: values, halves: halves)
  }
}
