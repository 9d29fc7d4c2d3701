/// Y = X Wᵀ + b with X (rows, in), Y (rows, out), and one of
///
/// LoRA: Y += s (X̃ Aᵀ) Bᵀ, X̃ = dropout(X);
/// DoRA: Y = X Wᵀ + (k − 1) ⊙ (X̃ Wᵀ) + k ⊙ s (X̃ Aᵀ) Bᵀ + b (see `DoRA`).
final class LinearLayer: MatrixLayer {
  let name: String
  let inFeatures: Int
  let outFeatures: Int
  /// (out, in)
  private var product: LayerWeight
  var bias: UnsafePointer<Float>?
  var expert: Expert?
  var expertActive = true
  /// (out, in); (out)
  var gradientWeight: UnsafeMutablePointer<Float>? {
    // A weight that every step changes isn't worth packing.
    didSet { if gradientWeight != nil { product.packed = nil } }
  }
  var gradientBias: UnsafeMutablePointer<Float>?

  init(_ module: MatrixModule) {
    name = module.name
    inFeatures = module.inFeatures
    outFeatures = module.outFeatures
    product = LayerWeight(
      inFeatures: inFeatures, outFeatures: outFeatures, source: WeightSource(module.weight))
    bias = module.bias?.pointer
  }

  init(
    _ name: String, inFeatures: Int, outFeatures: Int, weight: WeightSource,
    bias: UnsafePointer<Float>?
  ) {
    self.name = name
    self.inFeatures = inFeatures
    self.outFeatures = outFeatures
    product = LayerWeight(inFeatures: inFeatures, outFeatures: outFeatures, source: weight)
    self.bias = bias
  }

  var weight: WeightSource {
    get { product.source }
    set { product.source = newValue }
  }

  /// Where a weight that isn't held as float32 is expanded.
  var expansion: Expansion? {
    get { product.expansion }
    set { product.expansion = newValue }
  }

  /// Copies for faster products.
  var packed: PackedWeight? {
    get { product.packed }
    set { product.packed = newValue }
  }

  /// There are copies that don't hold the weight yet, and can.
  var isPackedLater: Bool { product.packed?.isPackedLater(product.source) == true }

  func packNow() { product.packed?.packNow(product.source) }

  /// Where values in bfloat16 become float32.
  var widening: Widening? {
    get { product.widening }
    set { product.widening = newValue }
  }

  /// For products with many rows where there are no copies.
  var transposition: Transposition? {
    get { product.transposition }
    set { product.transposition = newValue }
  }

  var isTrained: Bool { expert != nil || gradientWeight != nil || gradientBias != nil }

  /// The backward reads X.
  var usesInput: Bool { expert != nil || gradientWeight != nil }

  // MARK: Forward

  /// - Parameters:
  ///   - x: (rows, in), rows `ldx` apart
  ///   - y: (rows, out), rows `ldy` apart; bfloat16 is set only
  ///   - accumulate: add to y instead of setting it; not with DoRA
  ///   - then: what follows on complete rows of y
  func forward(
    _ x: Values, ldx: Int, _ y: Values, ldy: Int, rows: Int, accumulate: Bool = false,
    dropout: DropoutPlan, _ compute: Compute, then: RowsBody = { _, _ in }
  ) {
    guard expertActive, let expert else {
      return product.multiply(
        x, ldx: ldx, y, ldy: ldy, rows: rows, bias: accumulate ? nil : bias, adds: accumulate,
        compute, then: then)
    }
    let (input, ldi, isDropped) = dropped(x, ldx: ldx, rows: rows, expert, dropout, compute)
    expert.dora?.measure(product, expert, compute)
    // Behind a dropout the product's X isn't the expert's.
    if isDropped { project(input, ldi, expert, rows: rows, compute) }
    if isDropped, let dora = expert.dora {
      return forward(
        dora, expert, x, ldx, input, ldi, y, ldy, rows, compute, then: then)
    }
    let a = isDropped ? nil : expert.transposedA(inFeatures, rows: rows, compute)
    let b = expert.transposedB(outFeatures, rows: rows, compute)
    // DoRA sets its bias behind the weighing.
    product.multiply(
      x, ldx: ldx, y, ldy: ldy, rows: rows, bias: accumulate || expert.dora != nil ? nil : bias,
      adds: accumulate, compute,
      adding: { tile in
        a?.multiply(tile, to: expert.projected, compute)
        guard let dora = expert.dora else { return b.add(expert.projected, to: tile, compute) }
        b.addUnrounded(expert.projected, to: tile, compute)
        dora.scale(
          tile.values, ldy: tile.ld, first: tile.rows.lowerBound, rows: tile.rows.count,
          bias: bias, outFeatures: outFeatures, compute)
        return false
      }, then: then)
  }

