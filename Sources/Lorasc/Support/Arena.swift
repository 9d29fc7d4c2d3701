/// Hands out zeroed buffers that live as long as the arena: every buffer of a
/// plan comes from one, at the plan's creation, so that a step allocates nothing and
/// the plan's size is known.
///
/// One that measures counts only: its buffers must not be used.
final class Arena {
  let isMeasuring: Bool
  private let nothing = UnsafeMutablePointer<Float>.allocate(capacity: 1)
  private let noIntegers = UnsafeMutablePointer<Int32>.allocate(capacity: 1)
  private let noIndices = UnsafeMutablePointer<Int>.allocate(capacity: 1)
  private var floats: [FloatBuffer] = []
  private var integers: [AlignedBuffer<Int32>] = []
  private var indices: [AlignedBuffer<Int>] = []
  private(set) var bytes = 0

  init(measuring: Bool = false) { isMeasuring = measuring }

  deinit {
    nothing.deallocate()
    noIntegers.deallocate()
    noIndices.deallocate()
  }

  func floats(_ count: Int, _ what: String) throws -> UnsafeMutablePointer<Float> {
    try add(count, what)
    if isMeasuring { return nothing }
    let buffer = try FloatBuffer(count: count, what: what)
    floats.append(buffer)
    return buffer.pointer
  }

  func integers(_ count: Int, _ what: String) throws -> UnsafeMutablePointer<Int32> {
    try add(count, what)
    if isMeasuring { return noIntegers }
    let buffer = try AlignedBuffer<Int32>(count: count, what: what)
    integers.append(buffer)
    return buffer.pointer
  }

  func indices(_ count: Int, _ what: String) throws -> UnsafeMutablePointer<Int> {
    try add(count, elementBytes: 8, what)
    if isMeasuring { return noIndices }
    let buffer = try AlignedBuffer<Int>(count: count, what: what)
    indices.append(buffer)
    return buffer.pointer
  }

  private func add(_ count: Int, elementBytes: Int = 4, _ what: String) throws {
    let (size, overflow) = count.multipliedReportingOverflow(by: elementBytes)
    let (sum, isTooMuch) = bytes.addingReportingOverflow(size)
    guard !overflow, !isTooMuch else {
      throw LorascError(.outOfMemory, "\(what): \(count) elements do not fit", subject: what)
    }
    bytes = sum
  }

  /// rows x columns 16-bit values, checked.
  func halves(_ rows: Int, _ columns: Int, _ what: String) throws -> UnsafeMutablePointer<UInt16> {
    let words = try matrix(rows, (columns + 1) / 2, what)
    // Safe: because a float has room for two of them, and the memory is used as nothing else.
    return UnsafeMutableRawPointer(words).bindMemory(to: UInt16.self, capacity: rows * columns)
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
