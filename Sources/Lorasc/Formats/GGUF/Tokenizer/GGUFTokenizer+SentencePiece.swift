/// SentencePiece's BPE, `llama`.
extension GGUFTokenizer {
  private static let scoresKey = "tokenizer.ggml.scores"
  /// Pieces have 16 characters by SentencePiece's own limit, some models' 48; the time that
  /// merges take grows with the square.
  private static let longestPiece = 512
  private static let mostMerges = 4_000_000

  func sentencePiece(_ vocabulary: [(id: Int, token: Token)]) throws -> TokenizerJSON {
    try refuseNormalizers()
    let addsSpace = try metadata.optionalBool("tokenizer.ggml.add_space_prefix") ?? true
    let frame = try frame(addsBOS: true)
    // As SentencePiece, a space before each text even if it begins with one, and as llama.cpp
    // before each stretch between special tokens.
    let escaped: JSONValue = [
      "type": "Replace", "pattern": ["String": " "], "content": "\u{2581}",
    ]
    let prefixed: JSONValue = [
      "type": "Sequence",
      "normalizers": [["type": "Prepend", "prepend": "\u{2581}"], escaped],
    ]
    var decoders: [JSONValue] = [
      ["type": "Replace", "pattern": ["String": "\u{2581}"], "content": " "],
      ["type": "ByteFallback"], ["type": "Fuse"],
    ]
    if addsSpace {
      decoders.append(["type": "Strip", "content": " ", "start": 1, "stop": 0])
    }
    return TokenizerJSON(
      addedTokens: added(vocabulary), normalizer: addsSpace ? prefixed : escaped,
      preTokenizer: nil, postProcessor: TokenizerJSON.template(frame, frame),
      decoder: ["type": "Sequence", "decoders": .array(decoders)],
      model: Self.pairModel(unknown: framed(.unk)?.text, fallsBackToBytes: true),
      vocabulary: vocabulary, merges: try merges(vocabulary))
  }

  /// What SentencePiece may do to a text beforehand; Llama's and Mistral's models do none of it.
  private func refuseNormalizers() throws {
    let spaces = "tokenizer.ggml.remove_extra_whitespaces"
    let characters = "tokenizer.ggml.precompiled_charsmap"
    let removes = try metadata.optionalBool(spaces) ?? false
    guard !removes, metadata[characters] == nil else {
      let key = removes ? spaces : characters
      throw LorascError(
        .unsupported, "a normalizer (\(key)) is not offered for tokenizers of kind \"llama\"",
        subject: key)
    }
  }

  /// SentencePiece joins the neighbours that make the piece of the highest score, so each cut of
  /// a piece into two is a merge: by falling scores, then by the parts' lengths.
  private func merges(_ vocabulary: [(id: Int, token: Token)]) throws -> [String] {
    let key = Self.scoresKey
    let scores = try Self.bounded(metadata, key) { try $0.doubles(key) }
    try Self.checkCount(scores.count, of: key, tokens: tokens.count)
    guard scores.allSatisfy(\.isFinite) else {
      throw LorascError(
        .format, "the key \(quoted(key)) holds NaN or infinity", subject: key)
    }
    let pieces = vocabulary.filter { [.normal, .undefined].contains($0.token.kind) }
    let known = Set(pieces.map { Spelling(text: $0.token.text) })
    func isKnown(_ part: Substring) -> Bool { known.contains(Spelling(text: String(part))) }
    var merges: [Merge] = []
    for (id, piece) in pieces {
      let text = piece.text
      guard text.utf8.count <= Self.longestPiece else {
        throw LorascError(
          .limit,
          "token \(id) of \(quoted(Self.tokensKey)) has \(text.utf8.count) bytes, at most "
            + "\(Self.longestPiece) may be", subject: Self.tokensKey)
      }
      // Spaces are escaped in texts: such a piece is never met.
      if text.utf8.contains(0x20) { continue }
      let scalars = text.unicodeScalars
      for (length, cut) in scalars.indices.enumerated().dropFirst()
      where isKnown(text[..<cut]) && isKnown(text[cut...]) {
        merges.append(Merge(score: scores[id], id: id, left: length, count: scalars.count))
      }
      guard merges.count <= Self.mostMerges else {
        throw LorascError(
          .limit, "the tokens make more than \(Self.mostMerges) merges", subject: Self.tokensKey)
      }
    }
    merges.sort { $0.precedes($1) }
    return merges.map { merge in
      let scalars = tokens[merge.id].text.unicodeScalars
      return "\(String(scalars.prefix(merge.left))) \(String(scalars.dropFirst(merge.left)))"
    }
  }
}

/// A piece cut into two.
private struct Merge {
  let score: Double
  let id: Int
  /// Scalars of the left part.
  let left: Int
  /// Scalars of the piece.
  let count: Int

  func precedes(_ other: Merge) -> Bool {
    if score != other.score { return score > other.score }
    if left != other.left { return left > other.left }
    if count != other.count { return count > other.count }
    return id < other.id
  }
}
