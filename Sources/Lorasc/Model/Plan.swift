/// Everything a trainer or a prediction needs to run a model on at most `tokenCapacity`
/// tokens: buffers, layers, threads. Made once; running it allocates nothing.
final class Plan {
  let compute: Compute
  let arena: Arena
  /// What activations are held in.
  let type: PackedProducts.ElementType
  let batch: StagedBatch
  /// In the order of the model's matrices and norms.
  let layers: [any MatrixLayer]
  let norms: [Norm]
  let patchProjection: LinearLayer?
  let stack: TransformerStack
  let head: (any OutputLayer)?
  private var packedLayers: [LinearLayer] = []

  struct Settings {
    /// nil: hidden states only
    var head: HeadDescription?
    var tokenCapacity: Int
    /// Tokens of one row that goes on from batch to batch; nil: rows are whole.
    var context: Int?
    /// Of a language head: most tokens that get logits at once; nil: as many as there may be.
    var logitRows: Int?
    /// nil: forward only
    var training: Training?
    /// What products with the backbone's matrices are computed in, with packed copies of these;
    /// nil: float32, and no copies.
    var packs: PackedProducts.ElementType?
    /// Only where the copies take at most a third of the matrices' inputs and outputs.
    var packsLittleOnly = false
    /// Changed matrices are composed where they are used.
    var composes = false
    var threads: Int
    /// Most examples of the contrastive loss in a batch.
    var examples = 0
  }

  /// What the backward is for, and what it makes again.
  struct Training {
    var recompute: Recompute
    /// With an adapter, or trained in full.
    var matrices: Set<Int>
  }

  /// - Parameter arena: one that measures allocates nothing, and its plan must not run.
  init(_ model: Model, _ settings: Settings, _ arena: Arena = Arena()) throws {
    let tokens = settings.tokenCapacity
    compute = try model.compute(threads: settings.threads)
    self.arena = arena
    type = settings.packs ?? .float32
    batch = try StagedBatch(
      tokenCapacity: tokens, limits: model.limits(head: settings.head), arena: arena)
    let modules = try StackModules(
      model.backbone, head: settings.head?.kind, composes: settings.composes, arena)
    layers = modules.matrices
    norms = modules.norms
    patchProjection = modules.patchProjection
    stack = try TransformerStack(
      model.backbone, modules, tokens: tokens, context: settings.context,
      outputs: settings.head.flatMap { model.classifier($0.kind)?.selection.place },
      training: settings.training, type, compute, arena)
    head = try settings.head.flatMap { try Self.head($0, model, modules, settings, arena) }
    let linears = backboneLayers(model)
    if let type = settings.packs { try pack(type, linears, settings) }
    if packedLayers.isEmpty, compute.products == .onednn, Transposition.pays(rows: tokens) {
      let transposition = try Transposition(
        linears.map { ($0.module.rows, $0.module.columns) }, arena)
      for (_, layer) in linears { layer.transposition = transposition }
    }
    if type == .bfloat16, !model.backbone.blocks.isEmpty {
      let widening = try Widening(model.backbone.sizes, tokens: tokens, arena)
      for linear in modules.linears { linear.widening = widening }
    }
  }

  private typealias BackboneLayer = (module: MatrixModule, layer: LinearLayer)

  /// Those that multiply by matrices of the backbone.
  private func backboneLayers(_ model: Model) -> [BackboneLayer] {
    var found: [BackboneLayer] = zip(model.matrices, layers).compactMap { module, layer in
      (layer as? LinearLayer).map { (module, $0) }
    }
    if let output = model.backbone.output, output.isTied, let head = head as? LanguageHead {
      found.append((model.matrices[output.matrix], head.output))
    }
    if case .pixels(let inputs) = model.backbone.inputs, let patchProjection {
      found.append((inputs.projection, patchProjection))
    }
    return found
  }

  /// Gives linear modules packed copies of the backbone's weights.
  private func pack(
    _ type: PackedProducts.ElementType, _ linears: [BackboneLayer], _ settings: Settings
  ) throws {
    // Not by the plan's bytes, which depend on the number of threads.
    let sizes = linears.map(\.module)
    let copies = sizes.reduce(0.0) { $0 + 8 * Double($1.count) }
    let ends = sizes.reduce(0.0) {
      $0 + 4 * Double(settings.tokenCapacity) * Double($1.inFeatures + $1.outFeatures)
    }
    if settings.packsLittleOnly, copies > ends / 3 { return }
    let products = try PackedProducts(
      type, PackedWeight.shapes(of: sizes), lanes: compute.threads, arena)
    for (module, layer) in linears {
      layer.packed = try PackedWeight(module, products, arena)
      packedLayers.append(layer)
    }
  }

  /// Packs the weights that layers have come to see, side by side; else each is packed where it is
  /// first used.
  func packWeights() {
    guard packedLayers.contains(where: \.isPackedLater) else { return }
    compute.forTasks(packedLayers.count) { index, _ in packedLayers[index].packNow() }
  }

  private static func head(
    _ head: HeadDescription, _ model: Model, _ modules: StackModules, _ settings: Settings,
    _ arena: Arena
  ) throws -> (any OutputLayer)? {
    let tokens = settings.tokenCapacity
    if let form = model.classifier(head.kind) {
      return try classifier(form, head, model, modules, tokens, arena)
    }
    if head.kind == .embedding {
      return try ContrastiveHead(
        columns: model.hiddenSize, group: head.rowsOfExample, rows: tokens,
        examples: settings.examples, arena)
    }
    guard let output = model.backbone.output else { return nil }
    let matrix = model.matrices[output.matrix]
    let layer =
      output.isTied
      ? LinearLayer(
        "lm_head", inFeatures: matrix.outFeatures, outFeatures: matrix.inFeatures,
        weight: WeightSource(matrix.weight), bias: nil)
      : modules.linears[output.matrix]
    layer.expansion = modules.expansion
    return try LanguageHead(layer, tokens: settings.logitRows ?? tokens, arena)
  }

  private static func classifier(
    _ form: ClassifierForm, _ head: HeadDescription, _ model: Model, _ modules: StackModules,
    _ tokens: Int, _ arena: Arena
  ) throws -> ClassifierHead {
    let hidden = model.hiddenSize
    let own = model.head.flatMap { $0.description.matches(head) ? $0 : nil }
    func values(_ tensor: HeadTensor, _ count: Int) throws -> UnsafePointer<Float> {
      if let view = own?.tensors[tensor] { return view.pointer }
      return UnsafePointer(try arena.floats(count, "plan.head.\(tensor)"))
    }
    let output = LinearLayer(
      form.output, inFeatures: hidden, outFeatures: head.labels,
      weight: .float32(try values(.weight, head.labels * hidden)),
      bias: form.hasBias ? try values(.bias, head.labels) : nil)
    let dense: LinearLayer? =
      switch form.dense {
      case .pooler: model.backbone.pooler.map { modules.linears[$0] }
      case .own(let name):
        LinearLayer(
          name, inFeatures: hidden, outFeatures: hidden,
          weight: .float32(try values(.denseWeight, hidden * hidden)),
          bias: try values(.denseBias, hidden))
      case nil: nil
      }
    return try ClassifierHead(
      form, labels: head.labels, columns: hidden, output: output, dense: dense, items: tokens,
      arena)
  }
}

extension HeadDescription {
  /// The same modules with the same shapes.
  func matches(_ other: HeadDescription) -> Bool { kind == other.kind && labels == other.labels }
}
