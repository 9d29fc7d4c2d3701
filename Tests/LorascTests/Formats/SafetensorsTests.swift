import Testing

@testable import Lorasc

@Suite struct FormatsSafetensorsTests {
  static let a = #""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#
  static let b = #""b":{"dtype":"F16","shape":[1,2],"data_offsets":[8,12]}"#

  @Test func opens() throws {
    let header =
      #"{"__metadata__":{"format":"pt","z":""},"z":{"dtype":"I64","shape":[],"data_offsets":[12,20]},"#
      + #""e":{"shape":[0,5],"data_offsets":[12,12],"dtype":"BF16"},\#(Self.b),\#(Self.a)}   "#
    let file = try SafetensorsFile(bytes: safetensors(header: header, data: 20), path: "x")
    #expect(file.entries.map(\.name) == ["a", "b", "e", "z"])
    #expect(file.metadata.map(\.key) == ["format", "z"] && file.metadataValue("format") == "pt")
    #expect(file["b"]?.shape == [1, 2] && file["b"]?.type == .f16 && file["b"]?.elementCount == 2)
    #expect(file["z"]?.shape == [] && file["z"]?.elementCount == 1 && file["z"]?.byteCount == 8)
    #expect(file["e"]?.byteCount == 0 && file["none"] == nil)
    let data = safetensors(header: "", data: 20).dropFirst(8)
    #expect(file["b"].map { content(file, $0) } == Array(data.dropFirst(8).prefix(4)))
    #expect(file.entries.flatMap { content(file, $0) } == Array(data))
  }

