/// BERT's WordPiece, `bert`.
extension GGUFTokenizer {
  private static let wordStart = "\u{2581}"
  private static let continuation = "##"

  /// GGUF marks the pieces that begin a word, BERT those that don't.
  static func spellAsWordPieces(_ tokens: inout [Token], _ special: SpecialTokens) {
    for (id, token) in tokens.enumerated() where token.kind != .control {
      if token.text.hasPrefix(wordStart), token.text != wordStart {
        tokens[id].text = String(token.text.unicodeScalars.dropFirst())
      } else if !special.ids.contains(id), !token.text.isEmpty {
        tokens[id].text = continuation + token.text
      }
    }
  }

  func wordPiece(_ vocabulary: [(id: Int, token: Token)]) throws -> TokenizerJSON {
    let normalizer = "tokenizer.ggml.normalizer."
    let lowers =
      try metadata.optionalBool(normalizer + "lowercase") ?? !hasCapitals(vocabulary)
    let stripsAccents = try metadata.optionalBool(normalizer + "strip_accents")
    return TokenizerJSON(
      addedTokens: added(vocabulary),
      normalizer: [
        "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
        "strip_accents": stripsAccents.map { .bool($0) } ?? .null, "lowercase": .bool(lowers),
      ],
      preTokenizer: ["type": "BertPreTokenizer"],
      postProcessor: TokenizerJSON.template(
        .init(before: framed(.cls), after: framed(.sep)), .init(after: framed(.sep))),
      decoder: ["type": "WordPiece", "prefix": .string(Self.continuation), "cleanup": true],
      model: [
        "type": "WordPiece", "unk_token": framed(.unk).map { .string($0.text) } ?? .null,
        "continuing_subword_prefix": .string(Self.continuation),
        "max_input_chars_per_word": 100,
      ],
      vocabulary: vocabulary)
  }

  /// A vocabulary with capitals can't be that of an uncased model, one without is of no cased
  /// one: most files say it in no other way.
  private func hasCapitals(_ vocabulary: [(id: Int, token: Token)]) -> Bool {
    vocabulary.contains { id, token in
      !isAdded(id) && token.text.utf8.contains { 0x41...0x5A ~= $0 }
    }
  }
}
