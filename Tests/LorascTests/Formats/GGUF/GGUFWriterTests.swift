import Testing

@testable import Lorasc

@Suite struct GGUFWriterTests {
  typealias Tensor = GGUFWriter.Tensor

  private func write(
    _ path: String, _ metadata: GGUFMetadata, _ tensors: [(tensor: Tensor, bytes: [UInt8])],
    calls: FileCalls = .system
  ) throws {
    let writer = try GGUFWriter(
      path: path, metadata: metadata, tensors: tensors.map(\.tensor), calls: calls)
    for (_, bytes) in tensors { try bytes.withUnsafeBytes { try writer.append($0) } }
    try writer.commit()
  }

  /// What the reader's own tests put together by hand comes out again, byte for byte.
  @Test func sameBytesAsAFileThatIsRead() throws {
    let scratch = try ScratchFolder()
    for alignment: Int? in [nil, 1, 8, 64] {
      var sample = GGUFTests.sample
      if let alignment {
        sample = GGUFBytes()
        sample.alignment = alignment
        sample.key("general.alignment", UInt32(alignment))
        sample.tensor("a", 24, [5], bytes: [1, 2, 3, 4, 5])
        sample.tensor("b", 8, [32, 2], bytes: [UInt8](repeating: 3, count: 68))
      }
      let file = try GGUFFile(sample.bytes)
      try write(
        scratch["x"], file.metadata,
        file.tensors.map {
          (Tensor(name: $0.name, type: $0.type, shape: $0.shape), file.content($0))
        })
      #expect(try MappedFile.readAll(path: scratch["x"]) == sample.bytes)
    }
  }

  @Test func everyType() throws {
    let scratch = try ScratchFolder()
    let tensors = GGMLType.allCases.map { type in
      (
        Tensor(name: type.name, type: type, shape: [2, type.block.elements]),
        [UInt8](repeating: UInt8(type.rawValue), count: 2 * type.block.bytes)
      )
    }
    try write(scratch["x"], GGUFMetadata(), tensors)
    for mapped in [false, true] {
      let file = try GGUFFile(path: scratch["x"], mapped: mapped)
      #expect(file.tensors.count == tensors.count)
      for (tensor, bytes) in tensors {
        let read = try #require(file[tensor.name])
        #expect(read.type == tensor.type && read.shape == tensor.shape)
        #expect(file.content(read) == bytes)
      }
    }
    try write(scratch["x"], GGUFMetadata(), [])
    #expect(try GGUFFile(path: scratch["x"]).tensors.isEmpty)
  }

  @Test func refuses() throws {
    let scratch = try ScratchFolder()
    try scratch.put("x", "old")
    let a = Tensor(name: "a", type: .f32, shape: [2])
    let bad: [[Tensor]] = [
      [a, a], [Tensor(name: "", type: .f32, shape: [])],
      [Tensor(name: String(repeating: "n", count: 65_536), type: .f32, shape: [])],
      [Tensor(name: "n", type: .f32, shape: [1, 1, 1, 1, 1])],
      [Tensor(name: "n", type: .q8_0, shape: [33])], [Tensor(name: "n", type: .f32, shape: [-1])],
      [Tensor(name: "n", type: .f32, shape: [.max, 2])],
      [
        Tensor(name: "n", type: .i8, shape: [.max - 100]),
        Tensor(name: "m", type: .i8, shape: [200]),
      ],
    ]
    for tensors in bad {
      expectFailure(.argument, "x:") {
        try write(scratch["x"], GGUFMetadata(), tensors.map { ($0, []) })
      }
    }
    var crooked = GGUFMetadata()
    crooked.set("general.alignment", .uint32(12))
    expectFailure(.format, "general.alignment") { try write(scratch["x"], crooked, []) }
    expectFailure(.argument, "\"a\"", "takes 8", "given 3") {
      try write(scratch["x"], GGUFMetadata(), [(a, [1, 2, 3])])
    }
    expectFailure(.state, "\"a\"") {
      try GGUFWriter(path: scratch["x"], metadata: GGUFMetadata(), tensors: [a]).commit()
    }
    #expect(try scratch.tree() == ["x": "old"])
  }

  /// The N-th system call fails: the old file stays, and nothing beside it.
  @Test func eachCallFails() throws {
    let scratch = try ScratchFolder()
    try scratch.put("x", "old")
    var metadata = GGUFMetadata()
    metadata.set("general.architecture", .string("llama"))
    let tensors = [(Tensor(name: "a", type: .f32, shape: [5]), [UInt8](repeating: 1, count: 20))]
    let counter = FaultyCalls(failing: 0)
    try write(scratch["y"], metadata, tensors, calls: counter.calls)
    // The last one, of the folder, comes after the file is in place.
    for failing in 1..<counter.made {
      let faults = FaultyCalls(failing: failing)
      expectFailure(.io) { try write(scratch["x"], metadata, tensors, calls: faults.calls) }
      #expect(try scratch.text("x") == "old" && scratch.tree().count == 2)
    }
  }

  @Test func metadataKeepsItsOrder() {
    var metadata = GGUFMetadata()
    #expect(metadata.append("a", .bool(true)) && metadata.append("b", .string("x")))
    #expect(!metadata.append("a", .bool(false)) && metadata["a"] == .bool(true))
    metadata.set("a", .uint8(3))
    metadata.set("c", .int64(-1))
    #expect(metadata.members.map(\.key) == ["a", "b", "c"] && metadata["a"] == .uint8(3))
  }
}
