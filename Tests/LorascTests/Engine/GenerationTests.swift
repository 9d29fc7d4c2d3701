import Testing

@testable import Lorasc

@Suite struct GenerationTests {
  private static func settings(_ change: (inout GenerationSettings) -> Void = { _ in })
    -> GenerationSettings
  {
    var settings = GenerationSettings()
    settings.maxNewTokens = 40
    settings.stopTokens = []
    change(&settings)
    return settings
  }

  private static func adapter(_ model: Model, _ values: [String: String] = [:]) throws -> Adapter {
    var options = Options()
    let own = ["head": "lm", "method": "lora", "r": "3", "target_modules": "all-linear"]
    for (key, value) in own.merging(values, uniquingKeysWith: { $1 }) {
      try options.set(key, value)
    }
    let adapter = try Adapter(model: model, options: options)
    var random = TestRandom(seed: 2)
    for name in adapter.parameterNames where name.contains("lora_B") {
      let values = try adapter.values(of: name).map { _ in 0.6 * (random.uniform() - 0.5) }
      try values.withUnsafeBufferPointer { try adapter.setValues(of: name, to: $0) }
    }
    return adapter
  }

  private func expectStatus(_ status: Status, _ body: () throws -> [Int32]) {
    #expect {
      _ = try body()
    } throws: {
      ($0 as? LorascError)?.status == status
    }
  }

  /// Logits of all places of a row, without a cache.
  private func wholeForward(_ model: Model, _ adapter: Adapter?, _ tokens: [Int32]) throws
    -> [[Float]]
  {
    let data = try Dataset(rows: [tokens])
    let vocabulary = TinyDecoder.vocabulary
    var logits = [Float](repeating: 0, count: tokens.count * vocabulary)
    try logits.withUnsafeMutableBufferPointer {
      try Predictor.predict(
        model: model, adapter: adapter, batch: data.batch, .tokenLogits, into: $0)
    }
    return stride(from: 0, to: logits.count, by: vocabulary).map {
      Array(logits[$0..<$0 + vocabulary])
    }
  }

  // MARK: The cache

  /// One by one, in parts of any size, and all at once, with windows and without.
  @Test(arguments: TinyDecoder.Kind.allCases, [false, true])
  func cachedLogitsAreThoseOfAWholeForward(kind: TinyDecoder.Kind, adapted: Bool) throws {
    let tiny = try TinyDecoder(kind)
    let adapter = adapted ? try Self.adapter(tiny.model) : nil
    let tokens = TinyDecoder.tokens(60)
    let expected = try wholeForward(tiny.model, adapter, tokens)
    for parts in [
      Array(repeating: 1, count: 60), [60], [1, 13, 1, 1, 2, 40, 2], [37, 23], [59, 1],
    ] {
      let decoder = try Decoder(tiny.model, adapter, capacity: tokens.count)
      var place = 0
      for part in parts {
        let logits = try BLASThreads.withSingleThread {
          try tokens[place..<place + part].withUnsafeBufferPointer {
            try decoder.read($0) { Array($0) }
          }
        }
        place += part
        let worst = zip(logits, expected[place - 1]).map { abs($0 - $1) }.max() ?? .infinity
        let largest = expected[place - 1].map(abs).max() ?? 0
        #expect(worst <= 5e-6 * largest, "\(parts) at \(place): \(worst) of \(largest)")
      }
      #expect(throws: LorascError.self) {
        try tokens[0..<1].withUnsafeBufferPointer { try decoder.read($0) { _ in } }
      }
    }
  }

  /// A prompt longer than one pass takes.
  @Test func longPromptsAreReadInParts() throws {
    let tiny = try TinyDecoder(.llama, positions: 2048)
    let tokens = TinyDecoder.tokens(1100)
    let expected = try wholeForward(tiny.model, nil, tokens)
    let decoder = try Decoder(tiny.model, nil, capacity: tokens.count)
    let logits = try BLASThreads.withSingleThread {
      try tokens.withUnsafeBufferPointer { try decoder.read($0) { Array($0) } }
    }
    #expect(zip(logits, expected[1099]).allSatisfy { abs($0 - $1) <= 1e-5 })
  }

  // MARK: Generation

  @Test(arguments: TinyDecoder.Kind.allCases)
  func greedyTokensAreTheLargestLogits(kind: TinyDecoder.Kind) throws {
    let tiny = try TinyDecoder(kind)
    let prompt = TinyDecoder.tokens(9)
    let made = try Generator.generate(model: tiny.model, prompt: prompt, Self.settings())
    #expect(made.count == 40)
    let logits = try wholeForward(tiny.model, nil, prompt + made)
    for (place, token) in made.enumerated() {
      let row = logits[prompt.count - 1 + place]
      #expect(row[Int(token)] >= (row.max() ?? 0) - 1e-5)
    }
  }

  @Test func anyNumberOfThreadsGivesTheSameTokens() throws {
    let prompt = TinyDecoder.tokens(20)
    let sampled = Self.settings { ($0.temperature, $0.topP, $0.topK) = (1.5, 0.9, 30) }
    let made = try [1, 2, 3].map { threads in
      let tiny = try TinyDecoder(.mistral, threads: threads)
      return try Generator.generate(model: tiny.model, prompt: prompt, sampled)
    }
    #expect(made[0] == made[1] && made[0] == made[2])
    let tiny = try TinyDecoder(.mistral)
    let other = try Generator.generate(
      model: tiny.model, prompt: prompt, Self.settings { ($0.temperature, $0.seed) = (1.5, 1) })
    #expect(other != made[0])
  }

  @Test func theMergedViewGenerates() throws {
    let tiny = try TinyDecoder(.qwen2)
    let adapter = try Self.adapter(tiny.model)
    let prompt = TinyDecoder.tokens(5)
    let sampled = Self.settings { $0.temperature = 1 }
    func generate(_ adapter: Adapter?) throws -> [Int32] {
      try Generator.generate(model: tiny.model, adapter: adapter, prompt: prompt, sampled)
    }
    let base = try generate(nil)
    let adapted = try generate(adapter)
    #expect(base != adapted)
    try adapter.setScale(0)
    #expect(try generate(adapter) == base)
    try adapter.setScale(0.5)
    let half = try generate(adapter)
    #expect(half != base && half != adapted)
  }

  /// The adapter is read at the start: it may be changed and used meanwhile.
  @Test func whatHappensToTheAdapterMeanwhileDoesNotMatter() throws {
    let tiny = try TinyDecoder(.gpt2)
    let adapter = try Self.adapter(tiny.model)
    let prompt = TinyDecoder.tokens(5)
    let before = try Generator.generate(
      model: tiny.model, adapter: adapter, prompt: prompt, Self.settings())
    var inner: [[Int32]] = []
    let meanwhile = try Generator.generate(
      model: tiny.model, adapter: adapter, prompt: prompt, Self.settings()
    ) { _ in
      if inner.isEmpty {
        inner.append(
          try Generator.generate(
            model: tiny.model, adapter: adapter, prompt: prompt, Self.settings()))
      }
      try adapter.setScale(-3)
      return .goOn
    }
    #expect(meanwhile == before && inner == [before])
  }

  @Test func stopTokensEndItAndAreNotGiven() throws {
    let tiny = try TinyDecoder(.llama)
    let prompt = TinyDecoder.tokens(7)
    let all = try Generator.generate(model: tiny.model, prompt: prompt, Self.settings())
    let stop = try #require(all.indices.first { $0 > 2 && !all[..<$0].contains(all[$0]) })
    let cut = try Generator.generate(
      model: tiny.model, prompt: prompt, Self.settings { $0.stopTokens = [52, all[stop]] })
    #expect(cut == Array(all.prefix { $0 != 52 && $0 != all[stop] }))
    for list in ["\(all[stop])", "[52, \(all[stop])]", "[\(all[stop]), 99999999999]"] {
      let own = try TinyDecoder(.llama, config: ", \"eos_token_id\": \(list)")
      let byConfig = try Generator.generate(
        model: own.model, prompt: prompt, Self.settings { $0.stopTokens = nil })
      let ends = list.contains("52") ? [52, all[stop]] : [all[stop]]
      #expect(byConfig == Array(all.prefix { !ends.contains($0) }))
      // generation_config.json comes first.
      try "{\"eos_token_id\": []}".write(
        toFile: own.path + "/generation_config.json", atomically: true, encoding: .utf8)
      let byFile = try Generator.generate(
        model: own.model, prompt: prompt, Self.settings { $0.stopTokens = nil })
      #expect(byFile == all)
      try "{\"eos_token_id\": \"no\"}".write(
        toFile: own.path + "/generation_config.json", atomically: true, encoding: .utf8)
      expectStatus(.format) {
        try Generator.generate(
          model: own.model, prompt: prompt, Self.settings { $0.stopTokens = nil })
      }
    }
  }

  @Test func aCallbackMayCancel() throws {
    let tiny = try TinyDecoder(.llama)
    var told: [Int32] = []
    expectStatus(.cancelled) {
      try Generator.generate(model: tiny.model, prompt: [1], Self.settings()) {
        told.append($0)
        return told.count == 3 ? .cancel : .goOn
      }
    }
    #expect(told.count == 3)
  }

  // MARK: Bad input

  @Test func positionsAreALimit() throws {
    let tiny = try TinyDecoder(.llama)
    let all = TinyDecoder.positions
    let prompt = TinyDecoder.tokens(all)
    #expect(
      try Generator.generate(
        model: tiny.model, prompt: prompt, Self.settings { $0.maxNewTokens = 1 }
      ).count == 1)
    #expect(
      try Generator.generate(
        model: tiny.model, prompt: [1], Self.settings { $0.maxNewTokens = all }
      ).count == all)
    for (tokens, new) in [(prompt, 2), ([1], all + 1), ([1], Int.max), (prompt + [1], 1)] {
      expectStatus(.limit) {
        try Generator.generate(
          model: tiny.model, prompt: tokens, Self.settings { $0.maxNewTokens = new })
      }
    }
  }

  @Test func badInputIsRefused() throws {
    let tiny = try TinyDecoder(.gpt2)
    func refused(
      _ status: Status, _ prompt: [Int32] = [1],
      _ change: (inout GenerationSettings) -> Void = { _ in }
    ) {
      expectStatus(status) {
        try Generator.generate(model: tiny.model, prompt: prompt, Self.settings(change))
      }
    }
    refused(.shape, [])
    refused(.token, [1, -1])
    refused(.token, [1, Int32(TinyDecoder.vocabulary)])
    for value in [Double.nan, .infinity, -0.1] {
      refused(.argument) { $0.temperature = value }
      refused(.argument) { $0.repetitionPenalty = value }
      refused(.argument) { $0.topP = value }
    }
    refused(.argument) { $0.repetitionPenalty = 0 }
    refused(.argument) { $0.topP = 0 }
    refused(.argument) { $0.topP = 1.0001 }
    refused(.argument) { $0.topK = -1 }
    refused(.argument) { $0.maxNewTokens = 0 }
    refused(.argument) { $0.maxNewTokens = .min }
    refused(.token) { $0.stopTokens = [-1] }
    refused(.token) { $0.stopTokens = [Int32(TinyDecoder.vocabulary)] }
  }

  @Test func onlyLanguageHeadsGenerate() throws {
    let encoder = try TinyModel()
    expectStatus(.state) {
      try Generator.generate(model: encoder.model, prompt: [1], Self.settings())
    }
    let tiny = try TinyDecoder(.llama)
    let classifier = try Self.adapter(tiny.model, ["head": "classifier", "num_labels": "3"])
    expectStatus(.state) {
      try Generator.generate(
        model: tiny.model, adapter: classifier, prompt: [1], Self.settings())
    }
    let other = try TinyDecoder(.llama)
    let foreign = try Self.adapter(other.model)
    expectStatus(.mismatch) {
      try Generator.generate(model: tiny.model, adapter: foreign, prompt: [1], Self.settings())
    }
  }
}
