import Testing

@testable import Lorasc

@Suite struct GGUFTests {
  /// Every type of value, and tensors of several types, some of them empty.
  static let sample = {
    var file = GGUFBytes()
    file.key("general.architecture", "llama")
    file.key("u8", 0, [200])
    file.key("i8", 1, [200])
    file.key("u16", 2, GGUFBytes.number(UInt16(60_000)))
    file.key("i16", 3, GGUFBytes.number(Int16(-3)))
    file.key("u32", .max)
    file.key("i32", 5, GGUFBytes.number(Int32.min))
    file.key("f32", 6, GGUFBytes.number(Float(1.5).bitPattern))
    file.key("bool", 7, [1])
    file.key("u64", 10, GGUFBytes.number(UInt64.max))
    file.key("i64", 11, GGUFBytes.number(Int64.min))
    file.key("f64", 12, GGUFBytes.number(0.1.bitPattern))
    file.array("words", 8, count: 2, GGUFBytes.text("") + GGUFBytes.text("é"))
    file.array("sizes", 5, count: 2, GGUFBytes.number(Int32(-1)) + GGUFBytes.number(Int32(7)))
    file.array("scores", 6, count: 1, GGUFBytes.number(Float(-2).bitPattern))
    file.array("nothing", 7, count: 0, [])
    file.array(
      "nested", 9, count: 2,
      GGUFBytes.number(UInt32(0)) + GGUFBytes.number(UInt64(2)) + [1, 2]
        + GGUFBytes.number(UInt32(8)) + GGUFBytes.number(UInt64(0)))
    file.tensor("token_embd.weight", 8, [32, 2], bytes: (0..<68).map { UInt8($0) })
    file.tensor("none", 0, [0, 3])
    file.tensor("scalar", 0, [], bytes: [0, 0, 128, 63])
    file.tensor("blk.0.attn_norm.weight", 1, [3], bytes: [1, 2, 3, 4, 5, 6])
    return file
  }()

