import CSupport

/// Products with weights that are packed beforehand, by oneDNN: Y (rows, columns) = X (rows,
/// inner) W (inner, columns).
///
/// Rows are cut into tiles by their number alone, and each tile is a task, so the bits don't
/// depend on the number of threads. Every kind of product is made at init. oneDNN 2.x has fast
/// kernels for matrices without gaps only: rows that are apart, and the last ones, which don't
/// fill a tile, go through scratch memory.
final class PackedProducts {
  /// What X and W are multiplied in; sums are float32 always.
  enum ElementType: Sendable { case float32, bfloat16 }

  struct Shape: Hashable {
    let inner: Int
    let columns: Int
  }

  let type: ElementType
  private let kinds: [Shape: Kinds]
  /// Per lane a tile of X and one of Y.
  private let scratch: Scratch

  /// - Throws: `.unsupported` where oneDNN has no such product on this CPU, `.outOfMemory`
  init(_ type: ElementType, _ shapes: Set<Shape>, lanes: Int, _ arena: Arena) throws {
    self.type = type
    kinds = try BLASThreads.withSingleThread {
      try Dictionary(
        uniqueKeysWithValues: shapes.map { ($0, try Kinds(type, $0, lanes: lanes)) })
    }
    scratch = try Scratch(Array(shapes), lanes: lanes, arena)
  }

  /// Memory for one more W.
  func matrix(_ shape: Shape, _ what: String, _ arena: Arena) throws -> PackedMatrix? {
    guard let kinds = kinds[shape] else { return nil }
    return try PackedMatrix(self, kinds, shape, what, arena)
  }

  // MARK: Kinds

  /// What becomes of Y: float32, or rounded, which only products in bfloat16 are.
  enum Output: Int, CaseIterable {
    case set, setWithBias, add, round, roundWithBias

    var rounds: Bool { self == .round || self == .roundWithBias }
    var hasBias: Bool { self == .setWithBias || self == .roundWithBias }

    static func of(_ type: ElementType) -> [Output] {
      allCases.filter { type == .bfloat16 || !$0.rounds }
    }
  }

  /// Rows of a tile, largest first.
  fileprivate static let tiles = [128, 64, 32, 16]
  /// Tiles of wider matrices are small, for the scratch memory's sake.
  private static let widest = 8192
  /// Beyond this the floats of two lanes' tiles of 128 rows would fill a second-level cache of 2 MB.
  private static let wide = 1024

  /// Enough tiles for the threads, and as few as that.
  fileprivate static func tile(rows: Int, _ shape: Shape) -> Int {
    let most = max(shape.inner, shape.columns) > widest ? 32 : shape.columns > wide ? 64 : 128
    return min(most, rows >= 1024 ? 128 : rows >= 256 ? 64 : rows >= 64 ? 32 : 16)
  }

  /// The products of one shape: for each tile and output.
  final class Kinds {
    let packing: lorasc_packing
    private var products: [[Matmul]] = []

    init(_ type: ElementType, _ shape: Shape, lanes: Int) throws {
      var product = lorasc_product()
      product.inner = Int64(shape.inner)
      product.columns = Int64(shape.columns)
      product.is_bfloat16 = type == .bfloat16
      var packing: lorasc_packing?
      for tile in PackedProducts.tiles {
        var outputs: [Matmul] = []
        for output in Output.of(type) {
          product.rows = Int64(tile)
          product.has_bias = output.hasBias
          product.rounds = output.rounds
          product.accumulates = output == .add
          let matmul = try Matmul(product, packing, lanes: lanes)
          packing = packing ?? matmul.packing
          outputs.append(matmul)
        }
        products.append(outputs)
      }
      self.packing = packing ?? lorasc_packing()
    }

    /// - Parameter rows: at most the largest tile
    /// - Returns: one for each output, and the rows that they take
    fileprivate func products(rows: Int) -> ([Matmul], tile: Int) {
      let index = PackedProducts.tiles.lastIndex { $0 >= rows } ?? 0
      return (products[index], PackedProducts.tiles[index])
    }
  }

