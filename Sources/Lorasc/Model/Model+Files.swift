extension Model {
  /// A text file of the model by its name, such as "config.json" or "tokenizer.json": a folder's
  /// own as it is; of a GGUF file one that is made from its metadata (see `GGUFTokenizer`).
  ///
  /// - Throws: `.notFound`, `.argument` for a name that leads elsewhere, `.format` for damaged
  ///   metadata and for what is no text, `.unsupported` for a tokenizer of another kind, `.io`,
  ///   `.limit`
  public func file(_ name: String) throws -> String {
    let isName = !["", ".", ".."].contains(name) && !name.utf8.contains { $0 == 0x2F || $0 == 0 }
    guard isName else {
      throw LorascError(.argument, "\(quoted(name)) is no name of a file", subject: name)
    }
    guard let gguf else { return try Self.text(path: Files.join(path, name)) }
    if name == "config.json" { return try configJSON.text() }
    let text = try namingFile(path) { try GGUFTokenizer(gguf.file.metadata)?.file(name) }
    guard let text else {
      throw LorascError(
        .notFound, "\(path): its metadata make no \(quoted(name))", subject: name)
    }
    return text
  }

  private static func text(path: String) throws -> String {
    let bytes = try MappedFile.readAll(path: path)
    guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
      throw LorascError(.format, "\(path): is no text in UTF-8", subject: path)
    }
    return text
  }

  /// The tokenizer's files of a GGUF file, for a folder of its own. Metadata that make none are
  /// no reason to give up weights: the log says why they are missing.
  func tokenizerFiles() -> [(name: String, text: String)] {
    do {
      guard let gguf, let tokenizer = try GGUFTokenizer(gguf.file.metadata) else { return [] }
      return try GGUFTokenizer.files.compactMap { name in
        try tokenizer.file(name).map { (name, $0) }
      }
    } catch {
      Log.send(.warning, "\(path): the merged folder gets no tokenizer: \(error)")
      return []
    }
  }
}
