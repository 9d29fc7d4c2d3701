import Glibc
import Testing

@testable import Lorasc

@Suite struct FormatsSafetensorsWriterTests {
  typealias Tensor = SafetensorsWriter.Tensor

  @Test func roundTrip() throws {
    let scratch = try ScratchFolder()
    var tensors: [(tensor: Tensor, bytes: [UInt8])] = []
    for (number, type) in TensorType.allCases.enumerated() {
      let bytes = (0..<type.bits).map { UInt8(truncatingIfNeeded: $0 &* 13 &+ number) }
      tensors.append((Tensor(name: "\"é\n\(number)", type: type, shape: [2, 4]), bytes))
    }
    tensors.append((Tensor(name: "", type: .f32, shape: [3, 0]), []))
    tensors.append((Tensor(name: "scalar", type: .i64, shape: []), [1, 2, 3, 4, 5, 6, 7, 8]))
    try SafetensorsWriter.write(
      path: scratch["x.safetensors"], tensors: tensors,
      metadata: [("format", "pt"), ("a", "\u{1}é")])
    for mapped in [false, true] {
      let file = try SafetensorsFile(path: scratch["x.safetensors"], mapped: mapped)
      #expect(file.metadata.map(\.key) == ["format", "a"] && file.metadataValue("a") == "\u{1}é")
      #expect(file.entries.count == tensors.count)
      for (tensor, bytes) in tensors {
        let entry = try #require(file[tensor.name])
        #expect(entry.type == tensor.type && entry.shape == tensor.shape)
        #expect(content(file, entry) == bytes)
      }
    }
    #expect(try scratch.tree().count == 1)
  }

  @Test func dataStartsAligned() throws {
    let scratch = try ScratchFolder()
    for length in 0..<20 {
      let tensor = Tensor(name: String(repeating: "n", count: length), type: .f32, shape: [1])
      try SafetensorsWriter.write(path: scratch["x"], tensors: [(tensor, [0, 0, 128, 63])])
      let bytes = try MappedFile.readAll(path: scratch["x"])
      #expect(bytes.count % 8 == 4)
      let file = try SafetensorsFile(path: scratch["x"])
      let view = try file.float32(tensor.name)
      #expect(view.isInPlace && view.values[0] == 1)
    }
    try SafetensorsWriter.write(path: scratch["x"], tensors: [])
    #expect(try SafetensorsFile(path: scratch["x"]).entries.isEmpty)
    #expect(try scratch.text("x") == "\u{8}\0\0\0\0\0\0\0{}      ")
  }

  @Test func refuses() throws {
    let scratch = try ScratchFolder()
    try scratch.put("x", "old")
    let a = Tensor(name: "a", type: .f32, shape: [2])
    func writer(_ tensors: [Tensor], _ metadata: [(String, String)] = []) throws
      -> SafetensorsWriter
    {
      try SafetensorsWriter(
        path: scratch["x"], tensors: tensors, metadata: metadata.map { (key: $0.0, value: $0.1) })
    }
    expectFailure(.argument, "\"a\"", "twice") { _ = try writer([a, a]) }
    expectFailure(.argument, "\"k\" twice") { _ = try writer([a], [("k", ""), ("k", "")]) }
    let bad = [
      Tensor(name: "__metadata__", type: .u8, shape: []),
      Tensor(name: "n", type: .u8, shape: [-1]), Tensor(name: "n", type: .f4, shape: [3]),
      Tensor(name: "n", type: .u8, shape: [.max, 2]), Tensor(name: "n", type: .f64, shape: [.max]),
      Tensor(name: "n", type: .u8, shape: Array(repeating: 1, count: 65)),
    ]
    for tensor in bad { expectFailure(.argument, "x:") { _ = try writer([tensor]) } }
    let huge = Tensor(name: "h", type: .u8, shape: [.max / 8])
    expectFailure(.argument) {
      _ = try writer((0..<9).map { Tensor(name: "\($0)", type: huge.type, shape: huge.shape) })
    }
    // Far more than any disk holds: refused when it is reserved, nothing written.
    expectFailure(.io, "reserved") { _ = try writer([huge]) }
    let bytes = [UInt8](repeating: 7, count: 9)
    expectFailure(.argument, "\"a\"", "takes 8", "given 9") {
      try bytes.withUnsafeBytes { try writer([a]).append($0) }
    }
    expectFailure(.state, "\"a\"") { try writer([a]).commit() }
    expectFailure(.state, "all tensors") {
      try bytes.withUnsafeBytes { try writer([]).append($0) }
    }
    #expect(try scratch.tree() == ["x": "old"])
  }
}
