/// A model's tensors under transformers' names, wherever they lie: in a folder of safetensors
/// files (`init(folder:)`) or a GGUF file.
final class TensorStore: @unchecked Sendable {
  /// The folder or file, for messages.
  let path: String
  /// In the order of the files.
  let names: [String]
  /// Of tensors that the files hold beside the model's, for a caller that wants to tell.
  let unlisted: [String]
  private let tensors: [String: StoredTensor]

  /// Of several tensors of one name the last one counts.
  init(path: String, _ tensors: [StoredTensor], unlisted: [String] = []) {
    self.path = path
    names = tensors.map(\.name)
    self.tensors = Dictionary(tensors.map { ($0.name, $0) }) { $1 }
    self.unlisted = unlisted
  }

  func contains(_ name: String) -> Bool { tensors[name] != nil }

  func tensor(_ name: String) throws -> StoredTensor {
    guard let tensor = tensors[name] else {
      throw LorascError(.notFound, "\(path): there is no tensor \(quoted(name))", subject: name)
    }
    return tensor
  }

  /// The tensor as float32; the view keeps what it needs alive by itself.
  func float32(_ name: String) throws -> FloatView {
    let tensor = try tensor(name)
    return try namingFile(path) { try tensor.float32() }
  }
}
