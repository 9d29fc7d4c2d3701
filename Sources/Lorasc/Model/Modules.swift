/// A frozen matrix of the backbone that can get an adapter: a linear module, Y = X Wᵀ + b, or
/// an embedding, Y = rows of W. Names are module paths without the "bert." prefix, e.g.
/// "encoder.layer.0.attention.self.query".
struct MatrixModule: Sendable {
  enum Kind: Sendable, Equatable {
    case linear
    /// - Parameter paddingIndex: the row that takes no gradient
    case embedding(paddingIndex: Int?)
  }

  let name: String
  let kind: Kind
  /// Of an embedding: its entries, and the columns of each, as PEFT counts them.
  let inFeatures: Int
  let outFeatures: Int
  /// linear: (out, in); embedding: (in, out)
  let weight: FloatView
  /// (out), or nil
  let bias: FloatView?
  /// `all-linear` leaves the output layer out.
  let isOutputLayer: Bool

  var isLinear: Bool { kind == .linear }
  /// Of `weight`.
  var rows: Int { isLinear ? outFeatures : inFeatures }
  var columns: Int { isLinear ? inFeatures : outFeatures }
  var count: Int { inFeatures * outFeatures }
}

/// A frozen LayerNorm of the backbone.
struct NormModule: Sendable {
  let name: String
  /// (columns)
  let gamma: FloatView
  let beta: FloatView
  let epsilon: Float
  let columns: Int
}
