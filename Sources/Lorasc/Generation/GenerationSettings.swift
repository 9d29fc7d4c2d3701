/// How tokens are chosen, and when a generation ends.
public struct GenerationSettings: Sendable {
  /// At least 1. The prompt and all of them but the last need a position each.
  public var maxNewTokens = 128
  /// Logits are divided by it; 0: always the likeliest token.
  public var temperature = 0.0
  /// Only the likeliest so many tokens may be drawn, and those that tie with the last of them;
  /// 0: all.
  public var topK = 0
  /// Only the likeliest tokens that make up this probability may be drawn, the one that reaches it
  /// included; in (0, 1].
  public var topP = 1.0
  /// Logits of tokens that the prompt or the text so far holds are divided by it, negative ones
  /// multiplied (Keskar et al. 2019); 1: none.
  public var repetitionPenalty = 1.0
  /// The same seed, settings and prompt give the same tokens, for any number of threads.
  public var seed: UInt64 = 0
  /// A generation ends before one of these; nil: before the model's own, `Model.stopTokens()`.
  public var stopTokens: [Int32]?

  public init() {}

  /// - Throws: `.argument`, `.token`
  func check(vocabulary: Int) throws {
    func require(_ isGood: Bool, _ name: String, _ value: Any, _ range: String) throws {
      guard isGood else {
        throw LorascError(.argument, "\(name) is \(value); it may be \(range)", subject: name)
      }
    }
    try require(maxNewTokens >= 1, "max_new_tokens", maxNewTokens, "1 and more")
    try require(
      temperature.isFinite && temperature >= 0, "temperature", temperature, "0 and more, finite")
    try require(topK >= 0, "top_k", topK, "0 (all) and more")
    try require(topP > 0 && topP <= 1, "top_p", topP, "above 0, up to 1 (all)")
    try require(
      repetitionPenalty.isFinite && repetitionPenalty > 0, "repetition_penalty", repetitionPenalty,
      "above 0, finite; 1 is none")
    for token in stopTokens ?? [] where token < 0 || token >= vocabulary {
      throw LorascError(
        .token, "stop token \(token) is outside the vocabulary of \(vocabulary)",
        subject: "stop_tokens")
    }
  }
}

extension Model {
  /// The tokens that end a text: eos_token_id of generation_config.json, or else of config.json; a
  /// number or a list of them.
  /// - Throws: `.format`, `.io`
  public func stopTokens() throws -> [Int32] {
    let path = Files.join(path, "generation_config.json")
    if Files.status(of: path) != nil,
      let own = try namingFile(path, { try JSONObject.read(path: path).endTokens() })
    {
      return own
    }
    return try configJSON.endTokens() ?? []
  }
}

extension JSONObject {
  /// Ids that no token can have are left out: nothing ends there.
  fileprivate func endTokens() throws -> [Int32]? {
    let key = "eos_token_id"
    let ids: [Int]?
    if case .array? = self[key] {
      ids = try optionalInts(key)
    } else {
      ids = try optionalInt(key).map { [$0] }
    }
    return ids?.compactMap { Int32(exactly: $0) }
  }
}