  /// DoRA behind a dropout.
  private func forward(
    _ dora: DoRA, _ expert: Expert, _ x: Values, _ ldx: Int, _ input: Values, _ ldi: Int,
    _ y: Values, _ ldy: Int, _ rows: Int, _ compute: Compute, then: RowsBody
  ) {
    product.multiply(
      input, ldx: ldi, Values(dora.directed), ldy: outFeatures, rows: rows, compute)
    let b = expert.transposedB(outFeatures, rows: rows, compute)
    product.multiply(
      x, ldx: ldx, y, ldy: ldy, rows: rows, bias: bias, adds: false, compute,
      adding: { tile in
        let (rows, y, ldy) = (tile.rows, tile.values, tile.ld)
        let directed = dora.directed + rows.lowerBound * outFeatures
        for row in 0..<rows.count {
          compute.kernels.axpby(-1, directed + row * outFeatures, 1, y + row * ldy, outFeatures)
        }
        b.addUnrounded(
          expert.projected,
          to: TileSums(rows: rows, x: tile.x, ldx: tile.ldx, values: directed, ld: outFeatures),
          compute)
        compute.kernels.add_scaled_columns(
          dora.factors, directed, y, rows.count, outFeatures, outFeatures, ldy)
        return false
      }, then: then)
  }

  /// The expert's input: x itself, or in scratch memory x after this module's dropout, which
  /// forward and backward make alike.
  private func dropped(
    _ x: Values, ldx: Int, rows: Int, _ expert: Expert, _ dropout: DropoutPlan, _ compute: Compute
  ) -> (Values, ld: Int, isDropped: Bool) {
    guard let site = dropout.expert(name), let input = expert.scratch.input else {
      return (x, ldx, false)
    }
    let inFeatures = inFeatures
    let from = product.floats(x, ldx, rows: rows, .input, compute)
    compute.forRows(rows, cost: 4 * inFeatures) { start, end in
      for row in start..<end {
        site.applyRow(
          from.values + from.ld * row, input + inFeatures * row, row, inFeatures, compute)
      }
    }
    return (Values(input), inFeatures, true)
  }

  /// What a forward keeps for its backward, from its input: X̃ Aᵀ, with DoRA X̃ V'ᵀ too.
  func remember(
    _ x: UnsafePointer<Float>, ldx: Int, rows: Int, dropout: DropoutPlan, _ compute: Compute
  ) {
    guard expertActive, let expert else { return }
    let (input, ldi, _) = dropped(
      Values(reading: x), ldx: ldx, rows: rows, expert, dropout, compute)
    project(input, ldi, expert, rows: rows, compute)
    guard let dora = expert.dora else { return }
    dora.measure(product, expert, compute)
    let b = expert.transposedB(outFeatures, rows: rows, compute)
    product.multiply(
      input, ldx: ldi, Values(dora.directed), ldy: outFeatures, rows: rows, bias: nil, adds: false,
      compute,
      adding: { b.add(expert.projected, to: $0, compute) },
      then: { _, _ in })
  }

  /// projected = X̃ Aᵀ
  private func project(
    _ input: Values, _ ldi: Int, _ expert: Expert, rows: Int, _ compute: Compute
  ) {
    expert.transposedA(inFeatures, rows: rows, compute).multiplyAll(
      input, ldx: ldi, rows: rows, expert.projected, compute)
  }

  /// Runs `body` with another weight and bias, and maybe without the expert.
  func seeing<Result>(
    _ weight: WeightSource, bias: UnsafePointer<Float>?, expert isActive: Bool = true,
    _ body: () throws -> Result
  ) rethrows -> Result {
    let before = (self.weight, self.bias, expertActive)
    (self.weight, self.bias, expertActive) = (weight, bias, isActive)
    defer { (self.weight, self.bias, expertActive) = before }
    return try body()
  }

  // MARK: Backward

