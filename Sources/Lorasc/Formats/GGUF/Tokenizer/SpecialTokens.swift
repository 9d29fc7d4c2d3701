/// The tokens of a GGUF tokenizer that have a role, and which of them stand around each text.
struct SpecialTokens {
  /// By transformers' names.
  enum Role: String, CaseIterable {
    case bos
    case eos
    case unk
    case sep
    case pad
    case cls
    case mask

    fileprivate var key: String {
      let name =
        switch self {
        case .unk: "unknown"
        // As the format spells it.
        case .sep: "seperator"
        case .pad: "padding"
        case .bos, .eos, .cls, .mask: rawValue
        }
      return "tokenizer.ggml.\(name)_token_id"
    }
  }

  private let roles: [Role: Int]
  /// Tokens that end what a language model writes, the end of the sequence first.
  let ends: [Int]
  let ids: Set<Int>

  subscript(role: Role) -> Int? { roles[role] }

  /// - Throws: `.format` for ids outside the vocabulary and for roles that nothing has
  init(_ metadata: GGUFMetadata, _ model: GGUFTokenizer.Model, count: Int) throws {
    func id(_ key: String) throws -> Int? {
      guard let id = try metadata.optionalInt(key) else { return nil }
      guard (0..<count).contains(id) else {
        throw LorascError(
          .format, "the key \(quoted(key)) is \(id), the vocabulary has \(count) tokens",
          subject: key)
      }
      return id
    }
    var roles: [Role: Int] = [:]
    for role in Role.allCases { roles[role] = try id(role.key) }
    switch model {
    case .gpt2: break
    case .llama:
      // SentencePiece's own, which older files don't name.
      for (role, usual) in [(Role.unk, 0), (.bos, 1), (.eos, 2)] where usual < count {
        roles[role] = roles[role] ?? usual
      }
    case .bert:
      roles[.cls] = roles[.cls] ?? roles[.bos]
      roles[.sep] = roles[.sep] ?? roles[.eos]
      (roles[.bos], roles[.eos]) = (nil, nil)
      for role in [Role.cls, .sep, .unk] where roles[role] == nil {
        throw LorascError(
          .format, "the key \(quoted(role.key)) is missing", subject: role.key)
      }
    }
    let turnEnds = try ["eot", "eom"].compactMap { try id("tokenizer.ggml.\($0)_token_id") }
    ends = turnEnds.reduce(into: [roles[.eos]].compactMap(\.self)) { ends, id in
      if !ends.contains(id) { ends.append(id) }
    }
    self.roles = roles
    ids = Set(roles.values).union(ends)
  }
}
