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
    /// For Aᵀ or B.
    let skinny: SkinnyFactor.Memory
    /// For Bᵀ or A, and (tokens + 1, r) for X Aᵀ or dY B; nil: all is float32
    let wide: WideFactor.Memory?
  }

  /// X Aᵀ is made by it, until the next skinny factor is.
  func transposedA(_ inFeatures: Int, rows: Int, _ compute: Compute) -> SkinnyFactor {
    SkinnyFactor(
      a, isTransposed: true, inner: inFeatures, rank: rank, rows: rows, scratch.skinny, compute)
  }

  /// And dY B.
  func skinnyB(_ outFeatures: Int, rows: Int, _ compute: Compute) -> SkinnyFactor {
    SkinnyFactor(
      b, isTransposed: false, inner: outFeatures, rank: rank, rows: rows, scratch.skinny, compute)
  }

  /// s P Bᵀ is made by it, until the next wide factor is. From B itself it takes 1.1 to 1.8 times as
  /// long.
  func transposedB(_ outFeatures: Int, rows: Int, _ compute: Compute) -> WideFactor {
    compute.copy(
      outFeatures, rank, b, strides: (rank, 1), to: scratch.transposedB, strides: (1, outFeatures))
    return WideFactor(
      UnsafePointer(scratch.transposedB), rank: rank, width: outFeatures, rows: rows, scale: scale,
      scratch.wide, compute)
  }

  /// And s (dY B) A.
  func wideA(_ inFeatures: Int, rows: Int, _ compute: Compute) -> WideFactor {
    WideFactor(
      a, rank: rank, width: inFeatures, rows: rows, scale: scale, scratch.wide, compute)
  }
}
