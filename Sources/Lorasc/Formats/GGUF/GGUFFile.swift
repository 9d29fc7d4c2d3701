/// A GGUF file, checked when it is opened (see `GGUFHeader`); afterwards every tensor's bytes
/// are known to be there.
///
/// Files are read into memory by default. `mapped: true` maps instead, for backbone weights: see
/// the limit at `MappedFile`.
final class GGUFFile: @unchecked Sendable {
  let path: String
  let metadata: GGUFMetadata
  /// In the header's order.
  let tensors: [GGUFTensor]
  let alignment: Int

  private let data: UnsafeRawBufferPointer
  private let positions: [String: Int]
  /// Keeps the bytes alive.
  let owner: AnyObject

  /// - Throws: `.notFound`, `.io`, `.format`, `.unsupported` (version, types), `.limit`,
  ///   `.outOfMemory`; the message names the file and the key or tensor.
  convenience init(path: String, mapped: Bool = false) throws {
    let file = try OpenedFile(path: path, mapped: mapped)
    try self.init(bytes: file.bytes, owner: file.owner, path: path)
  }

  /// `owner` keeps `bytes` valid and unchanged.
  init(bytes: UnsafeRawBufferPointer, owner: AnyObject, path: String) throws {
    let header = try namingFile(path) { try GGUFHeader(bytes: bytes, owner: owner) }
    var positions: [String: Int] = [:]
    for (position, tensor) in header.tensors.enumerated() { positions[tensor.name] = position }
    self.path = path
    self.owner = owner
    self.positions = positions
    metadata = header.metadata
    tensors = header.tensors
    alignment = header.alignment
    // Safe: because the data starts within the file, or at its end.
    data = UnsafeRawBufferPointer(rebasing: bytes[header.dataStart...])
  }

  subscript(name: String) -> GGUFTensor? { positions[name].map { tensors[$0] } }

  /// The bytes of one of this file's own tensors, valid while the file object is alive: keep it
  /// in a stored property or use `withExtendedLifetime`.
  func bytes(of tensor: GGUFTensor) -> UnsafeRawBufferPointer {
    precondition(tensor.range.upperBound <= data.count, "a tensor of another file")
    // Safe: because of the check above.
    return UnsafeRawBufferPointer(rebasing: data[tensor.range])
  }
}
