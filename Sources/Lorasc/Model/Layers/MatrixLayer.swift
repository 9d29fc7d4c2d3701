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
    /// (tokens, in): the input after dropout; nil without dropout and DoRA
    let input: UnsafeMutablePointer<Float>?
    /// (tokens, out): k ⊙ dY; nil without DoRA
    let output: UnsafeMutablePointer<Float>?
  }
}
