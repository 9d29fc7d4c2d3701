/// A tokenizer.json of the `tokenizers` library, version 1.0.
///
/// Vocabulary and merges are written from arrays: in a `JSONObject` spellings that Unicode holds
/// for equal would clash.
struct TokenizerJSON {
  var addedTokens: [JSONValue]
  var normalizer: JSONValue
  var preTokenizer: JSONValue
  var postProcessor: JSONValue
  var decoder: JSONValue
  /// Without vocabulary and merges.
  var model: JSONObject
  var vocabulary: [(id: Int, token: GGUFTokenizer.Token)]
  /// Two spellings with a space between, the first to apply first; nil: the model has none.
  var merges: [String]?

  func text() throws -> String {
    var writer = JSONWriter(format: .compact)
    let members: [JSONObject.Member] = [
      .init(key: "version", value: "1.0"),
      .init(key: "truncation", value: nil),
      .init(key: "padding", value: nil),
      .init(key: "added_tokens", value: .array(addedTokens)),
      .init(key: "normalizer", value: normalizer),
      .init(key: "pre_tokenizer", value: preTokenizer),
      .init(key: "post_processor", value: postProcessor),
      .init(key: "decoder", value: decoder),
    ]
    writer.append("{")
    for member in members {
      try writer.write(member, depth: 1)
      writer.append(",")
    }
    writer.append("\"model\":{")
    for member in model.members {
      try writer.write(member, depth: 2)
      writer.append(",")
    }
    writer.append("\"vocab\":")
    try writer.write(vocabulary, "{", "}", 2) { writer, entry in
      writer.write(entry.token.text)
      writer.append(":")
      writer.append(String(entry.id))
    }
    if let merges {
      writer.append(",\"merges\":")
      try writer.write(merges, "[", "]", 2) { writer, merge in writer.write(merge) }
    }
    writer.append("}}")
    return String(decoding: writer.output, as: UTF8.self)
  }

  /// The tokens that stand around a text, and around the second one of a pair.
  struct Frame {
    /// A token's spelling and id.
    typealias Token = (text: String, id: Int)
    var before: Token?
    var after: Token?
  }

  /// A post-processor that puts special tokens around texts, nil where there are none.
  static func template(_ first: Frame, _ second: Frame) -> JSONValue {
    func item(_ kind: String, _ id: String, _ type: Int64) -> JSONValue {
      .object([kind: ["id": .string(id), "type_id": .integer(type)]])
    }
    func framed(_ name: String, _ frame: Frame, _ type: Int64) -> [JSONValue] {
      let before = frame.before.map { item("SpecialToken", $0.text, type) }
      let after = frame.after.map { item("SpecialToken", $0.text, type) }
      return [before, item("Sequence", name, type), after].compactMap(\.self)
    }
    var tokens = JSONObject()
    for case let token? in [first.before, first.after, second.before, second.after] {
      tokens[token.text] = [
        "id": .string(token.text), "ids": [.integer(Int64(token.id))],
        "tokens": [.string(token.text)],
      ]
    }
    guard !tokens.isEmpty else { return nil }
    let single = framed("A", first, 0)
    return [
      "type": "TemplateProcessing", "single": .array(single),
      "pair": .array(single + framed("B", second, 1)), "special_tokens": .object(tokens),
    ]
  }
}

extension GGUFTokenizer {
  /// tokenizer.json.
  /// - Throws: `.format`, `.unsupported`, `.limit`
  func tokenizerJSON() throws -> String {
    let vocabulary = try vocabulary()
    return switch model {
    case .gpt2: try byteLevel(vocabulary).text()
    case .llama: try sentencePiece(vocabulary).text()
    case .bert: try wordPiece(vocabulary).text()
    }
  }

  func added(_ vocabulary: [(id: Int, token: Token)]) -> [JSONValue] {
    vocabulary.filter { isAdded($0.id) }.map { id, token in
      [
        "id": .integer(Int64(id)), "content": .string(token.text), "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false,
        "special": .bool(token.kind != .userDefined || special.ids.contains(id)),
      ]
    }
  }

  func framed(_ role: SpecialTokens.Role) -> TokenizerJSON.Frame.Token? {
    special[role].map { (tokens[$0].text, $0) }
  }

  /// Before and after each text the tokens that `tokenizer.ggml.add_bos_token` and
  /// `add_eos_token` ask for.
  /// - Parameter addsBOS: where the key is absent
  func frame(addsBOS: Bool) throws -> TokenizerJSON.Frame {
    func token(_ role: SpecialTokens.Role, absent: Bool) throws -> TokenizerJSON.Frame.Token? {
      let key = "tokenizer.ggml.add_\(role.rawValue)_token"
      let asked = try metadata.optionalBool(key)
      guard asked ?? absent else { return nil }
      let token = framed(role)
      guard token != nil || asked == nil else {
        throw LorascError(
          .format, "the key \(quoted(key)) is true, but no token is named", subject: key)
      }
      return token
    }
    return TokenizerJSON.Frame(
      before: try token(.bos, absent: addsBOS), after: try token(.eos, absent: false))
  }
}
