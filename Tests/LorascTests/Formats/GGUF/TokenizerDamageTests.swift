import Testing

@testable import Lorasc

/// Metadata that make no tokenizer: each is refused with the key's name, nothing ends the process.
@Suite struct TokenizerDamageTests {
  private typealias Change = (inout TokenizerKeys) -> Void

  private func refused(
    _ base: TokenizerKeys, _ status: Status, _ subject: String, _ words: String? = nil,
    _ change: Change
  ) {
    var keys = base
    change(&keys)
    do {
      _ = try keys.text("tokenizer.json")
      Issue.record("\(subject): no error where \(status) is due")
    } catch let error as LorascError {
      #expect(error.status == status && error.subject == subject, "\(error)")
      if let words { #expect(error.message.contains(words), "\(error)") }
    } catch {
      Issue.record("\(error)")
    }
  }

  @Test func keys() {
    let bytes = TokenizerKeys.byteLevel
    let (tokens, types) = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type")
    refused(bytes, .unsupported, "tokenizer.ggml.model", "\"t5\"") { $0["model"] = .text("t5") }
    refused(bytes, .format, "tokenizer.ggml.model") { $0["model"] = .number(1) }
    refused(bytes, .unsupported, "tokenizer.ggml.pre", "\"falcon\"") { $0["pre"] = .text("falcon") }
    refused(bytes, .unsupported, "tokenizer.ggml.pre", "\"default\"") { $0["pre"] = nil }
    refused(bytes, .format, "tokenizer.ggml.pre") { $0["pre"] = .flag(true) }
    refused(bytes, .format, tokens, "missing") { $0["tokens"] = nil }
    refused(bytes, .format, tokens) { $0["tokens"] = .integers([1, 2]) }
    refused(bytes, .format, tokens) { $0["tokens"] = .text("a") }
    refused(bytes, .format, types, "11 elements for 12") {
      $0["token_type"] = .integers(Array(repeating: 1, count: 11))
    }
    refused(bytes, .format, types, "holds 7") {
      $0["token_type"] = .integers([7] + Array(repeating: 1, count: 11))
    }
    refused(bytes, .format, types, "holds -1") {
      $0["token_type"] = .integers([-1] + Array(repeating: 1, count: 11))
    }
    refused(bytes, .format, types) { $0["token_type"] = .texts(["1"]) }
    refused(bytes, .format, tokens, "tokens 0 and 1") {
      $0["tokens"] = .texts(["a", "a"])
      $0["token_type"] = nil
      $0["eos_token_id"] = nil
    }
    for role in ["bos", "eos", "unknown", "seperator", "padding", "cls", "mask", "eot", "eom"] {
      let key = "tokenizer.ggml.\(role)_token_id"
      refused(bytes, .format, key, "12 tokens") { $0[key] = .number(12) }
      refused(bytes, .format, key) { $0[key] = .number(.max) }
      refused(bytes, .format, key) { $0[key] = .text("<s>") }
    }
    refused(bytes, .format, "tokenizer.ggml.add_bos_token", "no token") {
      $0["add_bos_token"] = .flag(true)
    }
    refused(bytes, .format, "tokenizer.ggml.add_eos_token") { $0["add_eos_token"] = .number(1) }
  }

  @Test func merges() {
    let bytes = TokenizerKeys.byteLevel
    let key = "tokenizer.ggml.merges"
    refused(bytes, .format, key, "missing") { $0["merges"] = nil }
    refused(bytes, .format, key) { $0["merges"] = .numbers([1]) }
    for merge in ["", " ", "a", " a", "ab"] {
      refused(bytes, .format, key, "has no space") { $0["merges"] = .texts([merge]) }
    }
    for (merge, word) in [
      ("a c", "\"c\""), ("a ", "\"\""), ("b a", "\"ba\""), ("a b b", "\"b b\""),
    ] {
      refused(bytes, .format, key, word) { $0["merges"] = .texts(["a b", merge]) }
    }
    // é in one scalar is another token than in two.
    refused(bytes, .format, key, "isn't there") {
      $0["tokens"] = .texts(["e", "\u{301}", "é"])
      ($0["token_type"], $0["eos_token_id"]) = (nil, nil)
      $0["merges"] = .texts(["e \u{301}"])
    }
  }

  @Test func scoresAndRoles() {
    let pieces = TokenizerKeys.sentencePiece
    let scores = "tokenizer.ggml.scores"
    refused(pieces, .format, scores, "missing") { $0["scores"] = nil }
    refused(pieces, .format, scores, "9 elements for 10") {
      $0["scores"] = .numbers(Array(repeating: 0, count: 9))
    }
    refused(pieces, .format, scores) { $0["scores"] = .texts(["0"]) }
    for bad in [Float.nan, .infinity] {
      refused(pieces, .format, scores, "NaN") {
        $0["scores"] = .numbers([bad] + Array(repeating: 0, count: 9))
      }
    }
    refused(pieces, .unsupported, "tokenizer.ggml.remove_extra_whitespaces") {
      $0["remove_extra_whitespaces"] = .flag(true)
    }
    refused(pieces, .unsupported, "tokenizer.ggml.precompiled_charsmap") {
      $0["precompiled_charsmap"] = .integers([1])
    }
    for role in ["cls", "seperator", "unknown"] {
      let key = "tokenizer.ggml.\(role)_token_id"
      refused(.wordPiece, .format, key, "missing") { $0[key] = nil }
    }
    refused(.wordPiece, .format, "tokenizer.ggml.normalizer.lowercase") {
      $0["tokenizer.ggml.normalizer.lowercase"] = .number(1)
    }
    // Few tokens have none of SentencePiece's usual roles.
    var keys = pieces
    keys["tokens"] = .texts(["a"])
    keys["scores"] = .numbers([0])
    keys["token_type"] = nil
    #expect(throws: Never.self) { try keys.text("tokenizer.json") }
  }

  @Test func templates() {
    var keys = TokenizerKeys.byteLevel
    keys["tokenizer.chat_templates"] = .texts(["rag"])
    expectFailure(.format, "tokenizer.chat_template.rag") {
      _ = try keys.text("tokenizer_config.json")
    }
    keys["tokenizer.chat_templates"] = .text("rag")
    expectFailure(.format, "chat_templates") { _ = try keys.text("tokenizer_config.json") }
    keys["tokenizer.chat_template"] = .number(1)
    expectFailure(.format, "chat_template") { _ = try keys.text("chat_template.jinja") }
    keys["llama.context_length"] = .text("64")
    expectFailure(.format, "context_length") { _ = try keys.text("tokenizer_config.json") }
  }

  @Test func notUTF8() throws {
    var bytes = GGUFBytes()
    bytes.key("tokenizer.ggml.model", "gpt2")
    bytes.array(
      "tokenizer.ggml.tokens", 8, count: 1, GGUFBytes.number(UInt64(2)) + [0xC3, 0x28])
    let file = try GGUFFile(bytes.bytes)
    expectFailure(.format, "tokenizer.ggml.tokens", "UTF-8") {
      _ = try GGUFTokenizer(file.metadata)
    }
  }

  @Test func sizes() {
    let tokens = "tokenizer.ggml.tokens"
    refused(.byteLevel, .format, "tokenizer.ggml.token_type", "999999 elements for 1000000") {
      $0["tokens"] = .texts((0..<1_000_000).map { "t\($0)" })
      $0["token_type"] = .integers(Array(repeating: 1, count: 999_999))
    }
    refused(.byteLevel, .limit, tokens, "bytes") {
      $0["tokens"] = .texts([String(repeating: "a", count: 33 << 20)])
    }
    refused(.sentencePiece, .limit, tokens, "513 bytes") {
      $0["tokens"] = .texts([String(repeating: "a", count: 513)])
      $0["scores"] = .numbers([0])
      $0["token_type"] = nil
    }
  }

  @Test func fuzz() throws {
    var random = FixedRandom(state: 12)
    let names = [
      "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
      "generation_config.json", "chat_template.jinja",
    ]
    var made = 0
    for keys in [TokenizerKeys.byteLevel, .sentencePiece, .wordPiece] {
      let whole = try keys.file().metadata
      for _ in 0..<20_000 {
        var changed = GGUFMetadata()
        let place = Int.random(in: 0..<whole.members.count, using: &random)
        let donor = Int.random(in: 0..<whole.members.count, using: &random)
        for (index, member) in whole.members.enumerated() {
          guard index == place else {
            _ = changed.append(member.key, member.value)
            continue
          }
          switch Int.random(in: 0..<4, using: &random) {
          case 0: break
          case 1: _ = changed.append(member.key, whole.members[donor].value)
          case 2:
            guard case .array(let array) = member.value else { fallthrough }
            _ = changed.append(member.key, .array(damaged(array, &random)))
          default: _ = changed.append(member.key, .int32(Int32.random(in: -2...20, using: &random)))
          }
        }
        for name in names {
          do {
            if try GGUFTokenizer(changed)?.file(name) != nil { made += 1 }
          } catch let error as LorascError {
            #expect([.format, .unsupported, .limit].contains(error.status), "\(error)")
          }
        }
      }
    }
    #expect(made > 20_000)
  }

  /// Some of an array's bytes in other values; lengths stay, as in a file that was opened.
  private func damaged(_ array: GGUFArray, _ random: inout FixedRandom) -> GGUFArray {
    guard let copy = try? AlignedBuffer<UInt8>(count: max(array.bytes.count, 1), what: "array")
    else { return array }
    for (index, byte) in array.bytes.enumerated() { copy.pointer[index] = byte }
    for _ in 0..<3 where !array.bytes.isEmpty {
      let place = Int.random(in: 0..<array.bytes.count, using: &random)
      if array.type != .string || copy.pointer[place] > 8 {
        copy.pointer[place] = UInt8.random(in: 9...255, using: &random)
      }
    }
    return GGUFArray(
      type: array.type, count: array.count,
      bytes: UnsafeRawBufferPointer(rebasing: copy.raw.prefix(array.bytes.count)), owner: copy)
  }
}
