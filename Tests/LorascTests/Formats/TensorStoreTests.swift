import Glibc
import Testing

@testable import Lorasc

@Suite struct FormatsTensorStoreTests {
  private func put(
    _ scratch: ScratchFolder, _ file: String, _ names: [String], fill: UInt8 = 1
  ) throws {
    try SafetensorsWriter.write(
      path: scratch[file],
      tensors: names.map { name in
        (
          SafetensorsWriter.Tensor(name: name, type: .bf16, shape: [2]),
          [0, fill, 0x80, UInt8(truncatingIfNeeded: name.utf8.count)]
        )
      })
  }

  private func index(_ map: [(String, String)]) throws -> String {
    var weights = JSONObject()
    for (tensor, file) in map { weights[tensor] = .string(file) }
    return try (["metadata": ["total_size": 8], "weight_map": .object(weights)] as JSONObject)
      .text()
  }

  @Test func singleFile() throws {
    let scratch = try ScratchFolder()
    try put(scratch, "model.safetensors", ["w", "b"])
    // transformers prefers the single file too.
    try scratch.put("model.safetensors.index.json", "not even JSON")
    let store = try TensorStore(folder: scratch.path)
    #expect(store.names == ["w", "b"] && store.unlisted.isEmpty && store.contains("w"))
    #expect(try store.tensor("w").type == .plain(.bf16) && store.tensor("b").bytes.count == 4)
    #expect(try store.float32("w").count == 2)
    expectFailure(.notFound, scratch.path, "\"x\"") { _ = try store.tensor("x") }
    expectFailure(.notFound) { _ = try store.float32("x") }
    #expect(try TensorStore(file: scratch["model.safetensors"]).names == ["w", "b"])
    symlink(scratch.path, scratch["link"])
    #expect(try TensorStore(folder: scratch["link"] + "/").names == ["w", "b"])
  }

  @Test func shards() throws {
    let scratch = try ScratchFolder()
    try put(scratch, "model-00001-of-00002.safetensors", ["a", "b", "stranger"])
    try put(scratch, "model-00002-of-00002.safetensors", ["c", "a"], fill: 9)
    let (first, second) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    try scratch.put(
      "model.safetensors.index.json", try index([("c", second), ("a", first), ("b", first)]))
    let store = try TensorStore(folder: scratch.path)
    #expect(store.names == ["a", "b", "c"] && store.unlisted == ["stranger"])
    #expect(try store.float32("a").values[0] != store.float32("c").values[0])
    let fromFirst = try SafetensorsFile(path: scratch[first]).float32("a").values
    #expect(try store.float32("a").values == fromFirst)
    expectFailure(.notFound) { _ = try store.tensor("stranger") }
  }

