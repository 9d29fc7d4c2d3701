public enum HeadKind: String, Sendable {
  /// transformers' own for sequences or images: e.g. first token → pooler → dropout → linear.
  case classifier
  /// Mean of the tokens → dropout → linear.
  case meanLinear = "mean_linear"
  /// Each token → dropout → linear.
  case token
  /// Each token → logits over the vocabulary for the next one, by the model's own output layer.
  case language = "lm"
  /// Mean of the tokens, compared within a batch. No parameters of its own.
  case embedding
  /// The host's, with its loss: a model of the host's has no other.
  case host

  /// Those whose outputs the labels determine.
  static let withLabels: [HeadKind] = [.classifier, .meanLinear, .token]
}

public enum ProblemType: String, Sendable {
  case classification = "single_label_classification"
  case multiLabel = "multi_label_classification"
  case regression
  /// Of the heads `language` and `embedding`, which have one problem each.
  case nextToken = "next_token"
  case contrastive
  /// Of the head `host`.
  case host

  /// Learned from `targets` instead of labels.
  var usesTargets: Bool { self == .regression || self == .multiLabel }
}

/// What a head computes, without its weights.
public struct HeadDescription: Sendable, Equatable {
  public var kind: HeadKind
  /// Outputs a row or token; of `language` the vocabulary, of `embedding` the hidden size.
  public var labels: Int
  public var problem: ProblemType
  /// Names of the classes; empty: LABEL_0, LABEL_1, …
  public var labelNames: [String] = []
  /// Of `embedding`: rows of an example, an anchor, its positive, and negatives.
  public var rowsOfExample = 1

  /// Labels stand beside rows, or beside tokens.
  var isByToken: Bool { kind == .token || kind == .language }
}

/// A tensor of a head.
enum HeadTensor: String, Sendable, CaseIterable {
  case denseWeight, denseBias, weight, bias

  var isBias: Bool { self == .bias || self == .denseBias }
}

/// A head as it stands in a model's folder.
struct TaskHead: Sendable {
  let description: HeadDescription
  let tensors: [HeadTensor: FloatView]
}

extension ClassifierForm {
  /// Mean pooling and a linear module, as sentence-transformers chains them.
  static let meanLinear = ClassifierForm(selection: .mean)

  /// Names and shapes of what is trained with the head, in a model of transformers.
  func tensors(labels: Int, hidden: Int) -> [(tensor: HeadTensor, name: String, shape: [Int])] {
    var list: [(HeadTensor, String, [Int])] = []
    if case .own(let name)? = dense {
      list.append((.denseWeight, name + ".weight", [hidden, hidden]))
      list.append((.denseBias, name + ".bias", [hidden]))
    }
    list.append((.weight, output + ".weight", [labels, hidden]))
    if hasBias { list.append((.bias, output + ".bias", [labels])) }
    return list
  }
}