  /// One of oneDNN's primitives.
  fileprivate final class Matmul {
    private let handle: OpaquePointer
    private let scratch: AlignedBuffer<UInt8>
    private let scratchBytes: Int

    init(_ product: lorasc_product, _ packing: lorasc_packing?, lanes: Int) throws {
      var product = product
      let made =
        if var packing {
          lorasc_matmul_create(&product, &packing, lanes)
        } else {
          lorasc_matmul_create(&product, nil, lanes)
        }
      guard let made else {
        throw LorascError(
          .unsupported,
          "oneDNN has no \(product.is_bfloat16 ? "bfloat16" : "float32") product with packed "
            + "weights of \(product.inner) x \(product.columns) on this CPU", subject: "products")
      }
      handle = made
      scratchBytes = (lorasc_matmul_scratch_bytes(made) + 63) / 64 * 64
      do {
        scratch = try AlignedBuffer(count: scratchBytes * lanes, what: "oneDNN's scratch memory")
      } catch {
        lorasc_matmul_free(made)
        throw error
      }
    }

    deinit { lorasc_matmul_free(handle) }

    var packing: lorasc_packing {
      var packing = lorasc_packing()
      lorasc_matmul_packing(handle, &packing)
      return packing
    }

    func run(
      lane: Int, _ x: UnsafeRawPointer, _ packed: UnsafeRawPointer, _ bias: UnsafePointer<Float>?,
      _ y: UnsafeMutableRawPointer
    ) -> Bool {
      lorasc_matmul_run(
        handle, lane, x, packed, bias, y, scratch.pointer + lane * scratchBytes)
    }
  }

  private struct Scratch {
    private let floats: UnsafeMutablePointer<Float>
    private let inner: Int
    private let columns: Int

    init(_ shapes: [Shape], lanes: Int, _ arena: Arena) throws {
      func most(_ size: (Shape) -> Int) -> Int {
        shapes.map { PackedProducts.tile(rows: .max, $0) * size($0) }.max() ?? 0
      }
      inner = most(\.inner)
      columns = most(\.columns)
      floats = try arena.matrix(lanes, inner + columns, "plan.packed_products")
    }

    func x(_ lane: Int) -> UnsafeMutablePointer<Float> { floats + lane * (inner + columns) }
    func y(_ lane: Int) -> UnsafeMutablePointer<Float> { x(lane) + inner }

    /// The same memory for rounded values.
    func roundedX(_ lane: Int) -> UnsafeMutablePointer<UInt16> { rounded(x(lane)) }
    func roundedY(_ lane: Int) -> UnsafeMutablePointer<UInt16> { rounded(y(lane)) }

    private func rounded(_ floats: UnsafeMutablePointer<Float>) -> UnsafeMutablePointer<UInt16> {
      // Safe: because the memory is raw to all but one tile.
      UnsafeMutableRawPointer(floats).assumingMemoryBound(to: UInt16.self)
    }
  }

  // MARK: The product

  fileprivate func multiply(
    _ x: Values, ldx: Int, _ w: PackedMatrix, _ y: Values, ldy: Int, rows: Int,
    bias: UnsafePointer<Float>?, adds: Bool, rounds: Bool, weighed: WeighedInput? = nil,
    _ compute: Compute, adding: TileBody, then: RowsBody
  ) {
    let tile = Self.tile(rows: rows, w.shape)
    compute.forTasks((rows + tile - 1) / tile) { task, lane in
      let tile = task * tile..<min((task + 1) * tile, rows)
      multiply(
        tile, x, ldx, w, y, ldy, bias: bias, adds: adds, rounds: rounds, weighed: weighed, lane,
        compute, adding: adding)
      then(tile, lane)
    }
  }

  /// The same on the calling thread.
  fileprivate func multiply(
    _ x: Values, ldx: Int, _ w: PackedMatrix, _ y: Values, ldy: Int, rows: Int,
    bias: UnsafePointer<Float>?, adds: Bool, lane: Int, _ compute: Compute
  ) {
    let tile = Self.tiles[0]
    for start in stride(from: 0, to: rows, by: tile) {
      multiply(
        start..<min(start + tile, rows), x, ldx, w, y, ldy, bias: bias, adds: adds,
        rounds: y.halves != nil, weighed: nil, lane, compute, adding: noTileBody)
    }
  }

