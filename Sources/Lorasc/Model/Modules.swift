/// A frozen matrix of the backbone that can get an adapter: a linear module, Y = X Wᵀ + b, or
/// an embedding, Y = rows of W. Names are module paths without the prefix of the model's class,
/// e.g. "encoder.layer.0.attention.self.query" for BERT's.
struct MatrixModule: Sendable {
  enum Kind: Sendable, Equatable {
    case linear
    /// A linear module whose file holds Wᵀ, (in, out): GPT-2's Conv1D. `weight` is (out, in).
    case conv1D
    /// - Parameter paddingIndex: the row that takes no gradient
    case embedding(paddingIndex: Int?)
  }

  let name: String
  let kind: Kind
  /// Of an embedding: its entries, and the columns of each, as PEFT counts them.
  let inFeatures: Int
  let outFeatures: Int
  /// linear: (out, in); embedding: (in, out)
  let weight: StoredMatrix
  /// (out), or nil
  let bias: FloatView?
  /// `all-linear` leaves the output layer out.
  var isOutputLayer = false

  var isLinear: Bool { kind == .linear || kind == .conv1D }
  /// Of `weight`.
  var rows: Int { isLinear ? outFeatures : inFeatures }
  var columns: Int { isLinear ? inFeatures : outFeatures }
  var count: Int { inFeatures * outFeatures }
}

/// A frozen normalisation of the backbone: LayerNorm, or without beta RMSNorm.
struct NormModule: Sendable {
  let name: String
  /// (columns)
  let gamma: FloatView
  let beta: FloatView?
  let epsilon: Float
  let columns: Int
}
