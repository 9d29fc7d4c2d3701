/// A file of tensors on its way, atomic as `AtomicFile`: the header, which comes first and says
/// how long each tensor is, then the tensors' bytes one after another.
final class TensorSink {
  let path: String
  private let file: AtomicFile
  private let tensors: [(name: String, bytes: Int)]
  private let alignment: Int
  private var next = 0

  /// - Parameters:
  ///   - tensors: names, for messages, and bytes
  ///   - alignment: a power of two; tensors are padded with zeros to multiples of it
  /// - Throws: `.argument` for tensors that have no size together, `.io` as `AtomicFile`
  init(
    path: String, header: [UInt8], tensors: [(name: String, bytes: Int)], alignment: Int = 1,
    calls: FileCalls
  ) throws {
    var total = header.count
    for tensor in tensors {
      let (sum, overflow) = total.addingReportingOverflow(tensor.bytes)
      guard !overflow, sum <= Int.max - alignment else {
        throw LorascError(.argument, "\(path): the tensors have no size in bytes", subject: path)
      }
      total = (sum + alignment - 1) / alignment * alignment
    }
    self.path = path
    self.tensors = tensors
    self.alignment = alignment
    file = try AtomicFile(path: path, reserve: total, calls: calls)
    try header.withUnsafeBytes { try file.write($0) }
  }

  /// The next tensor's bytes.
  func append(_ bytes: UnsafeRawBufferPointer) throws {
    guard next < tensors.count else {
      throw LorascError(.state, "\(path): all tensors are written", subject: path)
    }
    let (name, size) = tensors[next]
    guard bytes.count == size else {
      throw LorascError(
        .argument, "\(path): tensor \(quoted(name)) takes \(size) bytes, given \(bytes.count)",
        subject: name)
    }
    try file.write(bytes)
    let padding = [UInt8](repeating: 0, count: (alignment - size % alignment) % alignment)
    try padding.withUnsafeBytes { try file.write($0) }
    next += 1
  }

  /// Puts the file in place.
  func commit() throws {
    guard next == tensors.count else {
      throw LorascError(
        .state, "\(path): tensor \(quoted(tensors[next].name)) is not written",
        subject: tensors[next].name)
    }
    try file.commit()
  }
}