  /// Of a tile's rows.
  private func multiply(
    _ rows: Range<Int>, _ x: Values, _ ldx: Int, _ w: PackedMatrix, _ y: Values, _ ldy: Int,
    bias: UnsafePointer<Float>?, adds: Bool, rounds: Bool, weighed: WeighedInput?, _ lane: Int,
    _ compute: Compute, adding: TileBody
  ) {
    let (inner, columns, count) = (w.shape.inner, w.shape.columns, rows.count)
    let (outputs, size) = w.kinds.products(rows: count)
    let to = y + rows.lowerBound * ldy
    let x = x + rows.lowerBound * ldx
    let source =
      if let weighed {
        self.source(x, ldx, rows, inner, weighed, lane, compute)
      } else {
        self.source(x, ldx, count, inner, isWhole: size == count, lane, compute)
      }
    func run(_ output: Output, _ at: UnsafeMutableRawPointer) -> Bool {
      outputs[output.rawValue].run(lane: lane, source.pointer, w.memory, bias, at)
    }
    let isInPlace = size == count && ldy == columns
    if rounds, let halves = to.halves {
      let own = isInPlace ? halves : scratch.roundedY(lane)
      let isDone = run(bias == nil ? .round : .roundWithBias, own)
      if !isDone { own.update(repeating: Self.roundedNaN, count: count * columns) }
      if !isInPlace { copy(own, columns, halves, ldy, rows: count, columns: columns) }
      return
    }
    let floats = isInPlace ? to.floats : nil
    let own = floats ?? scratch.y(lane)
    let isDone = run(
      adds && floats != nil ? .add : bias == nil ? .set : .setWithBias, own)
    // oneDNN refuses no product that it has made, unless memory is short: the step sees NaN,
    // says so and stops.
    if !isDone { own.update(repeating: .nan, count: count * columns) }
    let isPut = adding(
      TileSums(
        rows: rows, x: source.values, ldx: inner, values: own, ld: columns,
        rounded: floats == nil ? to.halves : nil, ldRounded: ldy))
    if floats == nil && !isPut { put(own, count, columns, to, ldy, adds: adds, compute) }
  }

  private static let roundedNaN: UInt16 = 0x7fc0

  /// A tile of X as a product takes it, in one type.
  private enum Tile {
    case floats(UnsafeMutablePointer<Float>)
    case halves(UnsafeMutablePointer<UInt16>)

    var pointer: UnsafeRawPointer {
      switch self {
      case .floats(let floats): UnsafeRawPointer(floats)
      case .halves(let halves): UnsafeRawPointer(halves)
      }
    }

    var values: Values {
      switch self {
      case .floats(let floats): Values(floats)
      case .halves(let halves): Values(nil, halves: halves)
      }
    }
  }

  /// Rows beyond `count` hold whatever was there.
  private func source(
    _ x: Values, _ ldx: Int, _ count: Int, _ inner: Int, isWhole: Bool, _ lane: Int,
    _ compute: Compute
  ) -> Tile {
    let isInPlace = isWhole && ldx == inner
    if type == .float32 {
      let own = scratch.x(lane)
      if let floats = x.floats {
        if isInPlace { return .floats(floats) }
        copy(floats, ldx, own, inner, rows: count, columns: inner)
      }
      return .floats(own)
    }
    let own = scratch.roundedX(lane)
    if let halves = x.halves {
      if isInPlace { return .halves(halves) }
      copy(halves, ldx, own, inner, rows: count, columns: inner)
    } else if let floats = x.floats {
      compute.kernels.round(floats, ld: ldx, own, ld: inner, rows: count, columns: inner)
    }
    return .halves(own)
  }

  /// X's rows weighed.
  private func source(
    _ x: Values, _ ldx: Int, _ rows: Range<Int>, _ inner: Int, _ weighed: WeighedInput,
    _ lane: Int, _ compute: Compute
  ) -> Tile {
    let own: Tile =
      type == .float32 ? .floats(scratch.x(lane)) : .halves(scratch.roundedX(lane))
    if case .halves(let halves) = own, x.halves == nil, let floats = x.floats {
      compute.kernels.round(floats, ld: ldx, halves, ld: inner, rows: rows.count, columns: inner)
      weighed.set(own.values, own.values, inner, rows, inner, compute.kernels)
    } else {
      weighed.set(own.values, x, ldx, rows, inner, compute.kernels)
    }
    return own
  }

