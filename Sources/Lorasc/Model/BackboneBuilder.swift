/// Collects a backbone's modules while an architecture names them, reading each from the file
/// with the shape that the sizes ask for.
struct BackboneBuilder {
  let tensors: NamedTensors
  private(set) var linears: [MatrixModule] = []
  private(set) var embeddings: [MatrixModule] = []
  private(set) var norms: [NormModule] = []

  init(_ tensors: NamedTensors) { self.tensors = tensors }

  /// A linear module: `<name>.weight` (out, in) and `<name>.bias` (out).
  /// - Returns: its index into the backbone's matrices
  mutating func linear(_ name: String, _ out: Int, _ into: Int, bias: Bool = true) throws -> Int {
    guard bias || !tensors.contains(name + ".bias") else {
      throw LorascError(
        .format,
        "\(tensors.store.path): has a tensor \(name).bias, the configuration says there is none",
        subject: name + ".bias")
    }
    linears.append(
      MatrixModule(
        name: name, kind: .linear, inFeatures: into, outFeatures: out,
        weight: try tensors.matrix(name + ".weight", shape: [out, into]),
        bias: bias ? try tensors.float32(name + ".bias", shape: [out]) : nil))
    return linears.count - 1
  }

  /// The same from a file that holds the weight as (in, out).
  mutating func conv1D(_ name: String, _ out: Int, _ into: Int) throws -> Int {
    linears.append(
      MatrixModule(
        name: name, kind: .conv1D, inFeatures: into, outFeatures: out,
        weight: try tensors.transposedMatrix(name + ".weight", shape: [into, out]),
        bias: try tensors.float32(name + ".bias", shape: [out])))
    return linears.count - 1
  }

  /// The matrix from hidden states to the vocabulary, outside the class's prefix.
  mutating func outputLayer(_ name: String, _ out: Int, _ into: Int) throws -> Int {
    linears.append(
      MatrixModule(
        name: name, kind: .linear, inFeatures: into, outFeatures: out,
        weight: try tensors.plainMatrix(name + ".weight", shape: [out, into]), bias: nil,
        isOutputLayer: true))
    return linears.count - 1
  }

  /// An embedding: `<name>.weight` (entries, columns). Only after the last linear module.
  mutating func embedding(_ name: String, _ entries: Int, _ columns: Int, padding: Int? = nil)
    throws -> Int
  {
    embeddings.append(
      MatrixModule(
        name: name, kind: .embedding(paddingIndex: padding), inFeatures: entries,
        outFeatures: columns,
        weight: try tensors.matrix(name + ".weight", shape: [entries, columns]), bias: nil))
    return linears.count + embeddings.count - 1
  }

  mutating func layerNorm(_ name: String, _ columns: Int, _ epsilon: Float) throws -> Int {
    norms.append(
      NormModule(
        name: name, gamma: try tensors.float32(name + ".weight", shape: [columns]),
        beta: try tensors.float32(name + ".bias", shape: [columns]), epsilon: epsilon,
        columns: columns))
    return norms.count - 1
  }

  mutating func rmsNorm(_ name: String, _ columns: Int, _ epsilon: Float) throws -> Int {
    norms.append(
      NormModule(
        name: name, gamma: try tensors.float32(name + ".weight", shape: [columns]), beta: nil,
        epsilon: epsilon, columns: columns))
    return norms.count - 1
  }

  /// Hands the modules over.
  func finish(_ backbone: inout Backbone) {
    backbone.matrices = linears + embeddings
    backbone.norms = norms
  }
}
