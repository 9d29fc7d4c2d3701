extension GGUFTokenizer {
  /// What a folder needs: the chat templates are in tokenizer_config.json.
  static let files = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
  ]

  /// One of the files by its name, nil where there is none of this name.
  /// - Throws: `.format`, `.unsupported`, `.limit`
  func file(_ name: String) throws -> String? {
    switch name {
    case "tokenizer.json": try tokenizerJSON()
    case "tokenizer_config.json": try tokenizerConfig().text()
    case "special_tokens_map.json": try namedTokens().text()
    case "generation_config.json": try generationConfig()?.text()
    case "chat_template.jinja": try metadata.optionalString(Self.templateKey)
    default: nil
    }
  }

  private static let templateKey = "tokenizer.chat_template"

  private func tokenizerConfig() throws -> JSONObject {
    // The class that takes tokenizer.json as it is.
    var config: JSONObject = ["tokenizer_class": "PreTrainedTokenizerFast"]
    if let architecture = try metadata.optionalString("general.architecture"),
      let length = try metadata.optionalInt("\(architecture).context_length")
    {
      config["model_max_length"] = .integer(Int64(length))
    }
    let types: [JSONValue] = model == .bert ? ["token_type_ids"] : []
    config["model_input_names"] = .array(["input_ids"] + types + ["attention_mask"])
    config["clean_up_tokenization_spaces"] = .bool(model == .bert)
    for member in namedTokens().members { config[member.key] = member.value }
    config["chat_template"] = try chatTemplates()
    return config
  }

  private func namedTokens() -> JSONObject {
    var tokens = JSONObject()
    for role in SpecialTokens.Role.allCases {
      if let id = special[role] { tokens["\(role.rawValue)_token"] = .string(self.tokens[id].text) }
    }
    return tokens
  }

  /// A text, or where there are several a list by their names.
  private func chatTemplates() throws -> JSONValue? {
    let first = try metadata.optionalString(Self.templateKey)
    let names = try metadata.optionalStrings("tokenizer.chat_templates") ?? []
    guard !names.isEmpty else { return first.map { .string($0) } }
    func named(_ name: String, _ template: String) -> JSONValue {
      ["name": .string(name), "template": .string(template)]
    }
    let others = try names.map { named($0, try metadata.string("\(Self.templateKey).\($0)")) }
    return .array((first.map { [named("default", $0)] } ?? []) + others)
  }

  /// Where a language model starts and stops.
  private func generationConfig() -> JSONObject? {
    guard model != .bert else { return nil }
    var config = JSONObject()
    for role in [SpecialTokens.Role.bos, .pad] {
      if let id = special[role] { config["\(role.rawValue)_token_id"] = .integer(Int64(id)) }
    }
    let ends = special.ends.map { JSONValue.integer(Int64($0)) }
    config["eos_token_id"] = ends.count > 1 ? .array(ends) : ends.first
    return config
  }
}
