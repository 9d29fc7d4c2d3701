/// The next cascade's factors (option `reinit`); of an embedding A and B change places.
enum Reinitialization: String, Sendable {
  /// A drawn anew, B = 0
  case new
  /// the first cascade's initial A, B = 0
  case sameA = "same_a"
  /// the trained A, B = 0
  case keepA = "keep_a"
  /// A drawn anew and frozen, B = 0 (RAC-LoRA)
  case onlyB = "only_b"

  init(_ options: Options) throws {
    self = Reinitialization(rawValue: try options.text("reinit")) ?? .new
  }
}
