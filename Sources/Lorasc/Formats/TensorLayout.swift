/// How a tensor lies in its file beside how transformers has it.
enum TensorLayout: Equatable, Sendable {
  case same
  case transposed
  /// The rows of each head of `size` come pair by pair: 0, size/2, 1, size/2 + 1, …. llama.cpp
  /// turns neighbours by the rotary positions, transformers rows that are half a head apart.
  case pairedRows(size: Int)

  /// Where the file has row `row`.
  func stored(row: Int) -> Int {
    guard case .pairedRows(let size) = self else { return row }
    let place = row % size
    return row - place + place % (size / 2) * 2 + place / (size / 2)
  }

  /// Whether a tensor of so many rows can lie so.
  func fits(rows: Int?) -> Bool {
    guard case .pairedRows(let size) = self else { return true }
    return size > 0 && size % 2 == 0 && (rows ?? 1) % size == 0
  }

  /// Puts values from transformers' order into the file's.
  /// - Parameter shape: as transformers has it; transposed: of a matrix
  func store(_ values: FloatBuffer, shape: [Int]) throws {
    guard self != .same, let rows = shape.first, rows > 0 else { return }
    let columns = values.count / rows
    let copy = try FloatBuffer(count: values.count, what: "tensor in a file's order")
    copy.pointer.update(from: values.pointer, count: values.count)
    withExtendedLifetime((copy, values)) {
      if self == .transposed {
        transpose(copy.pointer, rows: rows, columns: columns, to: values.pointer)
      } else {
        for row in 0..<rows {
          (values.pointer + stored(row: row) * columns)
            .update(from: copy.pointer + row * columns, count: columns)
        }
      }
    }
  }
}

/// (rows, columns) to (columns, rows).
func transpose(
  _ from: UnsafePointer<Float>, rows: Int, columns: Int, to: UnsafeMutablePointer<Float>
) {
  for row in 0..<rows {
    for column in 0..<columns { to[column * rows + row] = from[row * columns + column] }
  }
}
