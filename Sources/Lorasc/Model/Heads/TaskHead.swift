public enum HeadKind: String, Sendable {
  /// transformers' own: first token → pooler → tanh → dropout → linear.
  case classifier
  /// Mean of the tokens → dropout → linear.
  case meanLinear = "mean_linear"
}

public enum ProblemType: String, Sendable {
  case classification = "single_label_classification"
  case regression
}

/// What a head computes, without its weights.
public struct HeadDescription: Sendable, Equatable {
  public var kind: HeadKind
  public var labels: Int
  public var problem: ProblemType
  /// Names of the classes; empty: LABEL_0, LABEL_1, …
  public var labelNames: [String]
}

/// A head as it stands in a model's folder: logits = pooled Wᵀ + b.
struct TaskHead: Sendable {
  let description: HeadDescription
  /// (labels, hidden)
  let weight: FloatView
  /// (labels)
  let bias: FloatView
}
