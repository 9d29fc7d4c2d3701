import Testing

@testable import Lorasc

/// A GGUF file put together by hand: no help from the writer under test.
struct GGUFBytes {
  var magic = Array("GGUF".utf8)
  var version: UInt32 = 3
  /// nil: as many as there are.
  var tensorCount: UInt64?
  var keyCount: UInt64?
  var alignment = 32
  var padsHeader = true
  private var keys: [[UInt8]] = []
  private var tensors: [[UInt8]] = []
  var data: [UInt8] = []

  mutating func key(_ name: String, _ type: UInt32, _ value: [UInt8]) {
    keys.append(Self.text(name) + Self.number(type) + value)
  }

  mutating func key(_ name: String, _ text: String) { key(name, 8, Self.text(text)) }
  mutating func key(_ name: String, _ number: UInt32) { key(name, 4, Self.number(number)) }

  mutating func array(_ name: String, _ type: UInt32, count: Int, _ elements: [UInt8]) {
    key(name, 9, Self.number(type) + Self.number(UInt64(count)) + elements)
  }

  /// - Parameters:
  ///   - dimensions: innermost first
  ///   - offset: nil: behind the data so far, which then gets `bytes` and padding
  mutating func tensor(
    _ name: String, _ type: UInt32, _ dimensions: [UInt64], offset: UInt64? = nil,
    bytes: [UInt8] = []
  ) {
    tensors.append(
      Self.text(name) + Self.number(UInt32(dimensions.count))
        + dimensions.flatMap { Self.number($0) } + Self.number(type)
        + Self.number(offset ?? UInt64(data.count)))
    guard offset == nil else { return }
    data += bytes
    while data.count % alignment != 0 { data.append(0) }
  }

  var header: [UInt8] {
    var bytes = magic + Self.number(version)
    bytes += Self.number(tensorCount ?? UInt64(tensors.count))
    bytes += Self.number(keyCount ?? UInt64(keys.count))
    bytes += keys.flatMap { $0 } + tensors.flatMap { $0 }
    while padsHeader, bytes.count % alignment != 0 { bytes.append(0) }
    return bytes
  }

  var bytes: [UInt8] { header + data }

  static func number<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }

  static func text(_ text: String) -> [UInt8] {
    number(UInt64(text.utf8.count)) + Array(text.utf8)
  }
}

extension GGUFFile {
  /// A file that is in memory.
  convenience init(_ bytes: [UInt8], path: String = "(memory)") throws {
    let buffer = try AlignedBuffer<UInt8>(count: bytes.count, what: path)
    buffer.buffer.baseAddress?.update(from: bytes, count: bytes.count)
    try self.init(bytes: buffer.raw, owner: buffer, path: path)
  }

  func content(_ tensor: GGUFTensor) -> [UInt8] {
    withExtendedLifetime(self) { Array(bytes(of: tensor)) }
  }
}
