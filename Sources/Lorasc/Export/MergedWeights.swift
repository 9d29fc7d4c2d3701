import CSupport

/// The merged view tensor by tensor, and what it changes.
final class MergedWeights {
  private let adapter: Adapter
  private let model: Model
  private let compute: Compute
  private let sources: [String: Source]
  private let rounding: MergedRounding

  /// Where a tensor's merged values come from.
  private enum Source {
    case matrix(Int)
    /// A parameter that stands for no matrix.
    case full(Int)
  }

  init(_ adapter: Adapter) throws {
    self.adapter = adapter
    model = adapter.model
    compute = try model.compute(threads: model.threads)
    rounding = try MergedRounding(compute)
    var sources: [String: Source] = [:]
    for matrix in adapter.targets.map(\.matrix) + adapter.masters.keys {
      sources[model.matrices[matrix].name + ".weight"] = .matrix(matrix)
    }
    for full in adapter.fullParameters where !full.place.isHead {
      let source: Source =
        if case .weight(let matrix) = full.place { .matrix(matrix) } else { .full(full.parameter) }
      sources[adapter.parameters.list[full.parameter].name] = source
    }
    self.sources = sources
  }

  /// The report of everything that was written.
  func finished(tensors: Int) -> MergeReport {
    rounding.report.tensors = tensors
    return rounding.report
  }

  /// Whether the adapter may change the tensor.
  func mayChange(_ tensor: StoredTensor) -> Bool { sources[model.bareName(tensor.name)] != nil }

  /// Hands out a tensor of the base, merged in float32 and rounded once.
  /// - Parameters:
  ///   - type: f32, f16, bf16, Q8_0; or the tensor's own, where the adapter doesn't change it
  ///   - asStored: in the layout of the base's file, else in that of transformers
  func write(
    _ tensor: StoredTensor, as type: StoredType, asStored: Bool,
    to write: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    let source = sources[model.bareName(tensor.name)]
    if source == nil, type == tensor.type, asStored || tensor.layout == .same {
      return try withExtendedLifetime(tensor.owner) { try write(tensor.bytes) }
    }
    let base = try (asStored ? tensor.asStored : tensor).float32()
    let merged = try FloatBuffer(count: base.count, what: tensor.name)
    switch source {
    case .matrix(let matrix):
      try adapter.storedWeight(ofMatrix: matrix, .merged, into: merged, compute)
    case .full(let parameter): adapter.fullValue(parameter, .merged, into: merged.pointer)
    case nil:
      base.withBuffer { _ = merged.buffer.update(fromContentsOf: $0) }
    }
    if asStored, source != nil { try tensor.layout.store(merged, shape: tensor.shape) }
    try rounding.write(
      merged, as: type, tensor.name, base: source == nil ? nil : base, to: write)
  }

  /// Hands out a tensor of the head.
  func write(
    head parameter: Int, as type: StoredType, to write: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    let description = adapter.parameters.list[parameter]
    let values = try FloatBuffer(count: description.count, what: description.name)
    adapter.fullValue(parameter, .merged, into: values.pointer)
    try rounding.write(values, as: type, description.name, to: write)
  }
}