  @Test func smallestFiles() throws {
    #expect(try SafetensorsFile(bytes: safetensors(header: "{}")).entries.isEmpty)
    #expect(
      try SafetensorsFile(bytes: safetensors(header: #"{"__metadata__":{}}"#)).metadata.isEmpty)
    for size in 0..<8 {
      expectFailure(.format, "(memory)", "too short") {
        _ = try SafetensorsFile(bytes: [UInt8](repeating: 0, count: size))
      }
    }
  }

  @Test func headerLength() {
    func file(_ length: UInt64, _ rest: Int) -> [UInt8] {
      withUnsafeBytes(of: length.littleEndian) { Array($0) } + [UInt8](repeating: 0x20, count: rest)
    }
    expectFailure(.format, "'{'") { _ = try SafetensorsFile(bytes: file(0, 0)) }
    expectFailure(.format, "'{'") { _ = try SafetensorsFile(bytes: file(3, 9)) }
    for length: UInt64 in [10, 100_000_000, 100_000_001, 1 << 31, 1 << 63, .max, .max - 7] {
      expectFailure(.format, "\(length)") { _ = try SafetensorsFile(bytes: file(length, 9)) }
    }
  }

  /// What stands in the header, the data's length, and what the message says.
  static let refused: [(String, Int, Status, String)] = [
    ("[]", 0, .format, "'{'"), (" {}", 0, .format, "'{'"), ("{}{}", 0, .format, "after the end"),
    ("{", 0, .format, "JSON"), ("{\(a),\(a)}", 8, .format, "\"a\" twice"),
    ("{\(a)}", 7, .format, "end at byte 8"), ("{\(a)}", 9, .format, "has 9"),
    ("{}", 1, .format, "has 1"), ("{\(a),\(b)}", 8, .format, "end at byte 12"),
    ("{\(b)}", 12, .format, "\"b\": a hole"),
    (#"{"__metadata__":[]}"#, 0, .format, "__metadata__"),
    (#"{"__metadata__":null}"#, 0, .format, "__metadata__"),
    (#"{"__metadata__":{"n":1}}"#, 0, .format, "\"n\""),
    (#"{"__metadata__":{"n":"1","n":"2"}}"#, 0, .format, "twice"),
    (#"{"__metadata__":{},"__metadata__":{}}"#, 0, .format, "twice"),
    (#"{"t":[]}"#, 0, .format, "\"t\""), (#"{"t":{}}"#, 0, .format, "no dtype"),
    (#"{"t":{"dtype":"F31","shape":[],"data_offsets":[0,4]}}"#, 4, .unsupported, "\"F31\""),
    (#"{"t":{"dtype":"f32","shape":[],"data_offsets":[0,4]}}"#, 4, .unsupported, "\"t\""),
    (#"{"t":{"dtype":4,"shape":[],"data_offsets":[0,4]}}"#, 4, .format, "no dtype"),
    (#"{"t":{"dtype":"F32","data_offsets":[0,4]}}"#, 4, .format, "no shape"),
    (#"{"t":{"dtype":"F32","shape":4,"data_offsets":[0,4]}}"#, 4, .format, "no shape"),
    (#"{"t":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}"#, 4, .format, "dimension"),
    (#"{"t":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4, .format, "dimension"),
    (#"{"t":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}"#, 4, .format, "dimension"),
    (#"{"t":{"dtype":"F32","shape":[1]}}"#, 4, .format, "data_offsets"),
    (#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#, 4, .format, "data_offsets"),
    (#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}"#, 4, .format, "data_offsets"),
    (#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4, .format, "data_offsets"),
    (#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#, 4, .format, "data_offsets"),
    (#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4.0]}}"#, 4, .format, "data_offsets"),
    (#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,5]}}"#, 5, .format, "takes 4"),
    (#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4, .format, "takes 8"),
    (#"{"t":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}"#, 1, .format, "no size"),
    (#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}"#, 4, .format, "\"x\""),
    (
      #"{"t":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#, 0, .format,
      "no size"
    ),
    (
      #"{"t":{"dtype":"F32","shape":[4611686018427387904,4,0],"data_offsets":[0,0]}}"#, 0, .format,
      "no size"
    ),
    (
      #"{"t":{"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]}}"#,
      0, .format, "no size"
    ),
    (
      #"{"t":{"dtype":"U8","shape":[1],"data_offsets":[9223372036854775806,9223372036854775807]}}"#,
      1, .format, "hole"
    ),
    (#"{"t":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,0]}}"#, 0, .format, "64"),
    (#"{\#(a),"c":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#, 8, .format, "overlaps"),
    (#"{\#(a),"c":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}}"#, 12, .format, "overlaps"),
    (#"{\#(a),"c":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}}"#, 8, .format, "overlaps"),
    (#"{\#(a),"c":{"dtype":"U8","shape":[0],"data_offsets":[9,9]}}"#, 8, .format, "hole"),
    (
      #"{"t":{"dtype":"U8","shape":[\#(String(repeating: "1,", count: 64))1],"data_offsets":[0,1]}}"#,
      1, .format, "64 dimensions"
    ),
    ("{\"t\":" + String(repeating: "[", count: 100_000), 0, .limit, "deeper"),
  ]

  @Test func refuses() {
    for (header, data, status, word) in Self.refused {
      expectFailure(status, "some/file", word) {
        _ = try SafetensorsFile(bytes: safetensors(header: header, data: data), path: "some/file")
      }
    }
    var bytes = safetensors(header: #"{"__metadata__":{"k":"é"}}"#)
    bytes[bytes.count - 5] = 0x28
    expectFailure(.format, "UTF-8") { _ = try SafetensorsFile(bytes: bytes) }
  }

  @Test func rankAndSmallTypes() throws {
    let ones = Array(repeating: "1", count: 64).joined(separator: ",")
    let header =
      #"{"t":{"dtype":"U8","shape":[\#(ones)],"data_offsets":[0,1]},"#
      + #""u":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[1,4]}}"#
    #expect(try SafetensorsFile(bytes: safetensors(header: header, data: 4)).entries.count == 2)
  }

  @Test func eachType() throws {
    for type in TensorType.allCases {
      let bytes = type.bits
      let header =
        #"{"t":{"dtype":"\#(type.rawValue)","shape":[2,4],"data_offsets":[0,\#(bytes)]}}"#
      let file = try SafetensorsFile(bytes: safetensors(header: header, data: bytes))
      #expect(file.entries.map(\.type) == [type])
    }
  }

  /// A file as the damage tests use it: all kinds of entries, 8-byte aligned.
  static let sample = safetensors(
    header: #"{"__metadata__":{"format":"pt"},\#(a),\#(b),"#
      + #""lora_A.weight":{"dtype":"BF16","shape":[2,1],"data_offsets":[12,16]},"#
      + #""s":{"dtype":"I64","shape":[],"data_offsets":[16,24]}}  "#, data: 24)

  @Test func truncatedAtEachByte() throws {
    _ = try SafetensorsFile(bytes: Self.sample)
    for length in 0..<Self.sample.count {
      expectFailure(.format) { _ = try SafetensorsFile(bytes: Array(Self.sample.prefix(length))) }
    }
    expectFailure(.format) { _ = try SafetensorsFile(bytes: Self.sample + [0]) }
  }

  /// Each byte of the header in each of its 255 other values: refused, or the tensors
  /// cover the same bytes.
  @Test func eachHeaderByteChanged() throws {
    let headerEnd = Self.sample.count - 24
    var accepted = 0
    for place in 0..<headerEnd {
      for value in UInt8.min...UInt8.max where value != Self.sample[place] {
        var bytes = Self.sample
        bytes[place] = value
        guard let file = try? SafetensorsFile(bytes: bytes) else { continue }
        accepted += 1
        let data = file.entries.flatMap { content(file, $0) }
        if data != Array(Self.sample[headerEnd...]) { Issue.record("\(place) \(value)") }
      }
    }
    // Other names and other types of one size are all that can get through.
    #expect(accepted > 0 && accepted < headerEnd * 255 / 4)
  }

  @Test func fuzz() throws {
    var random = FixedRandom(state: 3)
    let header = Array(Self.sample.dropFirst(8).dropLast(24))
    var accepted = 0
    for round in 0..<150_000 {
      var bytes: [UInt8]
      if round % 4 == 0 {
        bytes = mutate(Self.sample, &random)
      } else {
        let changed = mutate(header, &random)
        bytes = withUnsafeBytes(of: UInt64(changed.count).littleEndian) { Array($0) }
        bytes += changed + Self.sample.suffix(24)
      }
      let outcome = Result { try SafetensorsFile(bytes: bytes) }
      guard case .success(let file) = outcome else { continue }
      accepted += 1
      var sum = 0
      for entry in file.entries {
        sum += content(file, entry).reduce(0) { $0 + Int($1) }
        _ = try? file.float32(entry.name)
      }
      #expect(sum >= 0 && file.entries.reduce(0) { $0 + $1.byteCount } <= 24 + 16)
    }
    #expect(accepted > 500)
  }
}
