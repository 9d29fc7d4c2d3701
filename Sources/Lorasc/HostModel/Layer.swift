import CSupport

/// One adapted matrix that the host runs on its own activations, in its own loop.
///
/// ```swift
/// let model = try Model(host: matrices)
/// let adapter = try Adapter(model: model, options: options)
/// let trainer = try Trainer(model: model, adapter: adapter, options: options)
/// let layer = try Layer(trainer, module: "fc1")
/// try layer.forward(x, into: y)
/// try layer.backward(x, gradient: dy, into: dx)   // adds to the trainer's gradients
/// try trainer.apply()
/// ```
///
/// Nothing is kept between a forward and its backward: the host hands X in again, and dropout's
/// mask comes from the call's key. So a layer may run any number of times before a backward, and
/// stand in several places. One call of a trainer's layers at a time.
public final class Layer: @unchecked Sendable {
  public let trainer: Trainer
  public let module: String
  public let inFeatures: Int
  public let outFeatures: Int
  private let matrix: Int
  /// Index into the adapter's targets.
  private let position: Int
  private let linear: LinearLayer
  /// Rows that one pass takes.
  private let block: Int
  private let share: LayerShare

  /// - Throws: `.notFound` where the module has no adapter, `.unsupported` for an embedding,
  ///   `.outOfMemory`
  public init(_ trainer: Trainer, module: String) throws {
    let adapter = trainer.adapter
    let model = adapter.model
    guard
      let position = adapter.targets.firstIndex(where: { model.matrices[$0.matrix].name == module })
    else {
      throw LorascError(.notFound, "\(module) is no module with an adapter", subject: module)
    }
    matrix = adapter.targets[position].matrix
    guard let linear = trainer.plan.layers[matrix] as? LinearLayer else {
      throw LorascError(.unsupported, "\(module) is no linear module", subject: module)
    }
    // A share's noise is a matrix of its own.
    if linear.expansion == nil {
      linear.expansion = try Expansion([model.matrices[matrix]], trainer.plan.arena)
    }
    self.trainer = trainer
    self.module = module
    self.position = position
    self.linear = linear
    inFeatures = linear.inFeatures
    outFeatures = linear.outFeatures
    block = trainer.settings.maxBatchTokens
    share = LayerShare(trainer, position: position, block: block)
  }

  /// Which weights a call sees.
  public enum Weights: Sendable {
    /// As training has them: noisy, with the current expert in full.
    case training
    /// As a merge would write them; see `View`.
    case view(View)
  }

  /// What a call computes.
  public struct Call: Sendable {
    public var weights = Weights.training
    /// Only what the adapter changes, added to Y or dX: X (W − W0)ᵀ, where the host has its own
    /// product with W0 there already.
    public var isShare = false
    /// Tells the dropout masks of calls apart; a backward needs its forward's.
    public var key: UInt64 = 0

    public init(weights: Weights = .training, isShare: Bool = false, key: UInt64 = 0) {
      self.weights = weights
      self.isShare = isShare
      self.key = key
    }
  }

  // MARK: Forward

  /// Y = X Wᵀ + b, X (…, in), Y (…, out); or as `Call.isShare` says.
  ///
  /// - Throws: `.shape`, `.busy`, `.state` after the weights went into the host's memory,
  ///   `.option` where the run's length is needed and unknown, `.outOfMemory`
  public func forward(_ x: Activations, into y: Activations, _ call: Call = Call()) throws {
    try checkRows(x, "x", inFeatures, y, "y", outFeatures)
    try trainer.onLayers {
      let compute = trainer.plan.compute
      switch call.weights {
      case .training:
        try trainer.showTraining()
        try forBlocks(call, x, y) { block in
          if call.isShare {
            try share.forward(
              linear, block.x, ldx: x.tokenStride, block.y, ldy: y.tokenStride, rows: block.rows,
              block.dropout, compute)
          } else {
            linear.forward(
              block.x, ldx: x.tokenStride, block.y, ldy: y.tokenStride, rows: block.rows,
              dropout: block.dropout, compute)
          }
        }
      case .view(let view):
        let weight = try share.weight(of: view, isShare: call.isShare)
        try forBlocks(call, x, y) { block in
          try weight.forward(
            linear, block.x, ldx: x.tokenStride, block.y, ldy: y.tokenStride, rows: block.rows,
            isShare: call.isShare, compute)
        }
      }
    }
  }

  /// Writes W̃ (out, in), the weight beside which a training call sees the current expert: W_{t-1}
  /// with this step's noise.
  ///
  /// - Throws: as `forward`
  public func weight(into out: UnsafeMutablePointer<Float>) throws {
    try trainer.onLayers {
      try trainer.showTraining()
      linear.weight.copy(inFeatures * outFeatures, to: out)
    }
  }

  // MARK: Backward

  /// Where a backward adds the gradients of an expert, instead of to the trainer's.
  public struct Gradients {
    /// (r, in), (out, r), DoRA's (out)
    public var a: UnsafeMutablePointer<Float>?
    public var b: UnsafeMutablePointer<Float>?
    public var magnitude: UnsafeMutablePointer<Float>?

