/// A family of models: how config.json and the names of tensors make a backbone, and what
/// transformers calls its classes.
struct Architecture: Sendable {
  /// As config.json's model_type names it.
  let modelType: String
  /// Of the backbone's tensors in a model with a head: "bert.".
  let prefix: String
  /// transformers' classes: of the bare backbone, and of each head.
  let baseClass: String
  let headClasses: [HeadKind: String]
  /// Names of attention modules that get adapters unless options say otherwise, as in PEFT.
  let defaultTargets: String
  /// How transformers names modules in memory, where its files name them otherwise.
  var renaming: ModuleRenaming?
  let classifier: @Sendable (Backbone) -> ClassifierForm?
  let tokenClassifier: ClassifierForm?
  let backbone: @Sendable (ConfigReader, NamedTensors) throws -> Backbone

  /// - Throws: `.architecture` with the list of what is known.
  static func named(_ modelType: String, _ path: String) throws -> Architecture {
    guard let found = all.first(where: { $0.modelType == modelType }) else {
      let known = all.map(\.modelType).joined(separator: ", ")
      throw LorascError(
        .architecture, "\(path): model_type \(modelType) is not known; known: \(known)",
        subject: modelType)
    }
    return found
  }

  /// A module's or tensor's name as it is in memory.
  func inMemory(_ name: String) -> String { renaming?.inMemory(name) ?? name }

  /// The other way.
  func inFile(_ name: String) -> String { renaming?.inFile(name) ?? name }

  static let all: [Architecture] =
    [.bert, .roberta, .xlmRoberta, .distilBert, .gpt2, .vit, .deit] + llamaFamily
}

/// How a classifier follows a backbone: one token's state (their mean, or each token's), maybe a
/// dense module, a linear one.
struct ClassifierForm: Sendable {
  enum Selection: Sendable, Equatable {
    case token(SelectedTokens.Place)
    case mean, each

    /// Of one token, which the backbone then gives alone.
    var place: SelectedTokens.Place? { if case .token(let place) = self { place } else { nil } }
  }
  enum Dense: Sendable, Equatable {
    /// The backbone's pooler: frozen unless targeted or in `modules_to_save`.
    case pooler
    /// A module of the head, trained with it.
    case own(name: String)
  }

  var selection = Selection.token(.first)
  var dense: Dense?
  var denseActivation = Activation.tanh
  /// Dropout before the dense module too.
  var dropsBeforeDense = false
  var hasDropout = true
  var output = "classifier"
  var hasBias = true

  /// The head's linear modules.
  var ownModules: [String] {
    if case .own(let name) = dense { [name, output] } else { [output] }
  }
}
