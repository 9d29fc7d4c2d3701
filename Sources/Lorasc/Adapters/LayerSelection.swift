/// Only some layers get adapters: `layers_to_transform` and `layers_pattern`, as PEFT reads them
/// beside a list of target modules.
///
/// A layer's index is the first number that stands alone between dots in a module's name,
/// after one of the patterns or, without any, after at least two other parts.
struct LayerSelection: Sendable {
  private let indices: Set<Int>
  private let patterns: [String]
  private let names: ModuleName

  /// nil: every layer.
  init?(_ options: Options, _ names: ModuleName) throws {
    self.names = names
    let items = try options.list("layers_to_transform")
    patterns = try options.list("layers_pattern")
    if items.isEmpty {
      guard patterns.isEmpty else {
        throw LorascError(
          .option, "option layers_pattern: needs layers_to_transform", subject: "layers_pattern")
      }
      return nil
    }
    indices = Set(
      try items.map { item in
        guard let index = Int(item), index >= 0 else {
          throw Options.bad("layers_to_transform", item, "is no layer's index")
        }
        return index
      })
  }

  func contains(_ moduleName: String) -> Bool {
    names.spellings(moduleName).contains { index(of: $0).map(indices.contains) ?? false }
  }

  private func index(of moduleName: String) -> Int? {
    let parts = moduleName.split(separator: ".", omittingEmptySubsequences: false)
    func first(where matches: ([Substring]) -> Bool) -> Int? {
      for (place, part) in parts.enumerated().dropLast() {
        if !part.isEmpty, part.allSatisfy({ ("0"..."9").contains($0) }),
          matches(Array(parts[..<place]))
        {
          return Int(part)
        }
      }
      return nil
    }
    if patterns.isEmpty { return first { $0.count >= 2 } }
    for pattern in patterns {
      let wanted = pattern.split(separator: ".", omittingEmptySubsequences: false)
      if let index = first(where: { Array($0.suffix(wanted.count)) == wanted }) { return index }
    }
    return nil
  }
}