  private func copy<Element: BitwiseCopyable>(
    _ from: UnsafePointer<Element>, _ ldFrom: Int, _ to: UnsafeMutablePointer<Element>, _ ldTo: Int,
    rows: Int, columns: Int
  ) {
    for row in 0..<rows { (to + row * ldTo).update(from: from + row * ldFrom, count: columns) }
  }

  /// A tile of Y from scratch memory to its place.
  private func put(
    _ own: UnsafeMutablePointer<Float>, _ count: Int, _ columns: Int, _ y: Values, _ ldy: Int,
    adds: Bool, _ compute: Compute
  ) {
    if let halves = y.halves {
      compute.kernels.round(own, ld: columns, halves, ld: ldy, rows: count, columns: columns)
    } else if let floats = y.floats {
      guard adds else { return copy(own, columns, floats, ldy, rows: count, columns: columns) }
      for row in 0..<count {
        compute.kernels.axpby(1, own + row * columns, 1, floats + row * ldy, columns)
      }
    }
  }
}

/// A packed W (inner, columns).
protocol PackedOperand: AnyObject {
  /// - Parameter values: W's element (i, j) is values[i · innerStride + j · columnStride].
  func pack(_ values: UnsafePointer<Float>, innerStride: Int, columnStride: Int)

  /// Y = X W, with a bias Y = X W + b, or Y += X W
  ///
  /// - Parameters:
  ///   - x: its halves where the products are of bfloat16, else its floats
  ///   - y: floats, or halves, which are set only
  ///   - bias: nil where `adds`
  ///   - then: what follows on complete rows
  func multiply(
    _ x: Values, ldx: Int, _ y: Values, ldy: Int, rows: Int, bias: UnsafePointer<Float>?,
    adds: Bool, _ compute: Compute, then: RowsBody)
}

/// One W (inner, columns) as oneDNN has packed it.
final class PackedMatrix: PackedOperand {
  let shape: PackedProducts.Shape
  fileprivate let kinds: PackedProducts.Kinds
  fileprivate let memory: UnsafeMutablePointer<Float>
  private let products: PackedProducts

  fileprivate init(
    _ products: PackedProducts, _ kinds: PackedProducts.Kinds, _ shape: PackedProducts.Shape,
    _ what: String, _ arena: Arena
  ) throws {
    self.products = products
    self.kinds = kinds
    self.shape = shape
    memory = try arena.floats((kinds.packing.bytes + 3) / 4, what)
  }

  func pack(_ values: UnsafePointer<Float>, innerStride: Int, columnStride: Int) {
    var packing = kinds.packing
    guard
      lorasc_pack(
        &packing, Int64(shape.inner), Int64(shape.columns), values, Int64(innerStride),
        Int64(columnStride), memory)
    else {
      return memory.update(repeating: .nan, count: packing.bytes / 4)
    }
  }

  func multiply(
    _ x: Values, ldx: Int, _ y: Values, ldy: Int, rows: Int, bias: UnsafePointer<Float>? = nil,
    adds: Bool, _ compute: Compute, then: RowsBody = { _, _ in }
  ) {
    products.multiply(
      x, ldx: ldx, self, y, ldy: ldy, rows: rows, bias: bias, adds: adds, rounds: y.halves != nil,
      compute, adding: noTileBody, then: then)
  }

  /// The same on the calling thread, whose lane it is.
  func multiply(
    _ x: Values, ldx: Int, _ y: Values, ldy: Int, rows: Int, bias: UnsafePointer<Float>?,
    adds: Bool, lane: Int, _ compute: Compute
  ) {
    products.multiply(
      x, ldx: ldx, self, y, ldy: ldy, rows: rows, bias: bias, adds: adds, lane: lane, compute)
  }

  /// The same with more to add before the sum is rounded.
  /// - Parameter weighed: the product takes X so
  func multiply(
    _ x: Values, ldx: Int, _ y: Values, ldy: Int, rows: Int, bias: UnsafePointer<Float>? = nil,
    adds: Bool, weighed: WeighedInput? = nil, _ compute: Compute, adding: TileBody, then: RowsBody
  ) {
    products.multiply(
      x, ldx: ldx, self, y, ldy: ldy, rows: rows, bias: bias, adds: adds, rounds: false,
      weighed: weighed, compute, adding: adding, then: then)
  }
}
