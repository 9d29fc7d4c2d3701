import Glibc

/// The weights of a Hugging Face folder: `model.safetensors`, or the shards that
/// `model.safetensors.index.json` lists. Shards are mapped, not read.
///
/// The index decides: every tensor of its `weight_map` must be in the shard it names.
/// A tensor that a shard holds and the index doesn't list is not part of the model; its
/// name is in `unlisted`. A single file has no such. Pickles are never opened.
extension TensorStore {
  static let single = "model.safetensors"
  static let index = "model.safetensors.index.json"
  private static let mostShards = 10_000

  /// - Throws: `.notFound` without weights, `.unsupported` with other weights only,
  ///   and everything `SafetensorsFile` throws.
  convenience init(folder: String) throws {
    try Files.check(path: folder)
    guard let status = Files.status(of: folder) else {
      throw Files.failure("cannot be opened", folder)
    }
    guard Files.isFolder(status) else {
      throw LorascError(.io, "\(folder): is not a folder", subject: folder, errno: ENOTDIR)
    }
    let single = Files.join(folder, Self.single)
    let index = Files.join(folder, Self.index)
    if Files.status(of: single) != nil {
      let file = try SafetensorsFile(path: single, mapped: true)
      self.init(path: folder, files: [file], listed: nil)
    } else if Files.status(of: index) != nil {
      let (shards, listed) = try Self.open(index: index, folder: folder)
      self.init(path: folder, files: shards, listed: listed)
    } else {
      throw Self.nothing(in: folder)
    }
  }

  /// One safetensors file, mapped.
  convenience init(file path: String) throws {
    self.init(path: path, files: [try SafetensorsFile(path: path, mapped: true)], listed: nil)
  }

  /// `listed`: for each tensor of an index the position of its file.
  private convenience init(path: String, files: [SafetensorsFile], listed: [String: Int]?) {
    var tensors: [StoredTensor] = []
    var unlisted: [String] = []
    for (position, file) in files.enumerated() {
      for entry in file.entries {
        if let listed, listed[entry.name] != position {
          // Listed in another shard: a copy that the index overrules, not a stranger.
          if listed[entry.name] == nil { unlisted.append(entry.name) }
          continue
        }
        tensors.append(file.stored(entry))
      }
    }
    self.init(path: path, tensors, unlisted: unlisted)
  }

  /// Reads an index and opens its shards, each once.
  private static func open(
    index: String, folder: String
  ) throws -> (shards: [SafetensorsFile], listed: [String: Int]) {
    let map = try namingFile(index) { [root = try JSONObject.read(path: index)] in
      try root.object("weight_map")
    }
    var shardOfTensor: [(tensor: String, shard: String)] = []
    for member in map.members {
      guard case .string(let shard) = member.value else {
        throw LorascError(
          .format,
          "\(index): tensor \(quoted(member.key)) maps to \(member.value.kind), not a file name",
          subject: member.key)
      }
      shardOfTensor.append((member.key, shard))
    }
    let shardNames = Set(shardOfTensor.map(\.shard)).sorted {
      $0.utf8.lexicographicallyPrecedes($1.utf8)
    }
    guard !shardNames.isEmpty else {
      throw LorascError(.format, "\(index): weight_map is empty", subject: "weight_map")
    }
    guard shardNames.count <= mostShards else {
      throw LorascError(.limit, "\(index): names more than \(mostShards) files", subject: index)
    }
    var shards: [SafetensorsFile] = []
    var positions: [String: Int] = [:]
    for name in shardNames {
      try check(shard: name, index: index)
      positions[name] = shards.count
      shards.append(try SafetensorsFile(path: Files.join(folder, name), mapped: true))
    }
    var listed: [String: Int] = [:]
    listed.reserveCapacity(shardOfTensor.count)
    for (tensor, shard) in shardOfTensor {
      guard let position = positions[shard], shards[position][tensor] != nil else {
        throw LorascError(
          .format, "\(index): tensor \(quoted(tensor)) is not in \(quoted(shard))",
          subject: tensor)
      }
      listed[tensor] = position
    }
    return (shards, listed)
  }

  /// A shard is a plain file name: an index from elsewhere must not reach other files.
  private static func check(shard: String, index: String) throws {
    let bytes = shard.utf8
    guard !bytes.isEmpty, bytes.count <= 255, shard != ".", shard != "..",
      !bytes.contains(UInt8(ascii: "/")), !bytes.contains(0)
    else {
      throw LorascError(
        .format, "\(index): \(quoted(shard)) is no name of a file in its folder", subject: shard)
    }
  }

  private static func nothing(in folder: String) -> LorascError {
    for name in ["pytorch_model.bin", "pytorch_model.bin.index.json"]
    where Files.status(of: Files.join(folder, name)) != nil {
      return LorascError(
        .unsupported,
        "\(folder): holds only \(name), a pickle, which can run code and is refused; "
          + "convert it to safetensors", subject: name)
    }
    for name in ["tf_model.h5", "flax_model.msgpack"]
    where Files.status(of: Files.join(folder, name)) != nil {
      return LorascError(
        .unsupported, "\(folder): holds only \(name); convert it to safetensors", subject: name)
    }
    return LorascError(
      .notFound, "\(folder): there is no \(single) and no \(index)", subject: folder,
      errno: ENOENT)
  }
}
