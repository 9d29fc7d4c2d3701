/// How rules see a module's name: a rule may be for any of its spellings.
struct ModuleName: Sendable {
  /// Of a module or tensor.
  let spellings: @Sendable (String) -> [String]

  /// As the bare backbone has it and as a model with a head has it, by the names of files and by
  /// those in memory.
  init(form: Architecture) {
    spellings = { name in
      let memory = form.inMemory(name)
      return (memory == name ? [name] : [name, memory]).flatMap { [$0, form.prefix + $0] }
    }
  }

  /// As PEFT has it in a model with this head.
  init(inPEFT model: Model, _ head: HeadKind) {
    spellings = { [model.prefix(of: $0, head) + model.form.inMemory($0)] }
  }

  /// True where these parts, whole between dots, stand anywhere in the name.
  func lies(_ name: String, in part: String) -> Bool {
    spellings(name).contains { Self.lies($0, in: part) }
  }

  static func lies(_ name: String, in part: String) -> Bool {
    ("." + name + ".").contains("." + part + ".")
  }

  /// True where a module that holds the tensor has a name with this end, as PEFT compares.
  func holds(_ tensor: String, moduleEndingIn end: String) -> Bool {
    spellings(tensor).contains { name in
      var module = name[...]
      while let dot = module.lastIndex(of: ".") {
        module = module[..<dot]
        if module.hasSuffix(end) { return true }
      }
      return false
    }
  }
}
