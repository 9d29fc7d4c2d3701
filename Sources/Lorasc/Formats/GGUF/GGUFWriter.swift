/// Writes a GGUF file, version 3, tensor by tensor, atomically.
///
/// The header comes first, so metadata, names, types and shapes are given at the start; then each
/// tensor's bytes in that order, then `commit`.
final class GGUFWriter {
  struct Tensor: Equatable, Sendable {
    var name: String
    var type: GGMLType
    /// Outermost first.
    var shape: [Int]
  }

  private let sink: TensorSink

  /// - Parameter metadata: its `general.alignment`, if any, is that of the file
  /// - Throws: `.argument` for a name that is given twice, empty or too long, or a shape without a
  ///   size; `.io` as `AtomicFile`
  init(
    path: String, metadata: GGUFMetadata, tensors: [Tensor], calls: FileCalls = .system
  ) throws {
    let alignment = try GGUFHeader.alignment(metadata)
    var header = GGUFHeader.magic
    var sizes: [(name: String, bytes: Int)] = []
    header += bytes(GGUFHeader.versions.upperBound)
    header += bytes(UInt64(tensors.count)) + bytes(UInt64(metadata.members.count))
    for member in metadata.members {
      header += bytes(member.key) + bytes(member.value.type.rawValue) + bytes(member.value)
    }
    var names: Set<String> = []
    var offset = 0
    for tensor in tensors {
      func bad(_ what: String) -> LorascError {
        LorascError(
          .argument, "\(path): tensor \(quoted(tensor.name)): \(what)", subject: tensor.name)
      }
      guard names.insert(tensor.name).inserted, GGUFCursor.nameLengths ~= tensor.name.utf8.count
      else { throw bad("the name is given twice, empty or too long") }
      guard tensor.shape.count <= GGUFHeader.highestRank,
        let size = tensor.type.byteCount(shape: tensor.shape)?.bytes,
        let end = GGUFHeader.sum(offset, size),
        let next = GGUFHeader.padded(end, to: alignment)
      else { throw bad("shape \(tensor.shape) of \(tensor.type.name) has no size in bytes") }
      header += bytes(tensor.name) + bytes(UInt32(tensor.shape.count))
      for dimension in tensor.shape.reversed() { header += bytes(UInt64(dimension)) }
      header += bytes(tensor.type.rawValue) + bytes(UInt64(offset))
      sizes.append((tensor.name, size))
      offset = next
    }
    header += [UInt8](repeating: 0, count: (alignment - header.count % alignment) % alignment)
    sink = try TensorSink(
      path: path, header: header, tensors: sizes, alignment: alignment, calls: calls)
  }

  func append(_ bytes: UnsafeRawBufferPointer) throws { try sink.append(bytes) }

  func commit() throws { try sink.commit() }
}

private func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
  withUnsafeBytes(of: value.littleEndian) { Array($0) }
}

private func bytes(_ text: String) -> [UInt8] {
  bytes(UInt64(text.utf8.count)) + Array(text.utf8)
}

private func bytes(_ value: GGUFValue) -> [UInt8] {
  switch value {
  case .uint8(let value): bytes(value)
  case .int8(let value): bytes(value)
  case .uint16(let value): bytes(value)
  case .int16(let value): bytes(value)
  case .uint32(let value): bytes(value)
  case .int32(let value): bytes(value)
  case .float32(let value): bytes(value.bitPattern)
  case .bool(let value): [value ? 1 : 0]
  case .string(let value): bytes(value)
  case .array(let array):
    withExtendedLifetime(array.owner) {
      bytes(array.type.rawValue) + bytes(UInt64(array.count)) + Array(array.bytes)
    }
  case .uint64(let value): bytes(value)
  case .int64(let value): bytes(value)
  case .float64(let value): bytes(value.bitPattern)
  }
}