  /// With G = dL/dY, H = k ⊙ G (LoRA: k = 1), M the dropout's mask over 1 − p:
  /// dB += s Hᵀ(X̃ Aᵀ), dA += s (H B)ᵀ X̃,
  /// dX = G W + M ⊙ (((k − 1) ⊙ G) W + s (H B) A), DoRA: dm as in `DoRA`;
  /// trained in full: dW += Gᵀ X, db += column sums of G.
  ///
  /// - Parameters:
  ///   - dx: (rows, in), or nil where nothing below is trained
  ///   - accumulate: add to dx instead of setting it
  ///   - then: what follows on complete rows of dx
  func backward(
    _ dy: Values, lddy: Int, x: Values, ldx: Int, dx: Values?, lddx: Int, accumulate: Bool = false,
    rows: Int, dropout: DropoutPlan, _ compute: Compute, then: RowsBody = { _, _ in }
  ) {
    if gradientBias != nil || gradientWeight != nil {
      addFullGradients(dy, lddy, x, ldx, rows: rows, compute)
    }
    guard expertActive, let expert else {
      guard let dx else { return }
      return product.multiplyTransposed(
        dy, ldg: lddy, dx, lddx: lddx, rows: rows, adds: accumulate, compute, then: then)
    }
    let (input, ldi, isDropped) = dropped(x, ldx: ldx, rows: rows, expert, dropout, compute)
    let weighed = expert.scratch.weighed.flatMap { expert.dora?.weighed($0) }
    let b = expert.skinnyB(outFeatures, rows: rows, compute)
    guard let dx, !isDropped else {
      let h = scaled(dy, lddy, weighed, rows: rows, compute)
      b.multiplyAll(h.values, ldx: h.ld, rows: rows, expert.scratch.projected, compute)
      addFactorGradients(expert, dy, lddy, input, ldi, weighed, rows: rows, compute)
      guard let dx else { return }
      return addDropped(
        expert, dy, lddy, h, dx, lddx, accumulate: accumulate, rows, dropout, compute, then: then)
    }
    // dX hasn't X's memory: in a plan only inputs of frozen modules share it with gradients.
    let a = expert.wideA(inFeatures, rows: rows, compute)
    product.multiplyTransposed(
      dy, ldg: lddy, dx, lddx: lddx, rows: rows, adds: accumulate, weighed: weighed, compute,
      adding: { tile in
        b.multiply(tile, to: expert.scratch.projected, compute)
        return a.add(expert.scratch.projected, to: tile, compute)
      }, then: then)
    addFactorGradients(expert, dy, lddy, input, ldi, weighed, rows: rows, compute)
  }

  /// dW and db, from values as float32.
  private func addFullGradients(
    _ dy: Values, _ lddy: Int, _ x: Values, _ ldx: Int, rows: Int, _ compute: Compute
  ) {
    let g = product.floats(dy, lddy, rows: rows, .output, compute)
    if let gradientBias {
      compute.kernels.column_sums(g.values, rows, outFeatures, g.ld, gradientBias)
    }
    guard let gradientWeight else { return }
    let from = product.floats(x, ldx, rows: rows, .input, compute)
    compute.gemm(
      outFeatures, inFeatures, rows, a: g.values, lda: g.ld, transposeA: true, b: from.values,
      ldb: from.ld, c: gradientWeight, ldc: inFeatures, beta: 1)
  }

  /// H whole
  private func scaled(
    _ dy: Values, _ lddy: Int, _ weighed: WeighedInput?, rows: Int, _ compute: Compute
  ) -> (values: Values, ld: Int) {
    guard let weighed else { return (dy, lddy) }
    let g = product.floats(dy, lddy, rows: rows, .output, compute)
    let h = weighed.whole(g.values, g.ld, rows: rows, outFeatures, compute)
    return (Values(reading: h.values), h.ld)
  }