    public init(
      a: UnsafeMutablePointer<Float>? = nil, b: UnsafeMutablePointer<Float>? = nil,
      magnitude: UnsafeMutablePointer<Float>? = nil
    ) {
      self.a = a
      self.b = b
      self.magnitude = magnitude
    }
  }

  /// dX = G W̃ + …, G = d loss / d Y, and the gradients of A, B and m, which are added up; with the
  /// training weights. X and the key are the forward's.
  ///
  /// - Parameters:
  ///   - dx: nil where nothing below is trained
  ///   - gradients: nil: the trainer's own, for `apply`
  /// - Throws: as `forward`; `.argument` for gradients that the expert has not
  public func backward(
    _ x: Activations, gradient: Activations, into dx: Activations?, _ call: Call = Call(),
    gradients: Gradients? = nil
  ) throws {
    try checkRows(x, "x", inFeatures, gradient, "dy", outFeatures)
    if let dx { try checkRows(x, "x", inFeatures, dx, "dx", inFeatures) }
    guard case .training = call.weights else {
      throw LorascError(
        .argument, "a backward is of the training weights only", subject: "weights")
    }
    try trainer.onLayers {
      try trainer.showTraining()
      let own = linear.expert
      defer { linear.expert = own }
      if let gradients { linear.expert = try own?.adding(to: gradients, module) }
      let compute = trainer.plan.compute
      let lddx = dx?.tokenStride ?? 0
      try forBlocks(call, x, gradient, dx) { block in
        if call.isShare {
          try share.backward(
            linear, block.y, lddy: gradient.tokenStride, x: block.x, ldx: x.tokenStride,
            dx: block.dx, lddx: lddx, rows: block.rows, block.dropout, compute)
        } else {
          linear.remember(
            block.x, ldx: x.tokenStride, rows: block.rows, dropout: block.dropout, compute)
          linear.backward(
            block.y, lddy: gradient.tokenStride, x: block.x, ldx: x.tokenStride, dx: block.dx,
            lddx: lddx, rows: block.rows, dropout: block.dropout, compute)
        }
      }
      if gradients == nil { trainer.countLayerGradients(rows: x.rows) }
    }
  }

  // MARK: Rows

  private func checkRows(
    _ x: Activations, _ xName: String, _ xFeatures: Int, _ y: Activations, _ yName: String,
    _ yFeatures: Int
  ) throws {
    try x.check(xName, features: xFeatures)
    try y.check(yName, features: yFeatures)
    guard x.batch == y.batch, x.tokens == y.tokens else {
      throw LorascError(
        .shape,
        "\(xName) has \(x.batch) x \(x.tokens) rows, \(yName) \(y.batch) x \(y.tokens)",
        subject: yName)
    }
  }

  /// Rows of a call that the plan's buffers hold.
  private struct Block {
    let x: UnsafeMutablePointer<Float>
    /// Y or its gradient
    let y: UnsafeMutablePointer<Float>
    let dx: UnsafeMutablePointer<Float>?
    let rows: Int
    let dropout: DropoutPlan
  }

  /// body(block) over all rows.
  private func forBlocks(
    _ call: Call, _ x: Activations, _ y: Activations, _ dx: Activations? = nil,
    _ body: (Block) throws -> Void
  ) throws {
    let isWhole = x.isOneRun && y.isOneRun && dx?.isOneRun ?? true
    let dropout = trainer.settings.dropout(
      key: call.key, ofAdapter: trainer.adapter.settings.dropout)
    var number = 0
    func rows(_ all: Activations, _ run: Int, from start: Int) -> UnsafeMutablePointer<Float> {
      all.run(run, wholly: isWhole).values + start * all.tokenStride
    }
    for run in 0..<(isWhole ? 1 : x.batch) {
      let count = x.run(run, wholly: isWhole).rows
      for start in stride(from: 0, to: count, by: block) {
        try body(
          Block(
            x: rows(x, run, from: start), y: rows(y, run, from: start),
            dx: dx.map { rows($0, run, from: start) }, rows: min(block, count - start),
            dropout: dropout.part(number)))
        number += 1
      }
    }
  }
}

extension Expert {
  /// The same expert whose gradients go elsewhere.
  /// - Throws: `.argument` where something trained has no place for its gradient
  fileprivate func adding(to gradients: Layer.Gradients, _ module: String) throws -> Expert {
    func missing(_ what: String) -> LorascError {
      LorascError(
        .argument, "\(module): there is no place for the gradient of \(what)", subject: what)
    }
    guard gradientA == nil || gradients.a != nil else { throw missing("A") }
    guard gradientB == nil || gradients.b != nil else { throw missing("B") }
    var direction = dora
    if let dora {
      guard let magnitude = gradients.magnitude else { throw missing("the magnitude") }
      direction = DoRA(
        magnitude: dora.magnitude, gradientMagnitude: magnitude, isExact: dora.isExact,
        buffers: dora.buffers)
    }
    return Expert(
      rank: rank, scale: scale, a: a, b: b, gradientA: gradientA == nil ? nil : gradients.a,
      gradientB: gradientB == nil ? nil : gradients.b, projected: projected, scratch: scratch,
      dora: direction)
  }
}
