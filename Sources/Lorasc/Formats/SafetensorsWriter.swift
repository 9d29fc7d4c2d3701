/// Writes a safetensors file tensor by tensor, atomically.
///
/// The header comes first, so all names, types and shapes are given at the start; then
/// each tensor's bytes in that order, then `commit`. The header is padded with spaces
/// to a multiple of 8 bytes; tensors are aligned when those of wider types come first.
final class SafetensorsWriter {
  struct Tensor: Equatable, Sendable {
    var name: String
    var type: TensorType
    var shape: [Int]
  }

  private let sink: TensorSink

  /// - Throws: `.argument` for a name that is given twice or reserved, or a shape
  ///   without a size; `.io` as `AtomicFile`.
  init(
    path: String, tensors: [Tensor], metadata: [(key: String, value: String)] = [],
    calls: FileCalls = .system
  ) throws {
    let (header, sizes) = try namingFile(path) {
      try Self.header(tensors: tensors, metadata: metadata)
    }
    sink = try TensorSink(
      path: path, header: header, tensors: zip(tensors, sizes).map { ($0.name, $1) }, calls: calls)
  }

  /// The next tensor's bytes.
  func append(_ bytes: UnsafeRawBufferPointer) throws { try sink.append(bytes) }

  func append(_ values: UnsafeBufferPointer<Float>) throws {
    try append(UnsafeRawBufferPointer(values))
  }

  /// Puts the file in place.
  func commit() throws { try sink.commit() }

  /// Tensors that are in memory, in one go.
  static func write(
    path: String, tensors: [(tensor: Tensor, bytes: [UInt8])],
    metadata: [(key: String, value: String)] = [], calls: FileCalls = .system
  ) throws {
    let writer = try SafetensorsWriter(
      path: path, tensors: tensors.map(\.tensor), metadata: metadata, calls: calls)
    for (_, bytes) in tensors { try bytes.withUnsafeBytes { try writer.append($0) } }
    try writer.commit()
  }

  /// Length, JSON and padding, and each tensor's bytes.
  private static func header(
    tensors: [Tensor], metadata: [(key: String, value: String)]
  ) throws -> (bytes: [UInt8], sizes: [Int]) {
    var object = JSONObject()
    if !metadata.isEmpty {
      var pairs = JSONObject()
      for (key, value) in metadata where !pairs.append(key, .string(value)) {
        throw LorascError(.argument, "the metadata key \(quoted(key)) twice", subject: key)
      }
      object["__metadata__"] = .object(pairs)
    }
    var sizes: [Int] = []
    var end = 0
    for tensor in tensors {
      func bad(_ what: String) -> LorascError {
        LorascError(.argument, "tensor \(quoted(tensor.name)): \(what)", subject: tensor.name)
      }
      guard let bytes = tensor.type.byteCount(shape: tensor.shape)?.bytes else {
        throw bad("shape \(tensor.shape) has no size in bytes")
      }
      guard tensor.shape.count <= SafetensorsHeader.highestRank else {
        throw bad("more than \(SafetensorsHeader.highestRank) dimensions")
      }
      let (newEnd, overflow) = end.addingReportingOverflow(bytes)
      guard !overflow else { throw bad("the file has no size in bytes") }
      let fields: JSONObject = [
        "dtype": .string(tensor.type.rawValue),
        "shape": .array(tensor.shape.map { .integer(Int64($0)) }),
        "data_offsets": [.integer(Int64(end)), .integer(Int64(newEnd))],
      ]
      guard tensor.name != "__metadata__", object.append(tensor.name, .object(fields)) else {
        throw bad("the name is reserved or given twice")
      }
      sizes.append(bytes)
      end = newEnd
    }
    var text = Array(try object.text(.compact).utf8)
    text.append(contentsOf: repeatElement(0x20, count: (8 - text.count % 8) % 8))
    guard text.count <= SafetensorsHeader.longest else {
      throw LorascError(.limit, "the header is longer than \(SafetensorsHeader.longest) bytes")
    }
    return (withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text, sizes)
  }
}
