import Testing

@testable import Lorasc

@Suite struct TokenizerTests {
  private func added(_ id: Int, _ content: String, special: Bool = true) -> String {
    """
    {"id":\(id),"content":"\(content)","single_word":false,"lstrip":false,"rstrip":false,\
    "normalized":false,"special":\(special)}
    """
  }

  private let frameOfBOS = """
    {"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},\
    {"Sequence":{"id":"A","type_id":0}}],"pair":[{"SpecialToken":{"id":"<s>","type_id":0}},\
    {"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"<s>","type_id":1}},\
    {"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<s>":{"id":"<s>","ids":[1],\
    "tokens":["<s>"]}}}
    """

  @Test func byteLevel() throws {
    let text = try TokenizerKeys.byteLevel.text("tokenizer.json")
    #expect(
      text == """
        {"version":"1.0","truncation":null,"padding":null,"added_tokens":[\(added(7, "<|end|>")),\
        \(added(8, "  ", special: false))],"normalizer":null,"pre_tokenizer":{"type":"Sequence",\
        "pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"ByteLevel",\
        "add_prefix_space":false,"trim_offsets":true,"use_regex":true}]},"post_processor":null,\
        "decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,\
        "use_regex":true},"model":{"type":"BPE","dropout":null,"unk_token":null,\
        "continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,\
        "byte_fallback":false,"ignore_merges":false,"vocab":{"a":0,"b":1,"ab":2,"Ġ":3,"Ġab":4,\
        "é":5,"e\u{301}":6,"<|end|>":7,"  ":8,"\\"\\\\\\n":11},"merges":["a b","Ġ ab"]}}
        """)
  }

  @Test func sentencePiece() throws {
    let text = try TokenizerKeys.sentencePiece.text("tokenizer.json")
    // Of pieces with one score the longer left part first.
    #expect(
      text == """
        {"version":"1.0","truncation":null,"padding":null,"added_tokens":[\(added(0, "<unk>")),\
        \(added(1, "<s>")),\(added(2, "</s>"))],"normalizer":{"type":"Sequence","normalizers":\
        [{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},\
        "content":"▁"}]},"pre_tokenizer":null,"post_processor":\(frameOfBOS),"decoder":\
        {"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},\
        {"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,\
        "stop":0}]},"model":{"type":"BPE","dropout":null,"unk_token":"<unk>",\
        "continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":true,\
        "byte_fallback":true,"ignore_merges":false,"vocab":{"<unk>":0,"<s>":1,"</s>":2,\
        "<0x0A>":3,"▁a":4,"ab":5,"▁ab":6,"▁":7,"a":8,"b":9},\
        "merges":["▁ a","a b","▁a b","▁ ab"]}}
        """)
    var keys = TokenizerKeys.sentencePiece
    keys["add_space_prefix"] = .flag(false)
    keys["add_bos_token"] = .flag(false)
    let bare = try keys.text("tokenizer.json")
    #expect(
      bare.contains(
        """
        "normalizer":{"type":"Replace","pattern":{"String":" "},"content":"▁"},\
        "pre_tokenizer":null,"post_processor":null
        """) && !bare.contains("Strip"))
  }

  @Test func wordPiece() throws {
    let text = try TokenizerKeys.wordPiece.text("tokenizer.json")
    #expect(
      text.contains(
        """
        "normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,\
        "strip_accents":null,"lowercase":true},"pre_tokenizer":{"type":"BertPreTokenizer"}
        """))
    #expect(
      text.hasSuffix(
        """
        "model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##",\
        "max_input_chars_per_word":100,"vocab":{"[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"a":4,\
        "##b":5,"##▁":6,"[unused0]":7}}}
        """))
    var keys = TokenizerKeys.wordPiece
    keys["tokens"] = .texts(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁A", "b", "c", "d"])
    #expect(try keys.text("tokenizer.json").contains("\"lowercase\":false"))
    keys["tokenizer.ggml.normalizer.lowercase"] = .flag(true)
    keys["tokenizer.ggml.normalizer.strip_accents"] = .flag(false)
    #expect(
      try keys.text("tokenizer.json").contains("\"strip_accents\":false,\"lowercase\":true"))
    // Later converters name the same tokens by other roles.
    keys["cls_token_id"] = nil
    keys["seperator_token_id"] = nil
    keys["bos_token_id"] = .number(2)
    keys["eos_token_id"] = .number(3)
    let config = try keys.text("special_tokens_map.json")
    #expect(config.contains("\"cls_token\": \"[CLS]\"") && !config.contains("bos_token"))
  }

  @Test func splitting() throws {
    var keys = TokenizerKeys.byteLevel
    for (name, part) in [
      ("gpt-2", "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\""),
      ("mpt", "\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\""),
      ("qwen2", #"[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"#),
      ("llama-bpe", #"\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"#),
      ("tekken", #"[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"#),
      ("deepseek-coder", "[一-龥ࠀ-一가-\u{D7FF}]+"),
    ] {
      keys["pre"] = .text(name)
      #expect(try keys.text("tokenizer.json").contains(part), "\(name)")
    }
    keys["pre"] = .text("llama-bpe")
    keys["bos_token_id"] = .number(7)
    let llama = try keys.text("tokenizer.json")
    #expect(llama.contains("\"ignore_merges\":true") && llama.contains("\"use_regex\":false"))
    #expect(llama.contains(#""single":[{"SpecialToken":{"id":"<|end|>","type_id":0}}"#))
    keys["add_bos_token"] = .flag(false)
    #expect(try keys.text("tokenizer.json").contains("\"post_processor\":null"))
    // Files from before the key: the architecture says it, if it has one tokenizer only.
    keys["pre"] = nil
    for (architecture, part) in [("gpt2", "\"normalizer\":null"), ("qwen2", "\"NFC\"")] {
      keys["general.architecture"] = .text(architecture)
      #expect(try keys.text("tokenizer.json").contains(part), "\(architecture)")
    }
  }

  @Test func configuration() throws {
    var keys = TokenizerKeys.byteLevel
    #expect(
      try keys.text("tokenizer_config.json") == """
        {
          "tokenizer_class": "PreTrainedTokenizerFast",
          "model_max_length": 64,
          "model_input_names": [
            "input_ids",
            "attention_mask"
          ],
          "clean_up_tokenization_spaces": false,
          "eos_token": "<|end|>"
        }
        """)
    expectFailure(.notFound) { _ = try keys.text("chat_template.jinja") }
    expectFailure(.notFound) { _ = try keys.text("vocab.json") }
    keys["tokenizer.chat_template"] = .text("{{ 'é' }}\n")
    #expect(try keys.text("chat_template.jinja") == "{{ 'é' }}\n")
    #expect(
      try keys.text("tokenizer_config.json").contains(#""chat_template": "{{ '\u00e9' }}\n""#))
    keys["tokenizer.chat_templates"] = .texts(["rag"])
    keys["tokenizer.chat_template.rag"] = .text("RAG")
    let config = try JSONValue.parse(try keys.text("tokenizer_config.json"))
    guard case .object(let object) = config else {
      Issue.record("no object")
      return
    }
    #expect(
      object["chat_template"] == [
        ["name": "default", "template": "{{ 'é' }}\n"], ["name": "rag", "template": "RAG"],
      ])
    keys["eot_token_id"] = .number(2)
    keys["eom_token_id"] = .number(7)
    keys["bos_token_id"] = .number(0)
    let generation = try JSONValue.parse(try keys.text("generation_config.json"))
    #expect(generation == ["bos_token_id": 0, "eos_token_id": [7, 2]])
    #expect(try TokenizerKeys.wordPiece.tokenizer()?.file("generation_config.json") == nil)
  }

  @Test func without() throws {
    #expect(try TokenizerKeys().tokenizer() == nil)
    var keys = TokenizerKeys.byteLevel
    keys["model"] = .text("no_vocab")
    #expect(try keys.tokenizer() == nil)
  }
}
