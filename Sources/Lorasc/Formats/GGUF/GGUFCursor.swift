/// Walks over the header of a GGUF file, little-endian and without alignment. Whatever is taken
/// was found to be there first, so lengths and counts from outside reach no index.
struct GGUFCursor {
  let bytes: UnsafeRawBufferPointer
  /// Keeps `bytes`.
  let owner: AnyObject
  private(set) var position = 0

  /// Arrays in arrays; bounds the recursion.
  private static let deepest = 8
  /// Of keys and tensors' names, as the format's description has it.
  static let nameLengths = 1...65_535

  init(bytes: UnsafeRawBufferPointer, owner: AnyObject) {
    self.bytes = bytes
    self.owner = owner
  }

  var remaining: Int { bytes.count - position }

  mutating func take(_ count: some BinaryInteger) throws -> UnsafeRawBufferPointer {
    guard let count = Int(exactly: count), count <= remaining else {
      throw LorascError(
        .format, "\(count) bytes are due at byte \(position), the file has \(remaining) more")
    }
    defer { position += count }
    // Safe: because 0 <= position and position + count <= bytes.count.
    return UnsafeRawBufferPointer(rebasing: bytes[position..<position + count])
  }

  mutating func integer<Value: FixedWidthInteger>(_: Value.Type = Value.self) throws -> Value {
    // Safe: because take gave as many bytes; loadUnaligned needs no alignment.
    Value(littleEndian: try take(MemoryLayout<Value>.size).loadUnaligned(as: Value.self))
  }

  /// A number of things of which each takes at least `size` bytes.
  mutating func count(of what: String, size: Int) throws -> Int {
    let announced = try integer(UInt64.self)
    guard let count = Int(exactly: announced), count <= remaining / size else {
      throw LorascError(
        .format, "announces \(announced) \(what), the file has \(remaining) bytes for them")
    }
    return count
  }

  mutating func string() throws -> String {
    let bytes = try take(try integer(UInt64.self))
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw LorascError(.format, "a string before byte \(position) is not UTF-8")
    }
    return text
  }

  /// A key or a tensor's name.
  mutating func name() throws -> String {
    let start = position
    let name = try string()
    guard Self.nameLengths ~= name.utf8.count else {
      throw LorascError(
        .format,
        "a name of \(name.utf8.count) bytes at byte \(start), 1 to "
          + "\(Self.nameLengths.upperBound) may be")
    }
    return name
  }

  /// - Throws: `.unsupported` for a tag that isn't known
  mutating func valueType() throws -> GGUFValueType {
    let tag = try integer(UInt32.self)
    guard let type = GGUFValueType(rawValue: tag) else {
      throw LorascError(.unsupported, "a value of type \(tag), which is not known")
    }
    return type
  }

  mutating func value(_ type: GGUFValueType) throws -> GGUFValue {
    switch type {
    case .uint8: .uint8(try integer())
    case .int8: .int8(try integer())
    case .uint16: .uint16(try integer())
    case .int16: .int16(try integer())
    case .uint32: .uint32(try integer())
    case .int32: .int32(try integer())
    case .float32: .float32(Float(bitPattern: try integer()))
    case .bool: .bool(try flag())
    case .string: .string(try string())
    case .array: .array(try array())
    case .uint64: .uint64(try integer())
    case .int64: .int64(try integer())
    case .float64: .float64(Double(bitPattern: try integer()))
    }
  }

  private mutating func flag() throws -> Bool {
    let byte = try integer(UInt8.self)
    guard byte <= 1 else {
      throw LorascError(.format, "a boolean of \(byte) at byte \(position - 1)")
    }
    return byte == 1
  }

  private mutating func array(depth: Int = 1) throws -> GGUFArray {
    guard depth <= Self.deepest else {
      throw LorascError(.limit, "arrays nested deeper than \(Self.deepest) levels")
    }
    let type = try valueType()
    // An empty string is its length, an empty array its type and its count.
    let count = try count(of: "array elements", size: type.size ?? (type == .string ? 8 : 12))
    let start = position
    if let size = type.size, type != .bool {
      // Safe: because count fits what remains, the product can't overflow.
      _ = try take(count * size)
    } else {
      for _ in 0..<count {
        switch type {
        case .bool: _ = try flag()
        case .array: _ = try array(depth: depth + 1)
        default: _ = try take(try integer(UInt64.self))
        }
      }
    }
    return GGUFArray(
      type: type, count: count,
      bytes: UnsafeRawBufferPointer(rebasing: bytes[start..<position]), owner: owner)
  }
}
