import Testing

@testable import Lorasc

@Suite struct FormatsFloatViewTests {
  private func view(_ type: TensorType, _ bytes: [UInt8], pad: Int = 0) throws -> FloatView {
    let count = bytes.count * 8 / type.bits
    let header =
      #"{"t":{"dtype":"\#(type.rawValue)","shape":[\#(count)],"data_offsets":[0,\#(bytes.count)]}}"#
    let padded = header + String(repeating: " ", count: (8 - header.utf8.count % 8) % 8 + pad)
    return try SafetensorsFile(bytes: safetensors(header: padded) + bytes).float32("t")
  }

  private func bytes<Value>(_ values: [Value]) -> [UInt8] { values.withUnsafeBytes { Array($0) } }

  @Test func everyHalf() throws {
    let all = (0...UInt16.max).map { $0 }
    let floats = try view(.f16, bytes(all))
    #expect(!floats.isInPlace && floats.count == 65536 && floats.shape == [65536])
    for (half, float) in zip(all, floats.values) {
      let expected = Float(Float16(bitPattern: half))
      // Float16's own conversion makes signalling NaNs quiet; here the payload stays.
      let equal = expected.isNaN ? float.isNaN : float.bitPattern == expected.bitPattern
      if !equal { Issue.record("half \(half)") }
    }
  }

  @Test func everyBrainFloat() throws {
    let all = (0...UInt16.max).map { $0 }
    for (bits, float) in zip(all, try view(.bf16, bytes(all)).values)
    where float.bitPattern != UInt32(bits) << 16 {
      Issue.record("bfloat16 \(bits)")
    }
  }

  @Test func single() throws {
    let values: [Float] = [1, -0.0, .infinity, 0x1p-149, .pi]
    for pad in 0..<8 {
      let floats = try view(.f32, bytes(values), pad: pad)
      #expect(floats.isInPlace == (pad % 4 == 0))
      #expect(floats.values.map(\.bitPattern) == values.map(\.bitPattern))
    }
    let halves = try view(.f16, bytes([UInt16(0x3C00), 0xC000]), pad: 1)
    #expect(halves.values == [1, -2])
  }

  @Test func double() throws {
    let values = [1.5, -1e300, 0.1, .nan]
    let floats = try view(.f64, bytes(values))
    #expect(floats.values[0] == 1.5 && floats.values[1] == -.infinity)
    #expect(floats.values[2] == 0.1 && floats.values[3].isNaN)
  }

  @Test func emptyAndOthers() throws {
    for type in [TensorType.f32, .f16, .bf16, .f64] {
      #expect(try view(type, []).values.isEmpty)
    }
    for type in TensorType.allCases where ![.f32, .f16, .bf16, .f64].contains(type) {
      expectFailure(.unsupported, "\"t\"", type.rawValue) {
        _ = try view(type, [UInt8](repeating: 0, count: 24))
      }
    }
  }

  @Test func viewOutlivesTheFile() throws {
    let values: [Float] = [1, 2, 3]
    let floats = try view(.f32, bytes(values))
    #expect(Array(floats.values) == values)
  }

  @Test func unknownTensor() throws {
    let file = try SafetensorsFile(bytes: safetensors(header: "{}"), path: "f")
    expectFailure(.notFound, "f:", "\"w\"") { _ = try file.float32("w") }
  }
}
