/// Hands out zeroed float buffers that live as long as the arena: every buffer of a
/// plan comes from one, at the plan's creation, so that a step allocates nothing and
/// the plan's size is known.
final class Arena {
  private var floats: [FloatBuffer] = []
  private var integers: [AlignedBuffer<Int32>] = []
  private(set) var bytes = 0

  func floats(_ count: Int, _ what: String) throws -> UnsafeMutablePointer<Float> {
    let buffer = try FloatBuffer(count: count, what: what)
    floats.append(buffer)
    bytes += count * MemoryLayout<Float>.stride
    return buffer.pointer
  }

  func integers(_ count: Int, _ what: String) throws -> UnsafeMutablePointer<Int32> {
    let buffer = try AlignedBuffer<Int32>(count: count, what: what)
    integers.append(buffer)
    bytes += count * MemoryLayout<Int32>.stride
    return buffer.pointer
  }

  /// rows x columns, checked.
  func matrix(_ rows: Int, _ columns: Int, _ what: String) throws -> UnsafeMutablePointer<Float> {
    let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
    guard !overflow, count <= Int.max / 8 else {
      throw LorascError(.outOfMemory, "\(what): \(rows) x \(columns) does not fit", subject: what)
    }
    return try floats(count, what)
  }
}
