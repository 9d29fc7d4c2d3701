/// Continues a text, token by token.
///
/// ```swift
/// var settings = GenerationSettings()
/// settings.temperature = 0.8
/// let tokens = try Generator.generate(model: model, adapter: adapter, prompt: prompt, settings)
/// ```
///
/// A model or adapter may be used by other calls meanwhile: its weights are read at the start.
public enum Generator {
  /// - Parameters:
  ///   - adapter: its merged view is what generates; nil: the model as it was opened
  ///   - prompt: at least one token
  ///   - onToken: told each token on this thread; `.cancel` ends with `.cancelled`
  /// - Returns: the new tokens, without the stop token that ended them: as many as
  ///   `maxNewTokens` where none did
  /// - Throws: see `check`, and `.cancelled`, `.nonFinite`, `.outOfMemory`, `.busy`
  public static func generate(
    model: Model, adapter: Adapter? = nil, prompt: [Int32], _ settings: GenerationSettings,
    onToken: (Int32) throws -> Progress.Answer = { _ in .goOn }
  ) throws -> [Int32] {
    try prompt.withUnsafeBufferPointer {
      try generate(model: model, adapter: adapter, prompt: $0, settings, onToken: onToken)
    }
  }

  /// The same from the caller's memory.
  public static func generate(
    model: Model, adapter: Adapter? = nil, prompt: UnsafeBufferPointer<Int32>,
    _ settings: GenerationSettings, onToken: (Int32) throws -> Progress.Answer = { _ in .goOn }
  ) throws -> [Int32] {
    try check(model: model, adapter: adapter, prompt: prompt, settings)
    let stops = Set(try settings.stopTokens ?? model.stopTokens())
    return try BLASThreads.withSingleThread {
      let decoder = try Decoder(
        model, adapter, capacity: prompt.count + settings.maxNewTokens - 1)
      var sampler = Sampler(settings, prompt: prompt, decoder.compute.kernels)
      var tokens: [Int32] = []
      var token = try decoder.read(prompt) { sampler.choose($0) }
      while !stops.contains(token) {
        tokens.append(token)
        guard try BLASThreads.outside({ try onToken(token) }) == .goOn else {
          throw LorascError(.cancelled, "the callback ended the generation")
        }
        if tokens.count == settings.maxNewTokens { break }
        token = try withUnsafePointer(to: token) {
          try decoder.read(UnsafeBufferPointer(start: $0, count: 1)) { sampler.choose($0) }
        }
      }
      return tokens
    }
  }

  /// All that can be refused before anything is computed.
  /// - Throws: `.state` for a model or adapter without a language head, `.mismatch`, `.argument`,
  ///   `.shape` for an empty prompt, `.token`, `.limit` where prompt and new tokens need more
  ///   positions than the model has
  public static func check(
    model: Model, adapter: Adapter?, prompt: UnsafeBufferPointer<Int32>,
    _ settings: GenerationSettings
  ) throws {
    let head = try Decoder.head(model, adapter)
    try settings.check(vocabulary: head.labels)
    guard !prompt.isEmpty else {
      throw LorascError(.shape, "the prompt is empty", subject: "prompt")
    }
    let positions = model.maximumPositions
    // The last token is never read.
    guard prompt.count <= positions, settings.maxNewTokens - 1 <= positions - prompt.count else {
      throw LorascError(
        .limit,
        "a prompt of \(prompt.count) tokens and \(settings.maxNewTokens) new ones need more than "
          + "the model's \(positions) positions",
        subject: "max_new_tokens")
    }
    for (place, token) in prompt.enumerated() where token < 0 || token >= head.labels {
      throw LorascError(
        .token,
        "token id \(token) at position \(place) of the prompt is outside the vocabulary of "
          + "\(head.labels)", subject: "prompt")
    }
  }
}