  @Test func opens() throws {
    let file = try GGUFFile(Self.sample.bytes, path: "x")
    let data = file.metadata
    #expect(try data.string("general.architecture") == "llama" && data["absent"] == nil)
    #expect(try data.int("u8") == 200 && data.int("i8") == -56 && data.int("u16") == 60_000)
    #expect(try data.int("i16") == -3 && data.int("u32") == Int(UInt32.max))
    #expect(try data.int("i32") == Int(Int32.min) && data.int("i64") == Int.min)
    #expect(try data.double("f32") == 1.5 && data.double("f64") == 0.1 && data.bool("bool"))
    #expect(try data.double("u64") == Double(UInt64.max) && data.double("i8") == -56)
    #expect(try data.strings("words") == ["", "é"] && data.ints("sizes") == [-1, 7])
    #expect(try data.doubles("scores") == [-2] && data.doubles("sizes") == [-1, 7])
    #expect(try data.strings("nothing") == [] && data.optionalInt("absent") == nil)
    guard case .array(let nested)? = data["nested"], case .array(let inner) = try nested.values()[0]
    else {
      Issue.record("no nested array")
      return
    }
    #expect(try inner.values() == [.uint8(1), .uint8(2)])
    #expect(data.members.count == 17 && data.members.map(\.key).last == "nested")
    #expect(
      file.tensors.map(\.name) == [
        "token_embd.weight", "none", "scalar", "blk.0.attn_norm.weight",
      ])
    let embedding = try #require(file["token_embd.weight"])
    #expect(embedding.type == .q8_0 && embedding.shape == [2, 32] && embedding.elementCount == 64)
    #expect(file.content(embedding) == (0..<68).map { UInt8($0) })
    let norm = try #require(file["blk.0.attn_norm.weight"])
    #expect(norm.type == .f16 && file.content(norm) == [1, 2, 3, 4, 5, 6])
    #expect(file["scalar"]?.elementCount == 1 && file["none"]?.elementCount == 0)
    #expect(file["absent"] == nil && file.alignment == 32)
  }

  @Test func accessorsNameTheKey() throws {
    let data = try GGUFFile(Self.sample.bytes).metadata
    let wrong: [(String, () throws -> Void)] = [
      ("absent", { _ = try data.int("absent") }), ("absent", { _ = try data.strings("absent") }),
      ("u64", { _ = try data.int("u64") }), ("f32", { _ = try data.int("f32") }),
      ("words", { _ = try data.string("words") }), ("u8", { _ = try data.bool("u8") }),
      ("bool", { _ = try data.double("bool") }), ("sizes", { _ = try data.strings("sizes") }),
      ("scores", { _ = try data.ints("scores") }), ("u8", { _ = try data.ints("u8") }),
      ("nested", { _ = try data.ints("nested") }),
    ]
    for (key, body) in wrong {
      expectFailure(.format, "\"\(key)\"") { try body() }
    }
    var file = GGUFBytes()
    file.array("t", 8, count: 1, GGUFBytes.number(UInt64(1)) + [0xFF])
    let texts = try GGUFFile(file.bytes).metadata
    expectFailure(.format, "\"t\"", "UTF-8") { _ = try texts.strings("t") }
    file.array("long", 0, count: 4_000_001, [UInt8](repeating: 0, count: 4_000_001))
    let long = try GGUFFile(file.bytes).metadata
    expectFailure(.limit, "\"long\"") { _ = try long.ints("long") }
  }

  @Test func smallestFiles() throws {
    var empty = GGUFBytes()
    empty.padsHeader = false
    #expect(try GGUFFile(empty.bytes).tensors.isEmpty)
    empty.version = 2
    #expect(try GGUFFile(empty.bytes).metadata.members.isEmpty)
    for size in 0..<24 {
      expectFailure(.format, "(memory)") { _ = try GGUFFile(Array(empty.bytes.prefix(size))) }
    }
  }

  @Test func alignment() throws {
    for alignment in [1, 2, 8, 32, 64, 4096] {
      var file = GGUFBytes()
      file.alignment = alignment
      file.key("general.alignment", UInt32(alignment))
      file.tensor("a", 24, [5], bytes: [1, 2, 3, 4, 5])
      file.tensor("b", 24, [1], bytes: [6])
      let read = try GGUFFile(file.bytes)
      #expect(read.alignment == alignment && read["b"].map(read.content) == [6])
    }
    for (type, value): (UInt32, [UInt8]) in [
      (4, GGUFBytes.number(UInt32(0))), (4, GGUFBytes.number(UInt32(3))),
      (4, GGUFBytes.number(UInt32(33))), (4, GGUFBytes.number(UInt32.max)),
      (5, GGUFBytes.number(Int32(32))), (10, GGUFBytes.number(UInt64(32))),
      (8, GGUFBytes.text("32")), (6, GGUFBytes.number(Float(32).bitPattern)),
    ] {
      var file = GGUFBytes()
      file.key("general.alignment", type, value)
      expectFailure(.format, "general.alignment", "power of two") { _ = try GGUFFile(file.bytes) }
    }
    var far = GGUFBytes()
    far.key("general.alignment", 1 << 31)
    far.tensor("a", 24, [1], bytes: [1])
    expectFailure(.format, "ends at byte") { _ = try GGUFFile(far.bytes) }
  }

  /// What is wrong, the status, and words of the message.
  static let refused: [(Status, [String], @Sendable (inout GGUFBytes) -> Void)] = [
    (.format, ["no GGUF"], { $0.magic = Array("GGML".utf8) }),
    (.format, ["no GGUF"], { $0.magic = Array("ggjt".utf8) }),
    (.unsupported, ["version 0"], { $0.version = 0 }),
    (.unsupported, ["version 1"], { $0.version = 1 }),
    (.unsupported, ["version 4"], { $0.version = 4 }),
    (.unsupported, ["big-endian"], { $0.version = UInt32(3).byteSwapped }),
    (.format, ["announces"], { $0.tensorCount = 1 << 63 }),
    (.format, ["announces"], { $0.tensorCount = .max }),
    (.format, ["announces"], { $0.tensorCount = 1000 }),
    (.format, ["announces"], { $0.keyCount = 1 << 63 }),
    (.format, ["announces"], { $0.keyCount = .max }),
    (.format, [], { $0.keyCount = 3 }),
    (.format, [], { $0.tensorCount = 3 }),
    (.format, ["file has"], { $0.tensorCount = 0 }),
    (.format, ["\"a\" twice"], { $0.key("a", 1) }),
    (.format, ["a name of 0 bytes"], { $0.key("", 1) }),
    (.format, ["a name of 65536 bytes"], { $0.key(String(repeating: "k", count: 65536), 1) }),
    (.unsupported, ["\"k\"", "type 13"], { $0.key("k", 13, []) }),
    (.unsupported, ["\"k\"", "type 4294967295"], { $0.key("k", .max, []) }),
    (.format, ["\"k\"", "boolean of 2"], { $0.key("k", 7, [2]) }),
    (.format, ["\"k\"", "UTF-8"], { $0.key("k", 8, GGUFBytes.number(UInt64(1)) + [0xC3]) }),
    (.format, ["\"k\"", "bytes are due"], { $0.key("k", 8, GGUFBytes.number(UInt64.max)) }),
    (.format, ["\"k\"", "bytes are due"], { $0.key("k", 8, GGUFBytes.number(UInt64(1) << 63)) }),
    (.unsupported, ["\"k\"", "type 13"], { $0.array("k", 13, count: 0, []) }),
    (.format, ["\"k\"", "boolean of 3"], { $0.array("k", 7, count: 1, [3]) }),
    (
      .format, ["\"k\"", "array elements"],
      { $0.key("k", 9, GGUFBytes.number(UInt32(0)) + GGUFBytes.number(UInt64.max)) }
    ),
    (
      .format, ["\"k\"", "array elements"],
      { $0.key("k", 9, GGUFBytes.number(UInt32(12)) + GGUFBytes.number(UInt64(1) << 61)) }
    ),
    (.format, ["\"k\"", "array elements"], { $0.array("k", 8, count: 1 << 40, []) }),
    (.format, ["\"k\"", "array elements"], { $0.array("k", 9, count: 1 << 40, []) }),
    (
      .limit, ["\"k\"", "nested deeper"],
      { file in
        var value = [UInt8]()
        for _ in 0..<1000 { value += GGUFBytes.number(UInt32(9)) + GGUFBytes.number(UInt64(1)) }
        file.key("k", 9, value)
      }
    ),
    (.format, ["\"t\"", "is there twice"], { $0.tensor("t", 0, [1]) }),
    (.format, ["a name of 0 bytes"], { $0.tensor("", 0, [1]) }),
    (.format, ["\"n\"", "5 dimensions"], { $0.tensor("n", 0, [1, 1, 1, 1, 1]) }),
    (.unsupported, ["\"n\"", "type 4,"], { $0.tensor("n", 4, [32]) }),
    (.unsupported, ["\"n\"", "type 31,"], { $0.tensor("n", 31, [32]) }),
    (.unsupported, ["\"n\"", "type 4294967295,"], { $0.tensor("n", .max, [32]) }),
    (.format, ["\"n\"", "no size"], { $0.tensor("n", 2, [31]) }),
    (.format, ["\"n\"", "no size"], { $0.tensor("n", 12, [128, 2]) }),
    (.format, ["\"n\"", "no size"], { $0.tensor("n", 0, [1 << 63]) }),
    (.format, ["\"n\"", "no size"], { $0.tensor("n", 0, [1 << 32, 1 << 32]) }),
    (.format, ["\"n\"", "no size"], { $0.tensor("n", 0, [0, 1 << 32, 1 << 32]) }),
    (.format, ["\"n\"", "no size"], { $0.tensor("n", 0, [1 << 61]) }),
    (.format, ["\"n\"", "ends at byte"], { $0.tensor("n", 0, [1 << 40]) }),
    (.format, ["\"n\"", "beyond"], { $0.tensor("n", 24, [1 << 62], offset: 1 << 62) }),
    (.format, ["\"n\"", "beyond"], { $0.tensor("n", 24, [1], offset: 1 << 63) }),
    (.format, ["\"n\"", "due at 64"], { $0.tensor("n", 24, [1], offset: 63) }),
    (.format, ["\"n\"", "due at 64"], { $0.tensor("n", 24, [1], offset: 1 << 40) }),
    (.format, ["due at"], { $0.tensor("n", 24, [1], offset: 0) }),
    (.format, ["due at"], { $0.tensor("n", 24, [1], offset: 32) }),
    (.format, ["\"n\"", "ends at byte"], { $0.tensor("n", 24, [1], offset: 64) }),
    (.format, ["the file has 65"], { $0.data.append(0) }),
    (.format, ["\"t\"", "ends at byte 64"], { $0.data.removeLast() }),
  ]

  @Test func refuses() throws {
    for (number, (status, words, change)) in Self.refused.enumerated() {
      var file = GGUFBytes()
      file.key("a", 1)
      file.key("b", "text")
      file.tensor("t", 0, [16], bytes: [UInt8](repeating: 1, count: 64))
      _ = try GGUFFile(file.bytes)
      change(&file)
      do {
        _ = try GGUFFile(file.bytes, path: "some/file")
        Issue.record("number \(number) is not refused")
      } catch let error as LorascError {
        #expect(error.status == status, "number \(number): \(error)")
        for word in words + ["some/file"] {
          #expect(error.message.contains(word), "number \(number): \(error) names no \(word)")
        }
      }
    }
  }

  @Test func everyTypeHasItsSize() throws {
    for type in GGMLType.allCases {
      var file = GGUFBytes()
      let size = UInt64(type.block.elements)
      let bytes = [UInt8](repeating: 7, count: type.block.bytes * 6)
      file.tensor("t", type.rawValue, [size * 2, 3], bytes: bytes)
      let read = try GGUFFile(file.bytes)
      #expect(read["t"].map(read.content) == bytes)
      #expect(type.name == type.name.uppercased() && GGMLType(rawValue: type.rawValue) == type)
    }
  }
}
