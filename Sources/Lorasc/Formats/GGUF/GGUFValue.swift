/// The types of metadata values, by their tags.
enum GGUFValueType: UInt32, CaseIterable, Sendable {
  case uint8 = 0
  case int8 = 1
  case uint16 = 2
  case int16 = 3
  case uint32 = 4
  case int32 = 5
  case float32 = 6
  case bool = 7
  case string = 8
  case array = 9
  case uint64 = 10
  case int64 = 11
  case float64 = 12

  /// Bytes of a value; nil for strings and arrays, which say their length themselves.
  var size: Int? {
    switch self {
    case .uint8, .int8, .bool: 1
    case .uint16, .int16: 2
    case .uint32, .int32, .float32: 4
    case .uint64, .int64, .float64: 8
    case .string, .array: nil
    }
  }
}

/// A value of a GGUF file's metadata, in the type that the file gives it.
enum GGUFValue: Equatable, Sendable {
  case uint8(UInt8)
  case int8(Int8)
  case uint16(UInt16)
  case int16(Int16)
  case uint32(UInt32)
  case int32(Int32)
  case float32(Float)
  case bool(Bool)
  case string(String)
  case array(GGUFArray)
  case uint64(UInt64)
  case int64(Int64)
  case float64(Double)

  var type: GGUFValueType {
    switch self {
    case .uint8: .uint8
    case .int8: .int8
    case .uint16: .uint16
    case .int16: .int16
    case .uint32: .uint32
    case .int32: .int32
    case .float32: .float32
    case .bool: .bool
    case .string: .string
    case .array: .array
    case .uint64: .uint64
    case .int64: .int64
    case .float64: .float64
    }
  }

  /// Of any integer type; nil for other types and beyond Int.
  var integer: Int? {
    switch self {
    case .uint8(let value): Int(value)
    case .int8(let value): Int(value)
    case .uint16(let value): Int(value)
    case .int16(let value): Int(value)
    case .uint32(let value): Int(value)
    case .int32(let value): Int(value)
    case .uint64(let value): Int(exactly: value)
    case .int64(let value): Int(value)
    case .float32, .float64, .bool, .string, .array: nil
    }
  }

  /// Of any number type, as the nearest double.
  var number: Double? {
    switch self {
    case .float32(let value): Double(value)
    case .float64(let value): value
    case .uint64(let value): Double(value)
    default: integer.map(Double.init)
    }
  }

  var flag: Bool? { if case .bool(let value) = self { value } else { nil } }
  var text: String? { if case .string(let value) = self { value } else { nil } }

  /// What this is, for messages.
  var kind: String {
    switch self {
    case .bool(let value): "\(value)"
    case .string: "a string"
    case .array(let array): "an array of \(array.type)"
    default: number.map { "\($0)" } ?? "a number"
    }
  }
}

/// An array of a GGUF file's metadata, left where it lies in the file: its extent was checked
/// when the file was opened, its elements are decoded when they are asked for. A vocabulary
/// has hundreds of thousands.
struct GGUFArray: Equatable, @unchecked Sendable {
  let type: GGUFValueType
  let count: Int
  /// The elements as the file has them; valid while `owner` lives.
  let bytes: UnsafeRawBufferPointer
  let owner: AnyObject

  /// Above this many an array is no vocabulary, and its values would take gigabytes.
  private static let most = 4_000_000

  /// - Throws: `.format` for strings that are not UTF-8, `.limit`
  func values() throws -> [GGUFValue] {
    guard count <= Self.most else {
      throw LorascError(.limit, "an array of \(count) elements, at most \(Self.most) are read")
    }
    var cursor = GGUFCursor(bytes: bytes, owner: owner)
    return try (0..<count).map { _ in try cursor.value(type) }
  }

  static func == (a: GGUFArray, b: GGUFArray) -> Bool {
    a.type == b.type && a.count == b.count && a.bytes.elementsEqual(b.bytes)
  }
}
