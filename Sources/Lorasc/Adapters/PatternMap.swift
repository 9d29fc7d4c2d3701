/// Values for modules by pattern: `rank_pattern` and `alpha_pattern` of PEFT's
/// `adapter_config.json`.
///
/// A key is a regular expression for the end of a module's name, after a dot or from the
/// beginning: `(.*\.)?(key)$`. The first key in the order of the file that matches wins.
struct PatternMap<Value: Sendable>: Sendable {
  private struct Entry: Sendable {
    let pattern: Pattern
    let value: Value
  }

  private let entries: [Entry]
  private let names: ModuleName

  /// - Parameter option: the key that holds the map, for messages.
  /// - Throws: `.option` with the pattern as subject.
  init(_ entries: [(key: String, value: Value)], option: String, _ names: ModuleName) throws {
    self.names = names
    self.entries = try entries.map { key, value in
      Entry(pattern: try Pattern(nameEndingIn: key, option: option), value: value)
    }
  }

  var isEmpty: Bool { entries.isEmpty }

  /// The value for a module; nil when no key matches, so that the general one holds.
  func value(for moduleName: String) -> Value? {
    let names = names.spellings(moduleName)
    return entries.first { names.contains(where: $0.pattern.matchesPrefix) }?.value
  }

  /// The keys that match none of these modules, in order. A key that another one always
  /// precedes is not among them: it does match.
  func unmatchedKeys(in names: [String]) -> [String] {
    let names = names.flatMap(self.names.spellings)
    return entries.filter { entry in !names.contains { entry.pattern.matchesPrefix($0) } }
      .map(\.pattern.text)
  }
}
