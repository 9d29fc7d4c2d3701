@testable import Lorasc

/// Matrix products: the low-rank ones of an adapted module, and whole ones to compare with.
enum Products {
  /// Of the adapters X A^T -> P, Y += P B^T, and of their backward G B, P^T G, dA += H^T X,
  /// with X (tokens, hidden), A (rank, hidden), B (hidden, rank), G (tokens, hidden), as the engine
  /// makes them: from Bᵀ, and sums over tokens by parts.
  static func lowRank(
    _ size: Size, rank: Int, _ work: Workspace, _ arena: Arena
  ) throws -> [Operation] {
    let (tokens, hidden, compute) = (size.tokens, size.hidden, work.compute)
    let (x, narrow, factor) = (work.source(0), work.source(1), work.source(2))
    let (y, parts) = (work.target(0), work.target(1))
    let memory = try SkinnyFactor.Memory(
      inner: hidden, rank: rank, .float32, "factor", arena)
    // Elements of X or G, of P or H, and of a factor.
    let (wide, projected, small) = (tokens * hidden, tokens * rank, rank * hidden)

    func make(
      _ name: String, elements: Int, adds: Int = 0, _ run: @escaping () -> Void
    ) -> Operation {
      Operation(
        name: "\(name), r = \(rank)", size: size.name, shape: "\(tokens) x \(hidden)",
        bytes: 4 * Double(elements), flops: 2 * Double(tokens) * Double(hidden) * Double(rank),
        prepare: { work.fill(0, 0, adds) }, run: run)
    }
    return [
      make("X A^T", elements: wide + small + projected) {
        SkinnyFactor(
          factor, isTransposed: true, inner: hidden, rank: rank, rows: tokens, memory, compute
        ).multiplyAll(Values(reading: x), ldx: hidden, rows: tokens, y, compute)
      },
      make("P B^T", elements: projected + small + 2 * wide, adds: wide) {
        compute.gemm(
          tokens, hidden, rank, a: narrow, lda: rank, b: factor, ldb: hidden, c: y, ldc: hidden,
          beta: 1)
      },
      make("G B", elements: wide + small + projected) {
        SkinnyFactor(
          factor, isTransposed: false, inner: hidden, rank: rank, rows: tokens, memory, compute
        ).multiplyAll(Values(reading: x), ldx: hidden, rows: tokens, y, compute)
      },
      make("P^T G", elements: projected + wide + small) {
        compute.sum(
          tokens, rank, hidden, narrow, Values(reading: x), ldx: hidden, y, alpha: 1, beta: 0,
          parts: parts)
      },
      make("H^T X", elements: projected + wide + 2 * small, adds: small) {
        compute.sum(
          tokens, rank, hidden, narrow, Values(reading: x), ldx: hidden, y, alpha: 1, beta: 1,
          parts: parts)
      },
    ]
  }

  // MARK: Whole products: MiniLM's first matrix behind attention

  private static let (rows, columns, inner) = (2048, 1536, 384)
  private static let flops = 2 * Double(rows) * Double(columns) * Double(inner)

  static func whole(_ work: Workspace) -> Operation {
    let (x, w, y) = (work.source(0), work.source(1), work.target(0))
    return make("product", .float32) {
      work.compute.gemm(
        rows, columns, inner, a: x, lda: inner, b: w, ldb: inner, transposeB: true, c: y,
        ldc: columns)
    }
  }

  /// The same with packed weights, in float32 and bfloat16; none where oneDNN isn't there, and only
  /// what it has on this CPU.
  static func packed(_ work: Workspace, _ arena: Arena) throws -> [Operation] {
    guard work.compute.products == .onednn else { return [] }
    return try [PackedProducts.ElementType.float32, .bfloat16].compactMap { type in
      try packed(type, work, arena)
    }
  }

  private static func packed(
    _ type: PackedProducts.ElementType, _ work: Workspace, _ arena: Arena
  ) throws -> Operation? {
    let shape = PackedProducts.Shape(inner: inner, columns: columns)
    let products: PackedProducts
    do {
      products = try PackedProducts(type, [shape], lanes: work.compute.threads, arena)
    } catch let error as LorascError where error.status == .unsupported {
      return nil
    }
    guard let matrix = try products.matrix(shape, "packed", arena) else { return nil }
    matrix.pack(work.source(1), innerStride: 1, columnStride: inner)
    var x = Values(work.source(0))
    let y = Values(work.target(0))
    if type == .bfloat16 {
      let halves = work.halves(work.targets[2])
      x = Values(nil, halves: halves)
    }
    let multiplied = x
    return make("product, packed \(type)", type) {
      if let halves = multiplied.halves {
        work.compute.round(work.source(0), halves, ld: inner, rows: rows, columns: inner)
      }
    } run: {
      matrix.multiply(
        multiplied, ldx: inner, y, ldy: columns, rows: rows, adds: false, work.compute)
    }
  }

  private static func make(
    _ name: String, _ type: PackedProducts.ElementType, prepare: @escaping () -> Void = {},
    run: @escaping () -> Void
  ) -> Operation {
    let element = type == .bfloat16 ? 2 : 4
    return Operation(
      name: name, size: Size.minilm.name, shape: "\(rows) x \(inner) x \(columns)",
      bytes: Double(element * (rows * inner + inner * columns) + 4 * rows * columns),
      flops: flops, type: type, prepare: prepare, run: run)
  }
}
