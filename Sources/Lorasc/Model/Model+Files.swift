extension Model {
  /// A text file of the model by its name, such as "config.json" or "tokenizer.json": a folder's
  /// own as it is.
  ///
  /// - Throws: `.notFound`, `.argument` for a name that leads elsewhere, `.format` for what is no
  ///   text, `.io`, `.limit` beyond 100 MB
  public func file(_ name: String) throws -> String {
    let isName = !["", ".", ".."].contains(name) && !name.utf8.contains { $0 == 0x2F || $0 == 0 }
    guard isName else {
      throw LorascError(.argument, "\(quoted(name)) is no name of a file", subject: name)
    }
    let path = Files.join(path, name)
    let bytes = try MappedFile.readAll(path: path)
    guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
      throw LorascError(.format, "\(path): is no text in UTF-8", subject: path)
    }
    return text
  }
}
