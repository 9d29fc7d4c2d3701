import CSupport
import Synchronization

/// A low-rank expert on one matrix: ΔW = s B A, with DoRA also a magnitude for each row.
struct AdapterTarget: Sendable {
  /// Index into the model's matrices.
  let matrix: Int
  /// Of the current cascade.
  var rank: Int
  var scale: Float
  /// Indices into the parameters: A (r, in), B (out, r), m (out).
  let a: Int
  let b: Int
  let magnitude: Int?
}

/// A tensor that is trained in full.
struct FullParameter: Sendable {
  /// What it stands in for: indices into the model's matrices and norms.
  enum Place: Hashable, Sendable {
    case weight(Int)
    case bias(Int)
    case gamma(Int)
    case beta(Int)
    /// Of the projection of images' patches.
    case patchBias
    case head(HeadTensor)

    var isHead: Bool { if case .head = self { true } else { false } }

    /// The backbone's matrix that is trained in full.
    var matrixInFull: Int? { if case .weight(let matrix) = self { matrix } else { nil } }
  }
  let place: Place
  /// Index into the parameters.
  let parameter: Int
}

/// The whole result of fine-tuning one model: merged terms of finished cascades, the current
/// expert, the slow state, the head.
///
/// One call at a time; the model is shared and never changed.
public final class Adapter: @unchecked Sendable {
  public let model: Model
  let settings: AdapterSettings
  private(set) var targets: [AdapterTarget]
  let fullParameters: [FullParameter]
  let parameters: ParameterSet
  var cascade = CascadeState()
  /// W_{t-1}, clean, of each matrix that differs from the file, by its index: what the cascades
  /// so far have merged.
  var masters: [Int: FloatBuffer] = [:]
  /// Of the whole change in every view: W0 + strength (W − W0).
  var strength = 1.0
  let use = ExclusiveUse("adapter")
  var lastMerge = MergeReport()
  let hasTrainer = Atomic<Bool>(false)

  var foreignConfig: JSONObject { settings.foreignConfig }
  public var head: HeadDescription { settings.head }
  // Fixed at the start, so that they may be read while a trainer changes ranks.
  public let matchedModules: [String]
  public let parameterNames: [String]
  /// Of the first cascade.
  public let trainableParameters: Int

  /// Indices of the head's tensors.
  var headParameters: [Int] { fullParameters.filter(\.place.isHead).map(\.parameter) }

  /// Fresh adapters on the modules that the rules choose.
  ///
  /// - Throws: `.noMatch`, `.option`, `.outOfMemory`
  public convenience init(model: Model, options: Options = Options()) throws {
    try self.init(model: model, settings: AdapterSettings(options, model: model))
    try BLASThreads.withSingleThread { try initialize() }
  }

  /// The parameters without their values.
  /// - Parameter check: sees them before any memory is taken for them
  init(
    model: Model, settings: AdapterSettings, check: ([Parameter]) throws -> Void = { _ in }
  ) throws {
    self.model = model
    self.settings = settings
    let layout = try AdapterLayout(model, settings)
    targets = layout.targets
    fullParameters = layout.fullParameters
    let builder = layout.parameters
    try check(builder.list)
    parameters = try ParameterSet(builder)
    matchedModules = targets.map { model.matrices[$0.matrix].name }
    parameterNames = builder.list.map(\.name)
    trainableParameters = builder.list.reduce(0) { $0 + $1.count }
    cascade.rate = try SlowRates(settings.options).rate(cascade: 1, of: nil)
    cascade.rule = try SlowRule(settings.options)
  }

  /// - Throws: `.mismatch` where it was made for another model
  public func require(_ model: Model) throws {
    guard self.model === model else {
      throw LorascError(.mismatch, "the adapter was made for another model", subject: "adapter")
    }
  }

  /// How strongly the whole change counts in every view and merge: W0 + scale (W − W0). The head
  /// and what is trained in full are not scaled.
  public var scale: Double {
    get throws { try use(fromCallbackToo: true) { strength } }
  }

  /// - Throws: `.argument` for NaN and infinity
  public func setScale(_ scale: Double) throws {
    guard scale.isFinite else {
      throw LorascError(.argument, "the scale \(scale) is not finite", subject: "scale")
    }
    try use { strength = scale }
  }

  /// One module with an adapter, and the rule that chose it.
  public struct MatchedModule: Sendable {
    public let module: String
    /// The item of `target_modules` that matched, or the whole of it.
    public let rule: String
    /// Of the current cascade.
    public let rank: Int
    public let scale: Double
    public let inFeatures: Int
    public let outFeatures: Int
  }

  public func matches() throws -> [MatchedModule] {
    let rules = try TargetRules(targets: settings.targets, settings.names)
    return try use(fromCallbackToo: true) {
      targets.map { target in
        let module = model.matrices[target.matrix]
        return MatchedModule(
          module: module.name, rule: rules.rule(for: module.name) ?? settings.targets,
          rank: target.rank, scale: Double(target.scale), inFeatures: module.inFeatures,
          outFeatures: module.outFeatures)
      }
    }
  }

  /// The targets' ranks and scales as cascade `number` has them; factors are zero then where
  /// the rank changes.
  func setRanks(ofCascade number: Int) {
    for position in targets.indices {
      let module = model.matrices[targets[position].matrix]
      let rank = settings.ranks.rank(module.name, cascade: number)
      guard rank != targets[position].rank else { continue }
      targets[position].rank = rank
      targets[position].scale = settings.ranks.scale(module.name, rank: rank)
      parameters.reshape(targets[position].a, [rank, module.inFeatures])
      parameters.reshape(targets[position].b, [module.outFeatures, rank])
    }
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

  /// Where a trainable tensor's values are, for as long as the adapter lives: an optimizer of the
  /// host's may train them in place, between calls.
  public func memory(of name: String) throws -> UnsafeMutablePointer<Float> {
    try use(fromCallbackToo: true) { parameters.pointer(try parameters.index(of: name)) }
  }

  public func shape(of name: String) throws -> [Int] {
    try use(fromCallbackToo: true) { parameters.list[try parameters.index(of: name)].shape }
  }
}
