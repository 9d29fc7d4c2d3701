import CSupport

/// What an adapter adds to a layer's own product: X (W − W0)ᵀ, or with a view the whole product.
///
/// A sum of low-rank terms is added as such; noise on the backbone, and changes of full rank
/// (DoRA, persistent noise), cost a product as large as the layer's own.
final class LayerShare {
  private let trainer: Trainer
  private let position: Int
  /// Most rows of a call.
  private let block: Int
  /// (block, r) and, for changes of full rank, (block, out) or (block, in).
  private var projected: FloatBuffer?
  private var whole: FloatBuffer?

  private var adapter: Adapter { trainer.adapter }
  private var module: MatrixModule { adapter.model.matrices[adapter.targets[position].matrix] }
  private var isFullRank: Bool {
    adapter.targets[position].magnitude != nil || adapter.cascade.isFullRank
  }

  init(_ trainer: Trainer, position: Int, block: Int) {
    self.trainer = trainer
    self.position = position
    self.block = block
  }

  // MARK: Training

  /// y += X (W̃ − W0)ᵀ and the expert's part.
  func forward(
    _ linear: LinearLayer, _ x: UnsafePointer<Float>, ldx: Int, _ y: UnsafeMutablePointer<Float>,
    ldy: Int, rows: Int, _ dropout: DropoutPlan, _ compute: Compute
  ) throws {
    if isFullRank {
      let out = linear.outFeatures
      let own = try scratch(&whole, rows * out)
      linear.seeing(linear.weight, bias: nil) {
        linear.forward(x, ldx: ldx, own, ldy: out, rows: rows, dropout: dropout, compute)
      }
      base(linear).multiply(
        x, ldx: ldx, own, ldy: out, rows: rows, alpha: -1, beta: 1, compute)
      return Self.add(own, out, to: y, ldy, rows, compute)
    }
    let (weight, terms) = try change()
    linear.seeing(weight, bias: nil) {
      linear.forward(
        x, ldx: ldx, y, ldy: ldy, rows: rows, accumulate: true, dropout: dropout, compute)
    }
    try add(terms, x, ldx: ldx, y, ldy: ldy, rows: rows, compute)
  }

  /// The gradients of the factors; dx += G (W̃ − W0) and the expert's part.
  func backward(
    _ linear: LinearLayer, _ dy: UnsafePointer<Float>, lddy: Int, x: UnsafePointer<Float>,
    ldx: Int, dx: UnsafeMutablePointer<Float>?, lddx: Int, rows: Int, _ dropout: DropoutPlan,
    _ compute: Compute
  ) throws {
    if isFullRank {
      let into = linear.inFeatures
      let own = try dx.map { _ in try scratch(&whole, rows * into) }
      linear.remember(x, ldx: ldx, rows: rows, dropout: dropout, compute)
      linear.backward(
        dy, lddy: lddy, x: x, ldx: ldx, dx: own, lddx: into, rows: rows, dropout: dropout, compute)
      guard let own, let dx else { return }
      base(linear).multiplyTransposed(
        dy, ldg: lddy, own, lddx: into, rows: rows, alpha: -1, beta: 1, compute)
      return Self.add(own, into, to: dx, lddx, rows, compute)
    }
    let (weight, terms) = try change()
    linear.seeing(weight, bias: nil) {
      linear.remember(x, ldx: ldx, rows: rows, dropout: dropout, compute)
      linear.backward(
        dy, lddy: lddy, x: x, ldx: ldx, dx: dx, lddx: lddx, accumulate: true, rows: rows,
        dropout: dropout, compute)
    }
    guard let dx else { return }
    for term in terms {
      let p = try scratch(&projected, rows * term.rank)
      withExtendedLifetime(term.owner) {
        compute.gemm(
          rows, term.rank, linear.outFeatures, a: dy, lda: lddy, b: term.b, ldb: term.rank, c: p,
          ldc: term.rank)
        compute.gemm(
          rows, linear.inFeatures, term.rank, a: p, lda: term.rank, b: term.a,
          ldb: linear.inFeatures, c: dx, ldc: lddx, alpha: term.weight, beta: 1)
      }
    }
  }

