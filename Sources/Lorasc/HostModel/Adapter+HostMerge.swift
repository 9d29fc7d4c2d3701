import CSupport

extension Adapter {
  /// Writes the merged view of every changed matrix over the host's own memory, each rounded once
  /// to its element type: afterwards the host's model computes what the adapter's did, and the
  /// adapter, its trainers and layers are of no more use: their calls get `.state`.
  ///
  /// - Throws: `.state` where the model is not the host's or was merged before, `.nonFinite`
  ///   (nothing is written then), `.outOfMemory`
  public func mergeIntoHost() throws {
    try use {
      guard model.isOfHost else {
        throw LorascError(
          .state, "the weights are a folder's, not the host's: use merge", subject: "model")
      }
      try model.requireUnmerged()
      try BLASThreads.withSingleThread {
        let kernels = try model.compute(threads: 1).kernels
        // All are looked at before any is written.
        try forMerged { host, values in
          let largest = kernels.max_abs(values, host.count)
          guard largest.isFinite, host.type != .float16 || largest < 65520 else {
            throw LorascError(
              .nonFinite, "merged \(host.name) holds NaN, or values beyond its element type",
              subject: host.name)
          }
        }
        try forMerged { host, values in host.replace(from: values, kernels) }
        model.markMerged()
      }
    }
  }

  /// body(matrix, merged values as the host's memory has them) for each matrix that may differ.
  private func forMerged(_ body: (HostMatrix, UnsafePointer<Float>) throws -> Void) throws {
    for (matrix, host) in model.hostMatrices.enumerated() where mayChange(matrix) {
      let merged = try hostWeight(matrix, .merged)
      try withExtendedLifetime(merged) { try body(host, merged.pointer) }
    }
  }

  private func mayChange(_ matrix: Int) -> Bool {
    targets.contains { $0.matrix == matrix } || masters[matrix] != nil
      || fullParameters.contains { $0.place == .weight(matrix) }
  }

  /// Writes model.safetensors with all merged matrices, `<name>.weight`, in the host's element
  /// types or in `type`.
  func writeHostWeights(to directory: String, as type: MergeType) throws -> MergeReport {
    let folder = try AtomicFolder(path: directory)
    let rounding = try MergedRounding(try model.compute(threads: model.threads))
    let tensors = model.hostMatrices.map {
      SafetensorsWriter.Tensor(
        name: $0.name + ".weight", type: type.plainType ?? $0.type.tensorType,
        shape: [$0.rows, $0.columns])
    }
    let writer = try SafetensorsWriter(
      path: try folder.path(of: TensorStore.single), tensors: tensors, metadata: [("format", "pt")])
    rounding.report.tensors = tensors.count
    for (matrix, tensor) in tensors.enumerated() {
      let merged = try hostWeight(matrix, .merged)
      try rounding.write(
        merged, as: .plain(tensor.type), tensor.name,
        base: mayChange(matrix)
          ? FloatView(shape: tensor.shape, try hostWeight(matrix, nil)) : nil
      ) { try writer.append($0) }
    }
    try writer.commit()
    try folder.commit(dropping: AtomicFolder.isOldWeights)
    return rounding.report
  }

  /// A matrix as the host's memory has it, merged, or with nil as it is there.
  private func hostWeight(_ matrix: Int, _ view: View?) throws -> FloatBuffer {
    let host = model.hostMatrices[matrix]
    let out = try FloatBuffer(count: host.count, what: host.name)
    let compute = try model.compute(threads: 1)
    guard let view, mayChange(matrix) else {
      host.copy(to: out.pointer, compute.kernels)
      return out
    }
    try storedWeight(ofMatrix: matrix, view, into: out, compute)
    return out
  }
}

extension HostMatrix.ElementType {
  var tensorType: TensorType {
    switch self {
    case .float32: .f32
    case .bfloat16: .bf16
    case .float16: .f16
    }
  }
}
