/// What `method` stands for: values of other options, used where these are not set by hand.
/// The table's own defaults are those of `lorasc`.
enum Presets {
  /// In the order in which they are shown.
  static let names = all.map(\.name)

  static func value(_ key: String, of method: String) -> String? { byName[method]?[key] }

  private typealias Values = [String: String]

  private static let all: [(name: String, values: Values)] = [
    ("lora", single),
    ("rslora", single + rslora),
    ("lora+", single + loraPlus),
    ("dora", single + dora),
    ("lora-fa", single + ["train_a": "false"]),
    ("pissa", single + ["init_lora_weights": "pissa"]),
    ("cola", chain),
    (
      "relora",
      chain + ["boundary_optimizer": "prune", "schedule": "jagged_cosine", "min_lr_ratio": "0.1"]
    ),
    ("rac-lora", chain + ["reinit": "only_b"]),
    ("lorasc", [:]),
    ("lorasc+lora", [:]),
    ("lorasc+rslora", rslora),
    ("lorasc+lora+", loraPlus),
    ("lorasc+dora", dora),
    ("lorasc+cola", ["ranks": "step_down"]),
  ]

  private static let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0.values) })

  /// A chain whose experts are merged whole, on clean weights.
  private static let chain: Values = ["slow_rate": "1", "noise": "0"]
  private static let single = chain + ["cascade_unit": "none"]
  private static let rslora: Values = ["use_rslora": "true"]
  /// The ratio that Hayou et al. 2024 recommend.
  private static let loraPlus: Values = ["loraplus_lr_ratio": "16"]
  private static let dora: Values = ["use_dora": "true"]
}

extension [String: String] {
  fileprivate static func + (first: Self, second: Self) -> Self {
    first.merging(second) { $1 }
  }
}
