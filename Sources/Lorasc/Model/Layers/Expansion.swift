/// A plan's one place where 16-bit weights become float32, a matrix at a time.
final class Expansion {
  private let floats: UnsafeMutablePointer<Float>
  private var held: StoredMatrix?

  /// - Parameter count: elements of the largest matrix
  init(count: Int, _ arena: Arena) throws {
    floats = try arena.floats(count, "plan.expanded_weight")
  }

  /// Valid until another matrix is asked for.
  func callAsFunction(_ matrix: StoredMatrix, _ compute: Compute) -> UnsafePointer<Float> {
    if held !== matrix {
      held = matrix
      let size = 1 << 16
      let floats = floats
      compute.forTasks((matrix.count + size - 1) / size) { task, _ in
        let start = task * size
        matrix.copy(start..<min(matrix.count, start + size), to: floats + start)
      }
    }
    return UnsafePointer(floats)
  }
}
