/// Names of modules within layers that programs have in memory, where files have others.
struct ModuleRenaming: Sendable {
  typealias Names = (file: String, memory: String)
  /// What stands before a layer's index: "encoder.layer" and "layers".
  let layers: Names
  /// Of modules within a layer.
  let modules: [Names]

  /// A module's or tensor's name in a file as it is in memory.
  func inMemory(_ name: String) -> String {
    renamed(name, from: \.file, to: \.memory)
  }

  /// The other way.
  func inFile(_ name: String) -> String {
    renamed(name, from: \.memory, to: \.file)
  }

  private func renamed(
    _ name: String, from old: KeyPath<Names, String>, to new: KeyPath<Names, String>
  ) -> String {
    let stem = layers[keyPath: old] + "."
    guard name.hasPrefix(stem) else { return name }
    let parts = name.dropFirst(stem.count).split(separator: ".", maxSplits: 1)
    guard parts.count == 2 else { return name }
    let renamed = modules.lazy.compactMap { module -> String? in
      let start = module[keyPath: old]
      guard parts[1] == start || parts[1].hasPrefix(start + ".") else { return nil }
      return module[keyPath: new] + parts[1].dropFirst(start.count)
    }
    return layers[keyPath: new] + "." + parts[0] + "." + (renamed.first ?? String(parts[1]))
  }
}
