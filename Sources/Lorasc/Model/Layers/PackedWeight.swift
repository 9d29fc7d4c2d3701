/// A layer's weight W (out, in), packed for its forward, X Wᵀ, and for its backward, G W: copies
/// that are made again where the layer has come to see another weight.
final class PackedWeight {
  private struct Copy {
    let matrix: any PackedOperand
    var isCurrent = false
    var holdsOriginal = false
  }

  private let inFeatures: Int
  private let outFeatures: Int
  private let type: PackedProducts.ElementType
  private var forward: Copy
  private var backward: Copy
  /// The backbone's own matrix, which never changes.
  private let stored: StoredMatrix
  private let original: UnsafeRawPointer?

  static func shapes(of modules: [MatrixModule]) -> Set<PackedProducts.Shape> {
    Set(
      modules.flatMap { module in
        let forward = PackedProducts.Shape(inner: module.columns, columns: module.rows)
        let backward = PackedProducts.Shape(inner: module.rows, columns: module.columns)
        guard PackedBlocks.cuts(module.rows) else { return [forward, backward] }
        return PackedBlocks.shapes(of: forward, cut: .columns)
          + PackedBlocks.shapes(of: backward, cut: .inner)
      })
  }

  /// - Returns: nil where there are no such products
  init?(_ module: MatrixModule, _ products: PackedProducts, _ arena: Arena) throws {
    let (inFeatures, outFeatures) = (module.columns, module.rows)
    func copy(_ inner: Int, _ columns: Int, cut side: PackedBlocks.Side) throws -> Copy? {
      let shape = PackedProducts.Shape(inner: inner, columns: columns)
      let what = "plan.packed." + module.name
      let matrix: (any PackedOperand)? =
        PackedBlocks.cuts(outFeatures)
        ? try PackedBlocks(products, shape, cut: side, what, arena)
        : try products.matrix(shape, what, arena)
      return matrix.map { Copy(matrix: $0) }
    }
    guard let forward = try copy(inFeatures, outFeatures, cut: .columns),
      let backward = try copy(outFeatures, inFeatures, cut: .inner)
    else { return nil }
    (self.inFeatures, self.outFeatures) = (inFeatures, outFeatures)
    (self.forward, self.backward) = (forward, backward)
    type = products.type
    stored = module.weight
    original = WeightSource(module.weight).identity
  }

  /// The layer sees another weight from now on, or other values in the same memory.
  func changed(to source: WeightSource) {
    let isOriginal = isOriginal(source)
    forward.isCurrent = isOriginal && forward.holdsOriginal
    backward.isCurrent = isOriginal && backward.holdsOriginal
  }

  func isPackedLater(_ source: WeightSource) -> Bool {
    !(forward.isCurrent && backward.isCurrent) && packs(source)
  }

  /// Both copies, before they are used.
  func packNow(_ source: WeightSource) {
    _ = forward(source)
    _ = backward(source)
  }

  /// Wᵀ (in, out); nil: `source` is better used as it is.
  func forward(_ source: WeightSource) -> (any PackedOperand)? {
    if forward.isCurrent { return forward.matrix }
    guard packs(source) else { return nil }
    guard isOriginal(source) else {
      return pack(&forward, source, innerStride: 1, columnStride: inFeatures)
    }
    // Both at once: its pages aren't needed any more then.
    let isWhole =
      pack(&backward, source, innerStride: inFeatures, columnStride: 1) != nil
      && pack(&forward, source, innerStride: 1, columnStride: inFeatures) != nil
    guard isWhole else { return nil }
    stored.releasePages()
    return forward.matrix
  }

  /// W (out, in); nil: `source` is better used as it is.
  func backward(_ source: WeightSource) -> (any PackedOperand)? {
    if backward.isCurrent { return backward.matrix }
    guard packs(source) else { return nil }
    return pack(&backward, source, innerStride: inFeatures, columnStride: 1)
  }

  private func isOriginal(_ source: WeightSource) -> Bool {
    original != nil && source.identity == original
  }

  private func packs(_ source: WeightSource) -> Bool {
    switch (source, type) {
    case (.float32, _), (.stored, .bfloat16), (.composed, .bfloat16): true
    default: false
    }
  }

  private func pack(
    _ copy: inout Copy, _ source: WeightSource, innerStride: Int, columnStride: Int
  ) -> (any PackedOperand)? {
    let matrix = copy.matrix
    let isPacked: Void? = try? source.withFloats(inFeatures * outFeatures) {
      matrix.pack($0, innerStride: innerStride, columnStride: columnStride)
    }
    guard isPacked != nil else { return nil }
    copy.isCurrent = true
    copy.holdsOriginal = isOriginal(source)
    return matrix
  }
}
