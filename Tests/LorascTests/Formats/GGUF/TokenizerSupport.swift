@testable import Lorasc

/// The metadata of a tokenizer, to be changed and then read from a file's bytes.
struct TokenizerKeys {
  enum Value {
    case text(String)
    case number(UInt32)
    case flag(Bool)
    case texts([String])
    case integers([Int32])
    case numbers([Float])
  }

  var values: [String: Value] = [:]
  static let ggml = "tokenizer.ggml."

  /// Keys without a dot are of `tokenizer.ggml`.
  subscript(key: String) -> Value? {
    get { values[Self.full(key)] }
    set { values[Self.full(key)] = newValue }
  }

  private static func full(_ key: String) -> String { key.contains(".") ? key : ggml + key }

  func file() throws -> GGUFFile {
    var bytes = GGUFBytes()
    for (key, value) in values.sorted(by: { $0.key < $1.key }) {
      switch value {
      case .text(let text): bytes.key(key, text)
      case .number(let number): bytes.key(key, number)
      case .flag(let flag): bytes.key(key, 7, [flag ? 1 : 0])
      case .texts(let texts):
        bytes.array(key, 8, count: texts.count, texts.flatMap(GGUFBytes.text))
      case .integers(let numbers):
        bytes.array(key, 5, count: numbers.count, numbers.flatMap { GGUFBytes.number($0) })
      case .numbers(let numbers):
        bytes.array(
          key, 6, count: numbers.count, numbers.flatMap { GGUFBytes.number($0.bitPattern) })
      }
    }
    return try GGUFFile(bytes.bytes)
  }

  func tokenizer() throws -> GGUFTokenizer? { try GGUFTokenizer(try file().metadata) }

  /// A file that has to be there.
  func text(_ name: String) throws -> String {
    guard let text = try tokenizer()?.file(name) else {
      throw LorascError(.notFound, "no \(name)", subject: name)
    }
    return text
  }

  /// Byte-level BPE, with a filler, a token without a text, and two spellings of é.
  static let byteLevel = {
    var keys = TokenizerKeys()
    keys["general.architecture"] = .text("llama")
    keys["llama.context_length"] = .number(64)
    keys["model"] = .text("gpt2")
    keys["pre"] = .text("smollm")
    keys["tokens"] = .texts(
      ["a", "b", "ab", "Ġ", "Ġab", "é", "e\u{301}", "<|end|>", "  ", "[PAD9]", "", "\"\\\n"])
    keys["token_type"] = .integers([1, 1, 1, 1, 1, 1, 1, 3, 4, 5, 1, 1])
    keys["merges"] = .texts(["a b", "Ġ ab"])
    keys["eos_token_id"] = .number(7)
    return keys
  }()

  static let sentencePiece = {
    var keys = TokenizerKeys()
    keys["general.architecture"] = .text("llama")
    keys["model"] = .text("llama")
    keys["tokens"] = .texts(
      ["<unk>", "<s>", "</s>", "<0x0A>", "\u{2581}a", "ab", "\u{2581}ab", "\u{2581}", "a", "b"])
    keys["scores"] = .numbers([0, 0, 0, 0, -1, -1, -2, -3, -4, -5])
    keys["token_type"] = .integers([2, 3, 3, 6, 1, 1, 1, 1, 1, 1])
    return keys
  }()

  static let wordPiece = {
    var keys = TokenizerKeys()
    keys["general.architecture"] = .text("bert")
    keys["bert.context_length"] = .number(512)
    keys["model"] = .text("bert")
    keys["tokens"] = .texts(
      ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u{2581}a", "b", "\u{2581}", "\u{2581}[unused0]"])
    keys["token_type"] = .integers([3, 3, 3, 3, 1, 1, 1, 1])
    keys["padding_token_id"] = .number(0)
    keys["unknown_token_id"] = .number(1)
    keys["cls_token_id"] = .number(2)
    keys["seperator_token_id"] = .number(3)
    return keys
  }()
}
