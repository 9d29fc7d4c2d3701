import CSupport
import Synchronization

/// A low-rank expert on one linear module: Y += s (X Aᵀ) Bᵀ.
struct AdapterTarget: Sendable {
  /// Index into the model's linear modules.
  let linear: Int
  let rank: Int
  let scale: Float
  /// Indices into the parameters: A (r, in), B (out, r).
  let a: Int
  let b: Int
}

/// A linear layer that is trained in full, with the indices of its parameters.
struct FullModule: Sendable {
  /// Index into the model's linear modules; nil: the head's output layer.
  let linear: Int?
  let weight: Int
  let bias: Int?
}

/// The whole result of fine-tuning one model: merged terms of finished cascades, the current
/// expert, the slow state, the head.
///
/// One call at a time; the model is shared and never changed.
public final class Adapter: @unchecked Sendable {
  public let model: Model
  let settings: AdapterSettings
  let targets: [AdapterTarget]
  let fullModules: [FullModule]
  let parameters: ParameterSet
  var cascade = CascadeState()
  /// W_{t-1}, clean, of each linear module that differs from the file: what the cascades so
  /// far have merged.
  var masters: [Int: FloatBuffer] = [:]
  let use = ExclusiveUse("adapter")
  let hasTrainer = Atomic<Bool>(false)

  public var head: HeadDescription { settings.head }
  public var matchedModules: [String] { targets.map { model.linears[$0.linear].name } }
  public var trainableParameters: Int { parameters.trainableCount }
  public var parameterNames: [String] { parameters.list.map(\.name) }

  static let headWeight = "classifier.weight"
  static let headBias = "classifier.bias"

  /// Fresh adapters on the modules that the rules choose, A ~ U(−1/√in, 1/√in), B = 0.
  ///
  /// - Throws: `.noMatch`, `.option`, `.outOfMemory`
  public init(model: Model, options: Options = Options()) throws {
    self.model = model
    let settings = try AdapterSettings(options, model: model)
    self.settings = settings
    var builder = ParameterSet.Builder()
    targets = try Self.match(model, settings).map { linear in
      let module = model.linears[linear]
      let limit = min(module.inFeatures, module.outFeatures)
      guard settings.rank <= limit else {
        throw LorascError(
          .option,
          "option r: \(settings.rank) is more than \(module.name) has dimensions (\(limit))",
          subject: "r")
      }
      return AdapterTarget(
        linear: linear, rank: settings.rank, scale: settings.scale(rank: settings.rank),
        a: builder.add(
          module.name + ".lora_A.weight", .factorA, shape: [settings.rank, module.inFeatures]),
        b: builder.add(
          module.name + ".lora_B.weight", .factorB, shape: [module.outFeatures, settings.rank]))
    }
    fullModules = try Self.fullModules(model, settings, targets, &builder)
    parameters = try ParameterSet(builder)
    cascade.rate = try SlowRates(options).rate(cascade: 1, of: nil)
    cascade.rule = try SlowRule(options)
    drawFactors(seed: settings.seed)
    copyFullModules()
  }

  private static func match(_ model: Model, _ settings: AdapterSettings) throws -> [Int] {
    let rules = try TargetRules(targets: settings.targets, exclude: settings.exclude)
    let candidates = model.linears.indices.filter { model.isBackboneLinear($0, settings.head) }
    let matched = candidates.filter {
      rules.matches(model.linears[$0].name, isOutputLayer: model.linears[$0].isOutputLayer)
    }
    let names = candidates.map { model.linears[$0].name }
    let strangers = rules.unmatchedItems(in: names)
    if let stranger = rules.unmatchedExclusions(in: names).first, !settings.allowNoMatch {
      throw LorascError(
        .noMatch, "option exclude_modules: '\(stranger)' matches no linear module of \(model.path)",
        subject: stranger)
    }
    guard settings.allowNoMatch || (!matched.isEmpty && strangers.isEmpty) else {
      let offender = strangers.first ?? settings.targets
      throw LorascError(
        .noMatch, "option target_modules: '\(offender)' matches no linear module of \(model.path)",
        subject: offender)
    }
    return matched
  }

  private static func fullModules(
    _ model: Model, _ settings: AdapterSettings, _ targets: [AdapterTarget],
    _ builder: inout ParameterSet.Builder
  ) throws -> [FullModule] {
    var modules: [FullModule] = []
    for name in settings.modulesToSave where name != "classifier" {
      guard let pooler = model.bert.pooler, settings.head.kind == .classifier,
        name == "pooler" || name == "pooler.dense"
      else {
        throw LorascError(
          .noMatch,
          "option modules_to_save: '\(name)' is no module that can be trained in full "
            + "here (pooler, with head=classifier)", subject: name)
      }
      guard !targets.contains(where: { $0.linear == pooler }) else {
        throw LorascError(
          .option, "option modules_to_save: '\(name)' has an adapter too", subject: name)
      }
      guard !modules.contains(where: { $0.linear == pooler }) else { continue }
      let module = model.linears[pooler]
      modules.append(
        FullModule(
          linear: pooler,
          weight: builder.add(
            module.name + ".weight", .weight, shape: [module.outFeatures, module.inFeatures]),
          bias: builder.add(module.name + ".bias", .bias, shape: [module.outFeatures])))
    }
    let hidden = model.hiddenSize
    modules.append(
      FullModule(
        linear: nil,
        weight: builder.add(headWeight, .weight, shape: [settings.head.labels, hidden]),
        bias: builder.add(headBias, .bias, shape: [settings.head.labels])))
    return modules
  }

  /// Values of a trainable tensor.
  public func values(of name: String) throws -> [Float] {
    try use { Array(parameters.buffer(try parameters.index(of: name))) }
  }

  /// - Throws: `.notFound`, `.shape`, `.nonFinite`
  public func setValues(of name: String, to values: UnsafeBufferPointer<Float>) throws {
    try use {
      let buffer = parameters.buffer(try parameters.index(of: name))
      guard values.count == buffer.count else {
        throw LorascError(
          .shape, "\(name) has \(buffer.count) elements, not \(values.count)", subject: name)
      }
      guard values.allSatisfy(\.isFinite) else {
        throw LorascError(.nonFinite, "the values for \(name) hold NaN or infinity", subject: name)
      }
      _ = buffer.update(fromContentsOf: values)
    }
  }

  public func shape(of name: String) throws -> [Int] {
    parameters.list[try parameters.index(of: name)].shape
  }
}

extension Model {
  /// The pooler takes part only under the head that uses it.
  func isBackboneLinear(_ index: Int, _ head: HeadDescription) -> Bool {
    index != bert.pooler || head.kind == .classifier
  }
}