  @Test func badIndex() throws {
    let scratch = try ScratchFolder()
    try put(scratch, "shard", ["a"])
    try put(scratch, "outside", ["a"])
    mkdir(scratch["m"], 0o755)
    try put(scratch, "m/shard", ["a"])
    func refused(_ status: Status, _ word: String, _ text: String) throws {
      try scratch.put("m/model.safetensors.index.json", text)
      expectFailure(status, word) { _ = try TensorStore(folder: scratch["m"]) }
    }
    for name in [
      "../outside", "/etc/passwd", "..", ".", "", "a/b", "./shard", "sh\u{0}ard",
      String(repeating: "n", count: 256),
    ] {
      try refused(.format, "index.json", index([("a", name)]))
    }
    try refused(.notFound, "absent", index([("a", "absent")]))
    try refused(.format, "\"b\" is not in \"shard\"", index([("a", "shard"), ("b", "shard")]))
    try refused(.format, "empty", index([]))
    try refused(.format, "\"weight_map\" is missing", "{}")
    try refused(.format, "weight_map", #"{"weight_map":[]}"#)
    try refused(.format, "\"a\" maps to an integer", #"{"weight_map":{"a":1}}"#)
    try refused(.format, "twice", #"{"weight_map":{"a":"shard","a":"shard"}}"#)
    try refused(.format, "not an object", "[]")
    try refused(.io, "is a folder", index([("a", "folder")]).replacing("folder", in: scratch))
    try refused(.format, "JSON", "")
    try scratch.put("m/model.safetensors.index.json", index([("a", "shard")]))
    #expect(try TensorStore(folder: scratch["m"]).names == ["a"])
  }

  @Test func nothingToLoad() throws {
    let scratch = try ScratchFolder()
    expectFailure(.notFound, "no model.safetensors") { _ = try TensorStore(folder: scratch.path) }
    expectFailure(.notFound, "absent") { _ = try TensorStore(folder: scratch["absent"]) }
    try scratch.put("tf_model.h5", "x")
    expectFailure(.unsupported, "tf_model.h5") { _ = try TensorStore(folder: scratch.path) }
    try scratch.put("pytorch_model.bin", "x")
    expectFailure(.unsupported, "pickle", "safetensors") {
      _ = try TensorStore(folder: scratch.path)
    }
    expectFailure(.io, "not a folder") { _ = try TensorStore(folder: scratch["tf_model.h5"]) }
    expectFailure(.argument) { _ = try TensorStore(folder: "") }
    try scratch.put("model.safetensors", "")
    expectFailure(.format, "model.safetensors", "too short") {
      _ = try TensorStore(folder: scratch.path)
    }
  }

  @Test func fingerprint() throws {
    let scratch = try ScratchFolder()
    mkdir(scratch["one"], 0o755)
    mkdir(scratch["two"], 0o755)
    try put(scratch, "one/model.safetensors", ["b", "a"])
    try put(scratch, "two/x", ["a"])
    try put(scratch, "two/y", ["b"])
    try scratch.put("two/model.safetensors.index.json", index([("b", "y"), ("a", "x")]))
    let one = try TensorStore(folder: scratch["one"]).fingerprint()
    #expect(try TensorStore(folder: scratch["two"]).fingerprint() == one)
    try put(scratch, "two/y", ["b"], fill: 2)
    #expect(try TensorStore(folder: scratch["two"]).fingerprint() != one)
    // Pinned: adapters and checkpoints store it.
    #expect(one == 14_798_407_194_881_377_699)
  }

  @Test func fingerprintSeesEachBit() {
    func value(_ bytes: [UInt8]) -> UInt64 {
      var fingerprint = Fingerprint()
      bytes.withUnsafeBytes { fingerprint.combine($0) }
      return fingerprint.value
    }
    var seen: Set<UInt64> = []
    var count = 0
    for length in [0, 1, 7, 8, 63, 64, 65, 200] {
      var bytes = [UInt8](repeating: 0, count: length)
      seen.insert(value(bytes))
      count += 1
      for bit in 0..<length * 8 {
        bytes[bit / 8] ^= 1 << UInt8(bit % 8)
        seen.insert(value(bytes))
        count += 1
        bytes[bit / 8] ^= 1 << UInt8(bit % 8)
      }
    }
    // Exchanged words and lanes, and the top bits of two words of one lane.
    for place in 0..<24 {
      var bytes = [UInt8](repeating: 0, count: 192)
      for byte in 0..<8 { bytes[place * 8 + byte] = UInt8(byte + 1) }
      seen.insert(value(bytes))
      count += 1
      var tops = [UInt8](repeating: 0, count: 192)
      tops[7 + place / 3 * 8] = 0x80
      tops[7 + place / 3 * 8 + 64 * (place % 3 == 0 ? 1 : 2)] |= 0x80
      if place % 3 != 2 {
        seen.insert(value(tops))
        count += 1
      }
    }
    #expect(seen.count == count)
  }
}

extension String {
  /// Makes a folder of that name in "m", for an index that names it.
  fileprivate func replacing(_ name: String, in scratch: ScratchFolder) -> String {
    mkdir(scratch["m/" + name], 0o755)
    return self
  }
}
