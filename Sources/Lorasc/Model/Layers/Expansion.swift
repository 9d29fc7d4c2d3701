/// A plan's one place where weights that aren't held as float32 become it, by tiles of rows.
final class Expansion {
  private let floats: UnsafeMutablePointer<Float>
  private let capacity: Int
  private var held: (matrix: AnyObject, rows: Range<Int>)?

  /// Elements of a tile, 16 MiB; smaller matrices are expanded whole.
  private static let mostElements = 1 << 22

  /// - Parameter modules: that may be expanded
  init(_ modules: [MatrixModule], _ arena: Arena) throws {
    capacity = modules.map { max($0.columns, min($0.count, Self.mostElements)) }.max() ?? 0
    floats = try arena.floats(capacity, "plan.expanded_weight")
  }

  /// body(rows, values) for the tiles of a weight, in order; the values are valid until the next
  /// tile is asked for.
  func forTiles(
    _ source: WeightSource, rows: Int, columns: Int, _ compute: Compute,
    _ body: (_ rows: Range<Int>, _ values: UnsafePointer<Float>) -> Void
  ) {
    let owner: AnyObject
    switch source {
    case .float32(let values): return body(0..<rows, values)
    case .stored(let matrix): owner = matrix
    case .composed(let matrix): owner = matrix
    case .zero: return
    }
    let tile = max(1, capacity / max(columns, 1))
    for start in stride(from: 0, to: rows, by: tile) {
      let range = start..<min(rows, start + tile)
      expand(source, owner, range, columns, compute)
      body(range, UnsafePointer(floats))
    }
  }

  private func expand(
    _ source: WeightSource, _ owner: AnyObject, _ range: Range<Int>, _ columns: Int,
    _ compute: Compute
  ) {
    if let held, held.matrix === owner, held.rows == range { return }
    held = (owner, range)
    let floats = floats
    let step = max(1, (1 << 16) / max(columns, 1))
    compute.forTasks((range.count + step - 1) / step) { task, _ in
      let start = range.lowerBound + task * step
      source.copy(
        rows: start..<min(range.upperBound, start + step), columns: columns,
        to: floats + task * step * columns)
    }
  }
}
