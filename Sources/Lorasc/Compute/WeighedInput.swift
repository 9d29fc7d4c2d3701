import CSupport

/// A product's X (rows, inner) that is weighed by columns on its way there, k ⊙ X, while the sums
/// over rows of X ⊙ other are made: what DoRA's backward multiplies, and the gradient of k.
struct WeighedInput {
  /// (inner): k
  let factors: UnsafePointer<Float>
  /// (rows, inner), without gaps
  let other: UnsafePointer<Float>
  let memory: Memory

  /// For all products of a plan, one after the other.
  struct Memory {
    /// k ⊙ X, of all rows or of a tile of each lane
    let values: UnsafeMutablePointer<Float>
    /// (parts, inner): each part's sums
    let sums: UnsafeMutablePointer<Float>

    init(rows: Int, inner: Int, lanes: Int, _ what: String, _ arena: Arena) throws {
      values = try arena.matrix(max(rows, lanes * RowTiles.most), inner, what)
      sums = try arena.matrix(WeighedInput.parts(rows: rows), inner, what + ".sums")
    }
  }

  /// Rows whose sum is a part; a tile is some of them.
  private static let partRows = 16

  private static func parts(rows: Int) -> Int { (rows + partRows - 1) / partRows }

  /// out += the sums over all rows, once all are set
  func addSums(to out: UnsafeMutablePointer<Float>, rows: Int, _ inner: Int, _ compute: Compute) {
    let parts = Self.parts(rows: rows)
    compute.forRows(inner, cost: 2 * parts) { start, end in
      compute.kernels.column_sums(memory.sums + start, parts, end - start, inner, out + start)
    }
  }

  /// k ⊙ X
  func whole(
    _ x: UnsafePointer<Float>, _ ldx: Int, rows: Int, _ inner: Int, _ compute: Compute
  ) -> (values: UnsafePointer<Float>, ld: Int) {
    let tile = RowTiles.most
    compute.forTasks((rows + tile - 1) / tile) { task, _ in
      let (start, end) = (task * tile, min((task + 1) * tile, rows))
      set(
        Values(memory.values + start * inner), Values(reading: x + start * ldx), ldx, start..<end,
        inner, compute.kernels)
    }
    return (UnsafePointer(memory.values), inner)
  }

  /// The same of a tile's rows, x's first among them, in the lane's memory.
  func tile(
    _ x: UnsafePointer<Float>, _ ldx: Int, _ rows: Range<Int>, _ inner: Int, _ lane: Int,
    _ kernels: lorasc_kernels
  ) -> (values: UnsafePointer<Float>, ld: Int) {
    let own = memory.values + lane * RowTiles.most * inner
    set(Values(own), Values(reading: x), ldx, rows, inner, kernels)
    return (UnsafePointer(own), inner)
  }

  /// y (rows, inner), without gaps, = k ⊙ x, both in y's type; x may be y.
  /// - Parameter rows: x's and y's first among them, `ldx` apart; the first of a part
  func set(
    _ y: Values, _ x: Values, _ ldx: Int, _ rows: Range<Int>, _ inner: Int,
    _ kernels: lorasc_kernels
  ) {
    for first in stride(from: 0, to: rows.count, by: Self.partRows) {
      let count = min(Self.partRows, rows.count - first)
      let (row, from, to) = (rows.lowerBound + first, x + first * ldx, y + first * inner)
      let (other, part) = (other + row * inner, memory.sums + row / Self.partRows * inner)
      part.update(repeating: 0, count: inner)
      if let to = to.halves, let from = from.halves {
        kernels.scale_columns_backward_bf16(
          factors, from, other, to, part, count, inner, ldx, inner, inner)
      } else if let to = to.floats, let from = from.floats {
        kernels.scale_columns_backward(
          factors, from, other, to, part, count, inner, ldx, inner, inner)
      }
    }
  }
}
