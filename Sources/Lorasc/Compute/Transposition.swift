import COpenBLAS
import CSupport

/// A plan's memory for Wᵀ, or as many of its columns as there is room for: from it oneDNN multiplies
/// X Wᵀ faster than from W, by more than making it takes where X has many rows.
///
/// GFLOP/s of one thread, 1024 rows of X by 256, oneDNN's sgemm on a Zen 4, W from memory: from W,
/// from Wᵀ without gaps, from Wᵀ as it is here; making it takes 0.3 ns an element, 0.02 of the
/// product's time:
///   columns, inner
///   1536, 576              94 : 106 : 113
///   1024, 576              95 : 107 : 109
///   576, 576               97 : 111 : 113
///   576, 1536             103 : 113 : 112
final class Transposition {
  private let floats: UnsafeMutablePointer<Float>
  private let capacity: Int

  /// Wᵀ (columns, rows) of W (rows, columns), rows `ld` apart.
  struct Transposed {
    let values: UnsafePointer<Float>
    let ld: Int
  }

  /// 64 MiB.
  static let mostElements = 1 << 24
  /// 8 MiB.
  static let blockElements = 1 << 21
  /// Of W in a task.
  private static let taskRows = 32
  /// Of X.
  private static let fewestRows = 128

  /// - Parameters:
  ///   - shapes: of the matrices
  ///   - most: elements of a matrix that is transposed whole; others are by blocks
  init(
    _ shapes: [(rows: Int, columns: Int)], most: Int = mostElements, block: Int = blockElements,
    _ arena: Arena
  ) throws {
    capacity =
      shapes.map { rows, columns in
        let count = Self.elements(rows, columns)
        return count <= most ? count : max(block, Self.elements(1, columns))
      }.max() ?? 0
    floats = try arena.floats(capacity, "plan.transposed_weight")
  }

  /// Pays where X has so many rows.
  static func pays(rows: Int) -> Bool { rows >= fewestRows }

  /// An odd number of cache lines: with a power of two the rows would share few of a cache's sets.
  private static func ld(_ rows: Int) -> Int { ((rows + 15) / 16 | 1) * 16 }

  private static func elements(_ rows: Int, _ columns: Int) -> Int { ld(rows) * columns }

  /// There is room for the whole of W.
  func holds(rows: Int, columns: Int) -> Bool { Self.elements(rows, columns) <= capacity }

  /// Wᵀ of a W that it holds; valid until the next.
  func transpose(
    _ w: UnsafePointer<Float>, rows: Int, columns: Int, _ compute: Compute
  ) -> Transposed {
    let (floats, ld) = (floats, Self.ld(rows))
    compute.forTasks((rows + Self.taskRows - 1) / Self.taskRows) { task, _ in
      let start = task * Self.taskRows
      let (own, count) = (w + start * columns, min(Self.taskRows, rows - start))
      lorasc_read_ahead(own, count * columns)
      cblas_somatcopy(
        CblasRowMajor, CblasTrans, blasint(count), blasint(columns), 1, own, blasint(columns),
        floats + start, blasint(ld))
    }
    return Transposed(values: UnsafePointer(floats), ld: ld)
  }

  /// body(rows, their transpose) for blocks of W's rows, in order.
  func forBlocks(
    _ w: UnsafePointer<Float>, rows: Int, columns: Int, _ compute: Compute,
    _ body: (_ rows: Range<Int>, _ transposed: Transposed) -> Void
  ) {
    // Whole lines, an odd number of them: all rows where it holds them.
    let lines = max(1, capacity / max(16 * columns, 1))
    let size = 16 * ((lines - 1) | 1)
    for start in stride(from: 0, to: rows, by: size) {
      let range = start..<min(rows, start + size)
      body(range, transpose(w + start * columns, rows: range.count, columns: columns, compute))
    }
  }
}