  /// W̃ − W0 as a weight and low-rank terms, of a change that has no full rank.
  private func change() throws -> (WeightSource, [WeightedFactors]) {
    let matrix = adapter.targets[position].matrix
    let terms = adapter.mergedTerms(matrix)
    guard let noise = trainer.noise(on: matrix) else { return (.zero, terms) }
    return (
      .composed(ComposedMatrix(module, terms, noise: noise, onZero: true, trainer.model.products)),
      []
    )
  }

  private func base(_ linear: LinearLayer) -> LayerWeight {
    LayerWeight(
      inFeatures: linear.inFeatures, outFeatures: linear.outFeatures,
      source: WeightSource(module.weight), expansion: linear.expansion)
  }

  // MARK: Views

  /// A view of a layer's weight: a product and low-rank terms beside it.
  struct Viewed {
    fileprivate let share: LayerShare
    fileprivate let source: WeightSource
    fileprivate let terms: [WeightedFactors]
    /// Keeps the source's memory.
    fileprivate let owner: FloatBuffer?

    func forward(
      _ linear: LinearLayer, _ x: UnsafePointer<Float>, ldx: Int,
      _ y: UnsafeMutablePointer<Float>, ldy: Int, rows: Int, isShare: Bool, _ compute: Compute
    ) throws {
      linear.seeing(source, bias: isShare ? nil : linear.bias, expert: false) {
        linear.forward(
          x, ldx: ldx, y, ldy: ldy, rows: rows, accumulate: isShare, dropout: .none, compute)
      }
      try share.add(terms, x, ldx: ldx, y, ldy: ldy, rows: rows, compute)
      withExtendedLifetime(owner) {}
    }
  }

  /// The merged or fast weight, or its change alone.
  func weight(of view: View, isShare: Bool) throws -> Viewed {
    let matrix = adapter.targets[position].matrix
    guard isFullRank else {
      let merged = adapter.mergedTerms(matrix)
      let pending = try adapter.addends(position, view)
      if isShare || adapter.strength != 1 {
        return Viewed(
          share: self, source: isShare ? .zero : WeightSource(module.weight),
          terms: (merged + pending).map { $0.scaled(by: adapter.strength) }, owner: nil)
      }
      return Viewed(share: self, source: adapter.clean(matrix), terms: pending, owner: nil)
    }
    let dense = try FloatBuffer(count: module.count, what: module.name)
    try adapter.weight(position, view, into: dense.pointer, trainer.plan.compute)
    if isShare {
      try module.weight.withFloats {
        trainer.plan.compute.kernels.axpby(-1, $0, 1, dense.pointer, module.count)
      }
    }
    return Viewed(share: self, source: .float32(dense.pointer), terms: [], owner: dense)
  }

  // MARK: Sums

  /// y += Σ weight · (X Aᵀ) Bᵀ
  private func add(
    _ terms: [WeightedFactors], _ x: UnsafePointer<Float>, ldx: Int,
    _ y: UnsafeMutablePointer<Float>, ldy: Int, rows: Int, _ compute: Compute
  ) throws {
    let module = module
    for term in terms {
      let p = try scratch(&projected, rows * term.rank)
      withExtendedLifetime(term.owner) {
        compute.gemm(
          rows, term.rank, module.inFeatures, a: x, lda: ldx, b: term.a, ldb: module.inFeatures,
          transposeB: true, c: p, ldc: term.rank)
        compute.gemm(
          rows, module.outFeatures, term.rank, a: p, lda: term.rank, b: term.b, ldb: term.rank,
          transposeB: true, c: y, ldc: ldy, alpha: term.weight, beta: 1)
      }
    }
  }

  /// y += x, both (rows, columns)
  private static func add(
    _ x: UnsafePointer<Float>, _ columns: Int, to y: UnsafeMutablePointer<Float>, _ ldy: Int,
    _ rows: Int, _ compute: Compute
  ) {
    compute.forRows(rows, cost: 2 * columns) { start, end in
      for row in start..<end {
        compute.kernels.axpby(1, x + row * columns, 1, y + row * ldy, columns)
      }
    }
  }

  private func scratch(_ buffer: inout FloatBuffer?, _ count: Int) throws
    -> UnsafeMutablePointer<Float>
  {
    if let buffer, buffer.count >= count { return buffer.pointer }
    let made = try FloatBuffer(count: count, what: "a layer's scratch memory")
    buffer = made
    return made.pointer
  }
}
