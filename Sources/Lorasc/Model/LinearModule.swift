/// A frozen linear module of the backbone: Y = X Wᵀ + b.
struct LinearModule: Sendable {
  /// Module path without the "bert." prefix, e.g. "encoder.layer.0.attention.self.query".
  let name: String
  let inFeatures: Int
  let outFeatures: Int
  /// (out, in)
  let weight: FloatView
  /// (out), or nil
  let bias: FloatView?
  /// `all-linear` leaves the output layer out.
  let isOutputLayer: Bool

  var count: Int { inFeatures * outFeatures }
}
