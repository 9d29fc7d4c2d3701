/// Byte-level BPE, `gpt2`.
extension GGUFTokenizer {
  /// How texts are split before the merges, by names of `tokenizer.ggml.pre`.
  struct Splitting {
    let names: [String]
    /// In Unicode's composed form first.
    var composes = false
    /// The pre-tokenizers before GPT-2's own; with `replaces` they stand in for its pattern.
    var steps: [JSONValue] = []
    var replaces = false
    /// A word that is a token as a whole is that token, whatever the merges would make of it.
    var ignoresMerges = false
    /// Where `tokenizer.ggml.add_bos_token` is absent.
    var addsBOS = false

    /// Facts of the models' own tokenizer.json files.
    static let known = [
      Splitting(names: ["gpt-2"]),
      Splitting(names: ["mpt"], composes: true),
      Splitting(
        names: ["smollm", "starcoder", "refact"],
        steps: [["type": "Digits", "individual_digits": true]]),
      Splitting(
        names: ["llama-bpe", "llama3", "llama-v3"],
        steps: [isolated(contractions + words + #"|\p{N}{1,3}"# + rest("\\r\\n"))],
        replaces: true, ignoresMerges: true, addsBOS: true),
      Splitting(
        names: ["qwen2", "deepseek-r1-qwen"], composes: true,
        steps: [isolated(contractions + words + #"|\p{N}"# + rest("\\r\\n"))], replaces: true),
      Splitting(
        names: ["tekken"], steps: [isolated(casedWords + #"|\p{N}"# + rest("\\r\\n/"))],
        replaces: true, ignoresMerges: true, addsBOS: true),
      Splitting(
        names: ["deepseek-coder"],
        steps: [
          isolated(#"[\r\n]"#), isolated(#"\s?\p{L}+"#), isolated(#"\s?\p{P}+"#),
          isolated("[\u{4E00}-\u{9FA5}\u{0800}-\u{4E00}\u{AC00}-\u{D7FF}]+"),
          ["type": "Digits", "individual_digits": true],
        ], replaces: true),
    ]

    private static let contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
    /// Letters with at most one other character before them.
    private static let words = #"[^\r\n\p{L}\p{N}]?\p{L}+"#
    /// The same, cut where capitals follow small letters.
    private static let casedWords = {
      let (capital, small) = (#"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#, #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#)
      let before = #"[^\r\n\p{L}\p{N}]?"#
      return "\(before)\(capital)*\(small)+|\(before)\(capital)+\(small)*"
    }()

    /// Punctuation with what may end it, line breaks, other white space.
    private static func rest(_ ends: String) -> String {
      #"| ?[^\s\p{L}\p{N}]+["# + ends + #"]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    }

    private static func isolated(_ pattern: String) -> JSONValue {
      [
        "type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated",
        "invert": false,
      ]
    }
  }

  /// - Throws: `.unsupported` for one that isn't known
  func splitting() throws -> Splitting {
    let key = "tokenizer.ggml.pre"
    var name = try metadata.optionalString(key) ?? "default"
    if name == "default" {
      // Files from before the key: these architectures have one tokenizer each.
      let usual = ["gpt2": "gpt-2", "qwen2": "qwen2"]
      name = try usual[metadata.string("general.architecture")] ?? name
    }
    if let found = Splitting.known.first(where: { $0.names.contains(name) }) { return found }
    let known = Splitting.known.flatMap(\.names).joined(separator: ", ")
    throw LorascError(
      .unsupported,
      "how texts are split, \(quoted(name)) (\(key)), is not known here; these are: \(known)",
      subject: key)
  }

  func byteLevel(_ vocabulary: [(id: Int, token: Token)]) throws -> TokenizerJSON {
    let splitting = try splitting()
    let addsSpace = try metadata.optionalBool("tokenizer.ggml.add_space_prefix") ?? false
    func byteLevel(usesPattern: Bool, addsSpace: Bool) -> JSONValue {
      [
        "type": "ByteLevel", "add_prefix_space": .bool(addsSpace), "trim_offsets": true,
        "use_regex": .bool(usesPattern),
      ]
    }
    let bytes = byteLevel(usesPattern: !splitting.replaces, addsSpace: addsSpace)
    let frame = try frame(addsBOS: splitting.addsBOS)
    return TokenizerJSON(
      addedTokens: added(vocabulary),
      normalizer: splitting.composes ? ["type": "NFC"] : nil,
      preTokenizer: splitting.steps.isEmpty
        ? bytes : ["type": "Sequence", "pretokenizers": .array(splitting.steps + [bytes])],
      postProcessor: TokenizerJSON.template(frame, frame),
      decoder: byteLevel(usesPattern: true, addsSpace: true),
      model: Self.pairModel(unknown: nil, ignoresMerges: splitting.ignoresMerges),
      vocabulary: vocabulary, merges: try merges(vocabulary))
  }

  static func pairModel(
    unknown: String?, ignoresMerges: Bool = false, fallsBackToBytes: Bool = false
  ) -> JSONObject {
    [
      "type": "BPE", "dropout": nil, "unk_token": unknown.map { .string($0) } ?? .null,
      "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
      "fuse_unk": .bool(fallsBackToBytes), "byte_fallback": .bool(fallsBackToBytes),
      "ignore_merges": .bool(ignoresMerges),
    ]
  }

  /// - Throws: `.format` for a merge that isn't one of tokens into a token
  private func merges(_ vocabulary: [(id: Int, token: Token)]) throws -> [String] {
    let key = "tokenizer.ggml.merges"
    let merges = try Self.bounded(metadata, key) { try $0.strings(key) }
    let known = Set(vocabulary.map { Spelling(text: $0.token.text) })
    for (index, merge) in merges.enumerated() {
      func bad(_ why: String) -> LorascError {
        LorascError(
          .format, "merge \(index) of \(quoted(key)), \(quoted(merge)), \(why)", subject: key)
      }
      // A first part may begin with a space.
      guard let space = merge.utf8.dropFirst().firstIndex(of: 0x20) else {
        throw bad("has no space between two tokens")
      }
      let left = String(merge[..<space])
      let right = String(merge[merge.utf8.index(after: space)...])
      for text in [left, right, left + right] where !known.contains(Spelling(text: text)) {
        throw bad("needs the token \(quoted(text)), which isn't there")
      }
    }
    return merges
  }
}
