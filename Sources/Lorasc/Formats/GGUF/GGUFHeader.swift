/// One tensor of a GGUF file.
struct GGUFTensor: Equatable, Sendable {
  /// As llama.cpp names it: "blk.0.attn_q.weight".
  let name: String
  let type: GGMLType
  /// Sizes, outermost first: the file's order reversed.
  let shape: [Int]
  /// Product of the shape.
  let elementCount: Int
  /// Where the bytes are, counted from the first byte of the data.
  let range: Range<Int>
}

/// The header of a GGUF file, versions 2 and 3, little-endian, with every rule checked:
///
/// - counts, lengths and offsets stay within the file before they are used;
/// - keys and tensors' names are UTF-8, not empty, none twice; types are known;
/// - `general.alignment` is a uint32 and a power of two;
/// - each tensor has at most 4 dimensions, its rows fill whole blocks, its size doesn't overflow;
/// - the tensors, in the order of their offsets, follow each other with as much padding as the
///   alignment asks for, so that they don't overlap, and the file ends with the last one or its
///   padding.
struct GGUFHeader: Sendable {
  static let magic = Array("GGUF".utf8)
  static let versions: ClosedRange<UInt32> = 2...3
  static let highestRank = 4
  static let alignmentKey = "general.alignment"
  static let defaultAlignment = 32

  let version: UInt32
  let alignment: Int
  let metadata: GGUFMetadata
  /// In the header's order.
  let tensors: [GGUFTensor]
  /// Where the tensors' bytes start in the file.
  let dataStart: Int

  /// - Parameter owner: keeps `bytes` valid and unchanged
  /// - Throws: `.format`, `.unsupported` for other versions and types, `.limit`
  init(bytes: UnsafeRawBufferPointer, owner: AnyObject) throws {
    var cursor = GGUFCursor(bytes: bytes, owner: owner)
    guard bytes.starts(with: Self.magic) else {
      throw LorascError(.format, "is no GGUF file: it doesn't start with \"GGUF\"")
    }
    _ = try cursor.take(Self.magic.count)
    version = try Self.version(&cursor)
    // The least that each takes: a name of one byte and its length, a type, and a value of a
    // byte, or a number of dimensions and an offset.
    let tensorCount = try cursor.count(of: "tensors", size: 25)
    let keyCount = try cursor.count(of: "keys", size: 14)
    metadata = try Self.metadata(&cursor, count: keyCount)
    alignment = try Self.alignment(metadata)
    let tensors = try Self.tensors(&cursor, count: tensorCount)
    guard let start = Self.padded(cursor.position, to: alignment), start <= bytes.count else {
      guard tensors.isEmpty else {
        throw LorascError(
          .format, "the file ends at byte \(bytes.count), before the data of its tensors")
      }
      // A file of metadata only may leave out the padding.
      self.tensors = []
      dataStart = bytes.count
      return
    }
    try Self.checkOffsets(tensors, alignment: alignment, dataCount: bytes.count - start)
    self.tensors = tensors
    dataStart = start
  }

  private static func version(_ cursor: inout GGUFCursor) throws -> UInt32 {
    let version = try cursor.integer(UInt32.self)
    guard versions.contains(version) else {
      let what =
        versions.contains(version.byteSwapped) ? "is big-endian" : "has version \(version)"
      throw LorascError(
        .unsupported, "\(what); GGUF is read in versions 2 and 3, little-endian")
    }
    return version
  }

  private static func metadata(_ cursor: inout GGUFCursor, count: Int) throws -> GGUFMetadata {
    var metadata = GGUFMetadata()
    for _ in 0..<count {
      let key = try cursor.name()
      let value = try namingKey(key) { try cursor.value(try cursor.valueType()) }
      guard metadata.append(key, value) else {
        throw LorascError(.format, "the key \(quoted(key)) twice", subject: key)
      }
    }
    return metadata
  }

  static func alignment(_ metadata: GGUFMetadata) throws -> Int {
    guard let value = metadata[alignmentKey] else { return defaultAlignment }
    guard case .uint32(let alignment) = value, alignment.nonzeroBitCount == 1 else {
      throw LorascError(
        .format,
        "the key \(quoted(alignmentKey)) must be a uint32 and a power of two, it holds "
          + value.kind, subject: alignmentKey)
    }
    return Int(alignment)
  }

  private static func tensors(_ cursor: inout GGUFCursor, count: Int) throws -> [GGUFTensor] {
    var names: Set<String> = []
    return try (0..<count).map { _ in
      let name = try cursor.name()
      func bad(_ what: String, _ status: Status = .format) -> LorascError {
        LorascError(status, "tensor \(quoted(name)): \(what)", subject: name)
      }
      guard names.insert(name).inserted else { throw bad("is there twice") }
      let rank = try cursor.integer(UInt32.self)
      guard rank <= highestRank else {
        throw bad("has \(rank) dimensions, at most \(highestRank) may be")
      }
      let sizes = try (0..<rank).map { _ in try cursor.integer(UInt64.self) }
      let tag = try cursor.integer(UInt32.self)
      guard let type = GGMLType(rawValue: tag) else {
        throw bad("has type \(tag), which is not known", .unsupported)
      }
      let offset = try cursor.integer(UInt64.self)
      let shape = sizes.reversed().compactMap { Int(exactly: $0) }
      guard shape.count == sizes.count, let (elements, size) = type.byteCount(shape: shape) else {
        throw bad("\(sizes.reversed().map { $0 }) elements of \(type.name) have no size in bytes")
      }
      guard let start = Int(exactly: offset), let end = sum(start, size) else {
        throw bad("\(size) bytes at \(offset) are beyond any file")
      }
      return GGUFTensor(
        name: name, type: type, shape: shape, elementCount: elements, range: start..<end)
    }
  }

  private static func checkOffsets(
    _ tensors: [GGUFTensor], alignment: Int, dataCount: Int
  ) throws {
    // An empty tensor sorts before the one that starts where it lies.
    let sorted = tensors.sorted {
      ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound)
    }
    var due = 0
    for tensor in sorted {
      func bad(_ what: String) -> LorascError {
        LorascError(.format, "tensor \(quoted(tensor.name)): \(what)", subject: tensor.name)
      }
      guard tensor.range.lowerBound == due else {
        throw bad(
          "starts at byte \(tensor.range.lowerBound) of the data, due at \(due) with an alignment "
            + "of \(alignment)")
      }
      guard tensor.range.upperBound <= dataCount,
        let next = padded(tensor.range.upperBound, to: alignment)
      else {
        throw bad("ends at byte \(tensor.range.upperBound) of the data, the file has \(dataCount)")
      }
      due = next
    }
    guard dataCount <= due else {
      throw LorascError(
        .format, "the tensors end at byte \(due) of the data, the file has \(dataCount)",
        subject: sorted.last?.name ?? "")
    }
  }

  /// The next multiple of a power of two; nil beyond Int.
  static func padded(_ count: Int, to alignment: Int) -> Int? {
    sum(count, alignment - 1).map { $0 & ~(alignment - 1) }
  }

  static func sum(_ a: Int, _ b: Int) -> Int? {
    let (sum, overflow) = a.addingReportingOverflow(b)
    return overflow ? nil : sum
  }
}
