/// A pair of factors with their scale: the change s B A.
final class FactorPair {
  /// (r, in), (out, r)
  let a: FloatBuffer
  let b: FloatBuffer
  let rank: Int
  let scale: Float

  init(a: FloatBuffer, b: FloatBuffer, rank: Int, scale: Float) {
    self.a = a
    self.b = b
    self.rank = rank
    self.scale = scale
  }
}

/// Where an adapter stands in its cascades.
struct CascadeState {
  /// The current cascade t, from 1.
  var index = 1
  var rule = SlowRule.interpolate
  /// μ_t of the current cascade.
  var rate = 1.0
  /// With μ = 1 every slow rule takes the fast expert whole: the merged and the fast view are
  /// the same weights to the bit.
  var viewsAgree: Bool { rate == 1 }
  /// μ of the finished ones.
  var rates: [Double] = []
  /// Factors of each finished cascade, for each target: what `SlowRule.mergeWeights` weighs.
  var terms: [[FactorPair]] = []
  /// `ema_factors`: Aˢ, Bˢ for each target, from the first cascade's start on.
  var slowFactors: [FactorPair] = []
  /// The random factor of the first cascade's start for each target, for `reinit=same_a`.
  var initialRandom: [FloatBuffer] = []
  /// `ema` with DoRA: S of each target, (out, in), from the first boundary on.
  var slowChange: [FloatBuffer] = []
  /// PiSSA: what was taken out of the backbone at the start, for each target that has it.
  var removed: [FactorPair?] = []
  /// On the backbone now, nil before the cascade's first step and where there is none.
  var noise: BackboneNoise?
  /// The values of what is trained in full at the cascade's start, for `slow_head`.
  var fullStart: FloatBuffer?
  /// DoRA's experts or persistent noise are in the masters: the change has full rank.
  var isFullRank = false
}
