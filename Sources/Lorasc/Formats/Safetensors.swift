/// A safetensors file, checked when it is opened (see `SafetensorsHeader`); afterwards
/// every entry's bytes are known to be there.
///
/// Files are read into memory by default. `mapped: true` maps instead, for backbone
/// weights: see the limit at `MappedFile`.
final class SafetensorsFile: @unchecked Sendable {
  let path: String
  /// By offset in the file.
  let entries: [TensorEntry]
  /// In the header's order.
  let metadata: [(key: String, value: String)]

  private let data: UnsafeRawBufferPointer
  private let positions: [String: Int]
  /// Keeps the bytes alive.
  private let owner: AnyObject

  /// - Throws: `.notFound`, `.io`, `.format`, `.unsupported` (dtype), `.limit`,
  ///   `.outOfMemory`; the message names the file and the tensor.
  convenience init(path: String, mapped: Bool = false) throws {
    let file = try OpenedFile(path: path, mapped: mapped)
    try self.init(bytes: file.bytes, owner: file.owner, path: path)
  }

  /// A file that is in memory already.
  convenience init(bytes: [UInt8], path: String = "(memory)") throws {
    let buffer = try AlignedBuffer<UInt8>(count: bytes.count, what: path)
    buffer.buffer.baseAddress?.update(from: bytes, count: bytes.count)
    try self.init(bytes: buffer.raw, owner: buffer, path: path)
  }

  /// `owner` keeps `bytes` valid and unchanged.
  init(bytes: UnsafeRawBufferPointer, owner: AnyObject, path: String) throws {
    let header = try namingFile(path) { try SafetensorsHeader(bytes: bytes) }
    var positions: [String: Int] = [:]
    positions.reserveCapacity(header.entries.count)
    for (position, entry) in header.entries.enumerated() { positions[entry.name] = position }
    self.path = path
    self.owner = owner
    self.positions = positions
    entries = header.entries
    metadata = header.metadata
    // Safe: because the header lies within the file.
    data = UnsafeRawBufferPointer(rebasing: bytes[header.dataStart...])
  }

  subscript(name: String) -> TensorEntry? { positions[name].map { entries[$0] } }

  func metadataValue(_ key: String) -> String? { metadata.first { $0.key == key }?.value }

  /// The bytes of one of this file's own entries, valid while the file object is alive:
  /// keep it in a stored property or use `withExtendedLifetime`.
  func bytes(of entry: TensorEntry) -> UnsafeRawBufferPointer {
    precondition(entry.range.upperBound <= data.count, "an entry of another file")
    // Safe: because of the check above.
    return UnsafeRawBufferPointer(rebasing: data[entry.range])
  }

  func bytes(of name: String) -> UnsafeRawBufferPointer? { self[name].map { bytes(of: $0) } }

  /// The tensor as float32 (see `FloatView`).
  func float32(_ name: String) throws -> FloatView {
    guard let entry = self[name] else {
      throw LorascError(
        .notFound, "\(path): there is no tensor \(quoted(name))", subject: name)
    }
    return try namingFile(path) { try stored(entry).float32() }
  }

  /// One of this file's own entries with its bytes.
  func stored(_ entry: TensorEntry) -> StoredTensor {
    StoredTensor(
      name: entry.name, type: .plain(entry.type), shape: entry.shape,
      elementCount: entry.elementCount, bytes: bytes(of: entry), owner: owner)
  }
}