  /// dx with a dropout before the expert, from H and what else the backward left in the scratch
  /// memory; both are used up.
  private func addDropped(
    _ expert: Expert, _ dy: Values, _ lddy: Int, _ h: (values: Values, ld: Int), _ dx: Values,
    _ lddx: Int, accumulate: Bool, _ rows: Int, _ dropout: DropoutPlan, _ compute: Compute,
    then: RowsBody
  ) {
    guard let masked = expert.scratch.input else { return }
    let to = product.floats(of: dx, lddx, .input)
    product.multiplyTransposed(
      dy, ldg: lddy, Values(to.values), lddx: to.ld, rows: rows, adds: accumulate, compute)
    // X̃ is used up: its memory takes what goes through the mask.
    compute.gemm(
      rows, inFeatures, expert.rank, a: expert.scratch.projected, lda: expert.rank, b: expert.a,
      ldb: inFeatures, c: masked, ldc: inFeatures, alpha: expert.scale)
    if expert.dora != nil, let scaled = h.values.floats {
      let g = product.floats(dy, lddy, rows: rows, .output, compute)
      for row in 0..<rows {
        compute.kernels.axpby(-1, g.values + row * g.ld, 1, scaled + row * h.ld, outFeatures)
      }
      product.multiplyTransposed(
        scaled, ldg: h.ld, masked, lddx: inFeatures, rows: rows, beta: 1, compute)
    }
    addMasked(masked, to.values, to.ld, rows: rows, dropout, compute)
    compute.forRanges(rows, cost: 8 * inFeatures) { start, end, lane in
      product.round(
        to.values + start * to.ld, dx + start * lddx, lddx, rows: end - start, .input, compute)
      then(start..<end, lane)
    }
  }

  /// dB and dA, from X̃ Aᵀ and H B; with DoRA dm and the parts that come through its norm, too.
  private func addFactorGradients(
    _ expert: Expert, _ dy: Values, _ lddy: Int, _ input: Values, _ ldi: Int,
    _ weighed: WeighedInput?, rows: Int, _ compute: Compute
  ) {
    let rank = expert.rank
    if let gradientB = expert.gradientB {
      let transposed = expert.scratch.transposedB
      compute.sum(
        rows, rank, outFeatures, expert.projected, rounded: expert.scratch.wide?.projected, dy,
        ldx: lddy, transposed, alpha: expert.scale, beta: 0, parts: expert.scratch.parts)
      let (outFeatures, factors) = (outFeatures, expert.dora?.factors)
      compute.forRows(outFeatures, cost: 10 * rank) { start, end in
        for row in start..<end {
          // Hᵀ P = k ⊙ (Gᵀ P)
          let factor = factors?[row] ?? 1
          for k in 0..<rank {
            gradientB[row * rank + k] += factor * transposed[k * outFeatures + row]
          }
        }
      }
    }
    if let gradientA = expert.gradientA {
      compute.sum(
        rows, rank, inFeatures, expert.scratch.projected, rounded: expert.scratch.wide?.projected,
        input, ldx: ldi, gradientA, alpha: expert.scale, beta: 1, parts: expert.scratch.parts)
    }
    guard let dora = expert.dora, let weighed else { return }
    dora.addMagnitudeGradient(weighed, rows: rows, outFeatures: outFeatures, compute)
    if dora.isExact { dora.addNormGradients(product, expert, compute) }
  }

  /// dx += M ⊙ masked; masked is used up.
  private func addMasked(
    _ masked: UnsafeMutablePointer<Float>, _ dx: UnsafeMutablePointer<Float>, _ lddx: Int,
    rows: Int, _ dropout: DropoutPlan, _ compute: Compute
  ) {
    guard let site = dropout.expert(name) else { return }
    let inFeatures = inFeatures
    let axpby = compute.kernels.axpby
    compute.forRows(rows, cost: 5 * inFeatures) { start, end in
      for row in start..<end {
        let part = masked + row * inFeatures
        site.applyRow(part, part, row, inFeatures, compute)
        axpby(1, part, 1, dx + row * lddx, inFeatures)
      }
    }
  }
}

// MARK: Values that are float32 for sure

extension LinearLayer {
  func forward(
    _ x: UnsafePointer<Float>, ldx: Int, _ y: UnsafeMutablePointer<Float>, ldy: Int, rows: Int,
    accumulate: Bool = false, dropout: DropoutPlan, _ compute: Compute,
    then: RowsBody = { _, _ in }
  ) {
    forward(
      Values(reading: x), ldx: ldx, Values(y), ldy: ldy, rows: rows, accumulate: accumulate,
      dropout: dropout, compute, then: then)
  }

  func backward(
    _ dy: UnsafePointer<Float>, lddy: Int, x: UnsafePointer<Float>, ldx: Int,
    dx: UnsafeMutablePointer<Float>?, lddx: Int, accumulate: Bool = false, rows: Int,
    dropout: DropoutPlan, _ compute: Compute
  ) {
    backward(
      Values(reading: dy), lddy: lddy, x: Values(reading: x), ldx: ldx, dx: dx.map { Values($0) },
      lddx: lddx, accumulate: accumulate, rows: rows, dropout: dropout, compute)
  }
}
