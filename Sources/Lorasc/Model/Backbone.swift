/// A frozen transformer without its task head: sizes, tensors, and how its blocks follow each
/// other. Plain data, made by an architecture; `TransformerStack` runs it.
struct Backbone: Sendable {
  var sizes: Sizes
  /// Linear modules first, then embeddings.
  var matrices: [MatrixModule] = []
  var norms: [NormModule] = []
  var inputs: Inputs
  var blocks: [Block] = []
  /// Index into `norms`: after the last block.
  var finalNorm: Int?
  var placement: NormPlacement
  var activation: Activation
  var attention = AttentionForm()
  var dropout = DropoutRates()
  /// A dense module of the backbone between the first token and the classifier; index into
  /// `matrices`.
  var pooler: Int?
  /// The matrix that turns a hidden state into logits over the vocabulary.
  var output: LanguageOutput?

  struct Sizes: Sendable {
    var hidden: Int
    var intermediate: Int
    var heads: Int
    var keyValueHeads: Int
    var headSize: Int
    var vocabulary = 0
    /// Longest row, in tokens.
    var positions: Int
    var tokenTypes = 0

    /// Columns of the attention's output, and of the queries, keys and values side by side.
    var attentionWidth: Int { heads * headSize }
    var projectedWidth: Int { (heads + 2 * keyValueHeads) * headSize }
  }

  /// Where a block normalises: what its branches add up to (Vaswani et al. 2017), or what goes
  /// into them (GPT-2).
  enum NormPlacement: Sendable { case post, pre }

  struct AttentionForm: Sendable {
    /// Each token sees itself and what is before it.
    var isCausal = false
    var rotary: RotaryForm?
  }

  /// What config.json names, and where it applies.
  struct DropoutRates: Sendable {
    var hidden: Float = 0
    var attention: Float = 0
    var classifier: Float = 0
    /// Of what goes into the first block; nil: as of hidden states.
    var embeddings: Float?
    var afterAttention = true
  }

  /// Indices into `matrices` and `norms`.
  struct Block: Sendable {
    /// Outputs side by side are queries, keys and values: three modules, or one fused.
    let projections: [Int]
    let attentionOutput: Int
    let attentionNorm: Int
    /// Of causal attention: how many tokens one sees, itself included; nil: all before it.
    var window: Int?
    /// Of a gated feed-forward: down(f(gate(x)) ⊙ up(x)), else down(f(up(x))).
    var gate: Int?
    let up: Int
    let down: Int
    let feedForwardNorm: Int
  }

  enum Inputs: Sendable {
    case tokens(TokenInputs)
    case pixels(PatchInputs)
  }

  /// The sum of embeddings, normalised where there is a norm.
  struct TokenInputs: Sendable {
    let tables: [(matrix: Int, index: Index)]
    var norm: Int?
    var positions = PositionRule()

    enum Index: Sendable { case token, position, tokenType }
  }

  /// Position of a row's first token; a padding token in a row has its own and doesn't count
  /// (RoBERTa).
  struct PositionRule: Sendable {
    var first = 0
    var paddingToken: Int?
  }

  /// Patches of an image as tokens: flattened (channel, row, column), projected; class tokens
  /// before them; positions added.
  struct PatchInputs: Sendable {
    static let projectionName = "embeddings.patch_embeddings.projection"
    let channels: Int
    let height: Int
    let width: Int
    let patch: Int
    /// (hidden, channels patch patch), with a bias
    let projection: MatrixModule
    /// Each (hidden)
    let classTokens: [FloatView]
    /// (class tokens + patches, hidden)
    let positions: FloatView

    var pixels: Int { channels * height * width }
    var patches: Int { (height / patch) * (width / patch) }
    var patchPixels: Int { channels * patch * patch }
    var tokens: Int { classTokens.count + patches }
  }

  /// (vocabulary, hidden), without a bias
  struct LanguageOutput: Sendable {
    /// Index into `matrices`: a linear module of its own, or the embedding it is tied to.
    let matrix: Int
    let isTied: Bool
  }
}
