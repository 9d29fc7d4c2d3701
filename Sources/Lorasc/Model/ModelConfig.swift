/// What config.json says of a BERT encoder.
struct BertConfig: Sendable {
  let hiddenSize: Int
  let layers: Int
  let heads: Int
  let intermediateSize: Int
  let vocabulary: Int
  let positions: Int
  let tokenTypes: Int
  /// The entry of the word embeddings that takes no gradient.
  let paddingToken: Int?
  let layerNormEpsilon: Float
  let activationName: String
  let hiddenDropout: Float
  let attentionDropout: Float
  let classifierDropout: Float

  var headSize: Int { hiddenSize / heads }

  init(_ json: JSONObject) throws {
    func size(_ key: String, atMost limit: Int = 1 << 24) throws -> Int {
      let value = try json.int(key)
      guard value >= 1, value <= limit else {
        throw LorascError(.format, "config.json: \(key) is \(value)", subject: key)
      }
      return value
    }
    func probability(_ key: String, _ fallback: Double) throws -> Float {
      guard let value = json[key], value != .null else { return Float(fallback) }
      let number = try json.double(key)
      guard number >= 0, number < 1 else {
        throw LorascError(.format, "config.json: \(key) is \(number)", subject: key)
      }
      return Float(number)
    }
    hiddenSize = try size("hidden_size")
    layers = try size("num_hidden_layers", atMost: 10_000)
    heads = try size("num_attention_heads")
    intermediateSize = try size("intermediate_size")
    vocabulary = try size("vocab_size", atMost: 1 << 30)
    positions = try size("max_position_embeddings")
    tokenTypes = json["type_vocab_size"] == nil ? 2 : try size("type_vocab_size")
    let padding = json["pad_token_id"] == nil ? 0 : try json.optionalInt("pad_token_id")
    let entries = vocabulary
    paddingToken = padding.flatMap { (0..<entries).contains($0) ? $0 : nil }
    guard hiddenSize % heads == 0 else {
      throw LorascError(
        .format, "config.json: hidden_size \(hiddenSize) is no multiple of \(heads) heads",
        subject: "num_attention_heads")
    }
    let epsilon = json["layer_norm_eps"] == nil ? 1e-12 : try json.double("layer_norm_eps")
    guard epsilon >= 0, epsilon < 1 else {
      throw LorascError(
        .format, "config.json: layer_norm_eps is \(epsilon)", subject: "layer_norm_eps")
    }
    layerNormEpsilon = Float(epsilon)
    activationName = json["hidden_act"] == nil ? "gelu" : try json.string("hidden_act")
    hiddenDropout = try probability("hidden_dropout_prob", 0.1)
    attentionDropout = try probability("attention_probs_dropout_prob", 0.1)
    classifierDropout = try probability("classifier_dropout", Double(hiddenDropout))
    if case .string(let kind)? = json["position_embedding_type"], kind != "absolute" {
      throw LorascError(
        .unsupported, "position_embedding_type \(kind) is not offered",
        subject: "position_embedding_type")
    }
    for key in ["is_decoder", "add_cross_attention"] where json[key] == .bool(true) {
      throw LorascError(.unsupported, "config.json: \(key) is true: encoders only", subject: key)
    }
  }
}
