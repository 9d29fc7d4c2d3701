/// The header of a safetensors file, with every rule checked:
///
/// - 8 bytes of length, little-endian, at most 100 MB and within the file;
/// - strict JSON that starts with `{`, no name twice, `__metadata__` strings only;
/// - each tensor has exactly `dtype`, `shape`, `data_offsets`; its span is as long as
///   its shape and type say, with overflow checked;
/// - the spans in their order leave no hole, don't overlap and end where the file ends.
struct SafetensorsHeader: Sendable {
  static let longest = 100_000_000
  /// The format knows no bound; NumPy stops at 64, and nothing real goes beyond 8.
  static let highestRank = 64

  /// By offset; of tensors without bytes at one offset, in the header's order.
  let entries: [TensorEntry]
  let metadata: [(key: String, value: String)]
  /// Where the tensors' bytes start in the file.
  let dataStart: Int

  /// - Throws: `.format`, `.unsupported` for an unknown dtype, `.limit`.
  init(bytes: UnsafeRawBufferPointer) throws {
    guard bytes.count >= 8 else {
      throw LorascError(.format, "is \(bytes.count) bytes long, too short for safetensors")
    }
    // Safe: because at least 8 bytes are there; loadUnaligned needs no alignment.
    let announced = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
    guard let length = Int(exactly: announced), length <= Self.longest else {
      throw LorascError(
        .format, "announces a header of \(announced) bytes, more than \(Self.longest)")
    }
    guard length <= bytes.count - 8 else {
      throw LorascError(
        .format, "announces a header of \(length) bytes, the file has \(bytes.count - 8)")
    }
    // Safe: because 8 + length <= bytes.count.
    let header = UnsafeRawBufferPointer(rebasing: bytes[8..<8 + length])
    guard header.first == UInt8(ascii: "{") else {
      throw LorascError(.format, "the header does not start with '{'")
    }
    guard case .object(let object) = try JSONValue.parse(header) else {
      throw LorascError(.format, "the header is not an object")
    }
    var metadata: [(key: String, value: String)] = []
    var entries: [TensorEntry] = []
    entries.reserveCapacity(object.count)
    for member in object.members {
      if member.key == "__metadata__" {
        metadata = try Self.metadata(member.value)
      } else {
        entries.append(try Self.entry(member.key, member.value))
      }
    }
    self.entries = try Self.checkedOrder(entries, dataCount: bytes.count - 8 - length)
    self.metadata = metadata
    dataStart = 8 + length
  }

  private static func metadata(_ value: JSONValue) throws -> [(key: String, value: String)] {
    guard case .object(let object) = value else {
      throw LorascError(
        .format, "__metadata__ is \(value.kind), not an object", subject: "__metadata__")
    }
    return try object.members.map { member in
      guard case .string(let text) = member.value else {
        throw LorascError(
          .format,
          "__metadata__ key \(quoted(member.key)) holds \(member.value.kind), not a string",
          subject: member.key)
      }
      return (member.key, text)
    }
  }

  private static func entry(_ name: String, _ value: JSONValue) throws -> TensorEntry {
    func bad(_ what: String, _ status: Status = .format) -> LorascError {
      LorascError(status, "tensor \(quoted(name)): \(what)", subject: name)
    }
    guard case .object(let fields) = value else { throw bad("is \(value.kind), not an object") }
    for key in fields.keys where !["dtype", "shape", "data_offsets"].contains(key) {
      throw bad("unknown field \(quoted(key))")
    }
    guard case .string(let typeName)? = fields["dtype"] else { throw bad("no dtype") }
    guard let type = TensorType(rawValue: typeName) else {
      throw bad("unknown dtype \(quoted(typeName))", .unsupported)
    }
    guard case .array(let sizes)? = fields["shape"] else { throw bad("no shape") }
    guard sizes.count <= highestRank else { throw bad("more than \(highestRank) dimensions") }
    let shape = try sizes.map { size in
      guard case .integer(let size) = size, size >= 0 else {
        throw bad("a dimension that is no integer from 0 on")
      }
      return Int(size)
    }
    guard case .array(let offsets)? = fields["data_offsets"], offsets.count == 2,
      case .integer(let begin) = offsets[0], case .integer(let end) = offsets[1],
      0 <= begin, begin <= end
    else { throw bad("data_offsets are not two integers 0 <= begin <= end") }
    guard let (elements, bytes) = type.byteCount(shape: shape) else {
      throw bad("shape \(shape) of \(typeName) has no size in bytes")
    }
    // Safe: because 0 <= begin <= end, the difference can't overflow.
    guard bytes == end - begin else {
      throw bad("shape \(shape) of \(typeName) takes \(bytes) bytes, its span \(end - begin)")
    }
    return TensorEntry(
      name: name, type: type, shape: shape, elementCount: elements, range: Int(begin)..<Int(end))
  }

  private static func checkedOrder(
    _ entries: [TensorEntry], dataCount: Int
  ) throws -> [TensorEntry] {
    // An empty span sorts before the span that starts where it lies.
    let sorted = entries.enumerated().sorted { a, b in
      let left = (a.element.range.lowerBound, a.element.range.upperBound, a.offset)
      return left < (b.element.range.lowerBound, b.element.range.upperBound, b.offset)
    }.map(\.element)
    var end = 0
    for entry in sorted {
      guard entry.range.lowerBound == end else {
        let what = entry.range.lowerBound > end ? "a hole before it" : "overlaps the one before"
        throw LorascError(
          .format,
          "tensor \(quoted(entry.name)): \(what): starts at \(entry.range.lowerBound), due at \(end)",
          subject: entry.name)
      }
      end = entry.range.upperBound
    }
    guard end == dataCount else {
      throw LorascError(
        .format, "the tensors end at byte \(end) of the data, the file has \(dataCount)",
        subject: sorted.last?.name ?? "")
    }
    return sorted
  }
}
