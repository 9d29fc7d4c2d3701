@testable import Lorasc

// Rules for BERT's modules, which the tests are written for.

extension TargetRules {
  init(targets: Selection, exclude: Selection? = nil) {
    self.init(targets: targets, exclude: exclude, ModuleName(form: .bert))
  }

  init(targets: String, exclude: String = "") throws {
    try self.init(targets: targets, exclude: exclude, ModuleName(form: .bert))
  }

  init(_ options: Options) throws {
    try self.init(
      targets: options.text("target_modules"), exclude: options.text("exclude_modules"))
  }
}

extension PatternMap {
  init(_ entries: [(key: String, value: Value)], option: String) throws {
    try self.init(entries, option: option, ModuleName(form: .bert))
  }
}
