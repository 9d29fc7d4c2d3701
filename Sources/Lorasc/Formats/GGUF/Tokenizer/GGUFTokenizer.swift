/// The tokenizer of a GGUF file's metadata, as the files of a Hugging Face folder: with the
/// `tokenizers` library they give the ids of the tokenizer that the file was made from.
///
/// `tokenizer.ggml.model` says which one it is: `gpt2`, byte-level BPE whose way of splitting
/// texts `tokenizer.ggml.pre` names; `llama`, SentencePiece's BPE with bytes for what the
/// vocabulary lacks; `bert`, WordPiece. Others are refused with `.unsupported`, as is a `pre`
/// that isn't known, since a guess would give other ids than the model was trained on.
///
/// Limits: metadata don't keep whether an added token takes the spaces beside it along (BERT's
/// and Llama's don't), nor what a converter left out.
struct GGUFTokenizer {
  enum Model: String, CaseIterable {
    case gpt2
    case llama
    case bert
  }

  struct Token {
    /// As transformers spells it.
    var text: String
    let kind: Kind
  }

  /// By the numbers of `tokenizer.ggml.token_type`.
  enum Kind: Int {
    case undefined
    case normal
    case unknown
    case control
    case userDefined
    case unused
    case byte
  }

  static let tokensKey = "tokenizer.ggml.tokens"
  static let typesKey = "tokenizer.ggml.token_type"
  /// Of an array in the file; the largest vocabularies in use have a quarter.
  private static let mostBytes = 32 << 20

  let metadata: GGUFMetadata
  let model: Model
  /// By their ids.
  let tokens: [Token]
  let special: SpecialTokens

  /// - Returns: nil where the metadata hold no tokenizer
  /// - Throws: `.format` for damaged metadata, `.unsupported`, `.limit`
  init?(_ metadata: GGUFMetadata) throws {
    let key = "tokenizer.ggml.model"
    guard let name = try metadata.optionalString(key), !["none", "no_vocab"].contains(name) else {
      return nil
    }
    guard let model = Model(rawValue: name) else {
      let known = Model.allCases.map(\.rawValue).joined(separator: ", ")
      throw LorascError(
        .unsupported,
        "a tokenizer of kind \(quoted(name)) (\(key)) is not offered; these are: \(known)",
        subject: key)
    }
    self.metadata = metadata
    self.model = model
    let texts = try Self.bounded(metadata, Self.tokensKey) { try $0.strings(Self.tokensKey) }
    let kinds = try Self.kinds(metadata, count: texts.count)
    special = try SpecialTokens(metadata, model, count: texts.count)
    var tokens = zip(texts, kinds).map { Token(text: $0, kind: $1) }
    if model == .bert { Self.spellAsWordPieces(&tokens, special) }
    self.tokens = tokens
  }

  private static func kinds(_ metadata: GGUFMetadata, count: Int) throws -> [Kind] {
    let numbers = try bounded(metadata, typesKey) { try $0.optionalInts(typesKey) }
    guard let numbers else { return Array(repeating: .undefined, count: count) }
    try checkCount(numbers.count, of: typesKey, tokens: count)
    return try numbers.map {
      guard let kind = Kind(rawValue: $0) else {
        throw LorascError(
          .format, "the key \(quoted(typesKey)) holds \($0), which is no type of a token",
          subject: typesKey)
      }
      return kind
    }
  }

  static func checkCount(_ count: Int, of key: String, tokens: Int) throws {
    guard count == tokens else {
      throw LorascError(
        .format, "the key \(quoted(key)) holds \(count) elements for \(tokens) tokens",
        subject: key)
    }
  }

  /// Reads an array that isn't larger than a vocabulary could be.
  static func bounded<Value>(
    _ metadata: GGUFMetadata, _ key: String, _ read: (GGUFMetadata) throws -> Value
  ) throws -> Value {
    if case .array(let array)? = metadata[key], array.bytes.count > mostBytes {
      throw LorascError(
        .limit,
        "the key \(quoted(key)) holds \(array.bytes.count) bytes, at most \(mostBytes) are read",
        subject: key)
    }
    return try read(metadata)
  }

  /// The tokens that transformers' tokenizer has, by ascending ids. Converters fill a vocabulary
  /// up to the rows of the embedding with tokens named [PAD0], [PAD1], ..., which it doesn't have.
  /// - Throws: `.format` for two tokens of one spelling
  func vocabulary() throws -> [(id: Int, token: Token)] {
    var seen: [Spelling: Int] = [:]
    seen.reserveCapacity(tokens.count)
    let kept = tokens.enumerated().filter { id, token in
      special.ids.contains(id) || !(token.text.isEmpty || token.isFiller)
    }
    return try kept.map { id, token in
      if let other = seen.updateValue(id, forKey: Spelling(text: token.text)) {
        throw LorascError(
          .format,
          "the tokens \(other) and \(id) of \(quoted(Self.tokensKey)) are both "
            + quoted(token.text), subject: Self.tokensKey)
      }
      return (id, token)
    }
  }

  /// Tokens that are found in a text before anything else happens to it.
  func isAdded(_ id: Int) -> Bool {
    special.ids.contains(id)
      || [.unknown, .control, .userDefined].contains(tokens[id].kind)
  }
}

extension GGUFTokenizer.Token {
  fileprivate var isFiller: Bool {
    [.unknown, .userDefined, .unused].contains(kind) && text.hasPrefix("[PAD")
      && text.hasSuffix("]") && text.utf8.dropFirst(4).dropLast().allSatisfy { 0x30...0x39 ~= $0 }
  }
}

/// A token's text as a key, compared byte by byte: to Swift's strings "é" is the same in one
/// scalar and in two.
struct Spelling: Hashable {
  let text: String

  static func == (a: Spelling, b: Spelling) -> Bool {
    var (a, b) = (a.text, b.text)
    return a.withUTF8 { a in b.withUTF8 { b in a.elementsEqual(b) } }
  }

  func hash(into hasher: inout Hasher) {
    var text = text
    text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}
