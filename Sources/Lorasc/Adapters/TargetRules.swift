/// Which modules get an adapter, by the rules of PEFT's `check_target_module_exists`.
///
/// ```swift
/// let rules = try TargetRules(targets: "query,value", exclude: #".*layer\.0\..*"#, names)
/// rules.matches("encoder.layer.1.attention.self.query", isOutputLayer: false)  // true
/// rules.matches("encoder.layer.0.attention.self.query", isOutputLayer: false)  // false
/// ```
///
/// PEFT tells a list from a pattern by its type. An option is always text, so the text tells:
/// with any of `^$*+?()[]{}|\` the whole of it, commas included, is one pattern; otherwise it
/// is a list. A dot alone makes no pattern: `attention.self.query` is the end of a name. To
/// keep PEFT's own distinction, as for an `adapter_config.json`, pass selections.
struct TargetRules: Sendable {
  /// One rule, for the modules to adapt or for those to leave out.
  enum Selection: Sendable {
    /// Whole names, or their ends after a dot.
    case names([String])
    /// The whole name matches.
    case pattern(Pattern)
    /// Every linear module but the output layer.
    case allLinear
  }

  let targets: Selection
  let exclude: Selection?
  private let names: ModuleName

  init(targets: Selection, exclude: Selection? = nil, _ names: ModuleName) {
    self.targets = targets
    self.exclude = exclude
    self.names = names
  }

  /// From the texts of `target_modules` and `exclude_modules`.
  ///
  /// - Throws: `.option`: no target, an empty item of a list, a bad pattern (which is then the
  ///   subject), or `all-linear` as an exclusion, which PEFT would take for a module's name.
  init(targets: String, exclude: String = "", _ names: ModuleName) throws {
    guard let targets = try Selection(targets, option: "target_modules") else {
      throw Options.bad("target_modules", targets, "names no module")
    }
    let excluded = try Selection(exclude, option: "exclude_modules")
    if case .allLinear = excluded {
      throw Options.bad("exclude_modules", exclude, "is a word of target_modules only")
    }
    self.init(targets: targets, exclude: excluded, names)
  }

  /// Whether a linear module gets an adapter. An exclusion wins over a target.
  ///
  /// - Parameter isOutputLayer: only `all-linear` leaves that one out; a name or a pattern may
  ///   ask for it.
  func matches(_ moduleName: String, isOutputLayer: Bool) -> Bool {
    let names = names.spellings(moduleName)
    if let exclude, names.contains(where: { exclude.matches($0, isOutputLayer: false) }) {
      return false
    }
    return names.contains { targets.matches($0, isOutputLayer: isOutputLayer) }
  }

  /// Whether the name stands in a list as it is.
  func lists(_ name: String) -> Bool {
    guard case .names(let items) = targets else { return false }
    return items.contains { $0.utf8.elementsEqual(name.utf8) }
  }

  /// The first item of a list that matches, nil where the target is no list.
  func rule(for moduleName: String) -> String? {
    guard case .names(let items) = targets else { return nil }
    let names = names.spellings(moduleName)
    return items.first { item in names.contains { Selection.item(item, matches: $0) } }
  }

  /// The items of the target that match none of these modules, in order: almost always a typing
  /// error, which PEFT would pass over as long as another item matches. Exclusions do not count
  /// here, an item whose modules are all excluded does match.
  func unmatchedItems(in names: [String]) -> [String] {
    targets.unmatchedItems(in: names.flatMap(self.names.spellings))
  }

  /// The items of the exclusion that match none of these modules.
  func unmatchedExclusions(in names: [String]) -> [String] {
    exclude?.unmatchedItems(in: names.flatMap(self.names.spellings)) ?? []
  }
}

extension TargetRules.Selection {
  /// The selection that a text means; nil for a text without content.
  init?(_ text: String, option: String) throws {
    let items = Options.split(text)
    if items.isEmpty { return nil }
    if items.count == 1, items[0].lowercased() == "all-linear" {
      self = .allLinear
    } else if Self.isPattern(text) {
      self = .pattern(try Pattern(text, option: option))
    } else if items.contains("") {
      throw Options.bad(option, text, "has an empty item")
    } else {
      self = .names(items)
    }
  }

  /// With any sign of regular expressions but the dot.
  static func isPattern(_ text: String) -> Bool {
    text.unicodeScalars.contains(where: marksPattern)
  }

  private static func marksPattern(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar {
    case "^", "$", "*", "+", "?", "(", ")", "[", "]", "{", "}", "|", "\\": true
    default: false
    }
  }

  func matches(_ moduleName: String, isOutputLayer: Bool) -> Bool {
    switch self {
    case .names(let items): items.contains { Self.item($0, matches: moduleName) }
    case .pattern(let pattern): pattern.matchesWhole(moduleName)
    case .allLinear: !isOutputLayer
    }
  }

  func unmatchedItems(in names: [String]) -> [String] {
    switch self {
    case .names(let items):
      items.filter { item in !names.contains { Self.item(item, matches: $0) } }
    case .pattern(let pattern):
      names.contains(where: pattern.matchesWhole) ? [] : [pattern.text]
    case .allLinear:
      names.isEmpty ? ["all-linear"] : []
    }
  }

  /// Compares bytes, as Python compares code points: Swift's `==` and `hasSuffix` would take
  /// canonically equivalent names for the same.
  fileprivate static func item(_ item: String, matches moduleName: String) -> Bool {
    let name = moduleName.utf8
    let end = item.utf8
    guard name.suffix(end.count).elementsEqual(end) else { return false }
    return name.count == end.count || name.dropLast(end.count).last == UInt8(ascii: ".")
  }
}
