extension Adapter {
  /// Writes the merged view in the layout of MLX's adapters: `adapters.safetensors` with
  /// `<module>.lora_a` (in, r) and `<module>.lora_b` (r, out), transposed against PEFT's, DoRA's
  /// `<module>.m` (out), and `adapter_config.json` with one rank and the scale outright.
  ///
  /// Smaller ranks are filled up with zeros; where scales differ they are folded into lora_b and
  /// the scale is 1. Tensors trained in full go along under their names.
  ///
  /// - Throws: `.unsupported` where only merged weights hold the result, `.io`, `.nonFinite`,
  ///   `.outOfMemory`
  public func exportMLX(to directory: String) throws {
    try use {
      try BLASThreads.withSingleThread {
        try Files.check(path: directory)
        let folder = try AtomicFolder(path: directory)
        try MLXFolder(self, try ExportedExperts(self, rank: nil)).write(to: folder)
      }
    }
  }
}

private struct MLXFolder {
  private let adapter: Adapter
  private let experts: [ExportedExperts.Expert]
  private let rank: Int
  /// nil: they differ, and are folded into lora_b.
  private let scale: Float?

  init(_ adapter: Adapter, _ exported: ExportedExperts) {
    self.adapter = adapter
    experts = exported.experts
    rank = experts.map(\.rank).max() ?? 0
    let scales = Set(experts.map(\.scale))
    scale = scales.count == 1 ? scales.first : nil
  }

  private func name(_ expert: ExportedExperts.Expert) -> String {
    adapter.model.matrices[expert.matrix].name
  }

  func write(to folder: AtomicFolder) throws {
    var tensors: [SafetensorsWriter.Tensor] = []
    for expert in experts {
      let module = adapter.model.matrices[expert.matrix]
      tensors.append(
        .init(name: module.name + ".lora_a", type: .f32, shape: [module.inFeatures, rank]))
      tensors.append(
        .init(name: module.name + ".lora_b", type: .f32, shape: [rank, module.outFeatures]))
      if expert.magnitude != nil {
        tensors.append(.init(name: module.name + ".m", type: .f32, shape: [module.outFeatures]))
      }
    }
    for full in adapter.fullParameters {
      let parameter = adapter.parameters.list[full.parameter]
      tensors.append(.init(name: parameter.name, type: .f32, shape: parameter.shape))
    }
    let writer = try SafetensorsWriter(
      path: try folder.path(of: "adapters.safetensors"), tensors: tensors,
      metadata: [("format", "mlx")])
    for expert in experts {
      let module = adapter.model.matrices[expert.matrix]
      try append(expert.a, rows: expert.rank, columns: module.inFeatures, isA: true, 1, writer)
      try append(
        expert.b, rows: module.outFeatures, columns: expert.rank, isA: false,
        scale == nil ? expert.scale : 1, writer)
      if let magnitude = expert.magnitude { try append(magnitude, writer) }
    }
    for full in adapter.fullParameters {
      let values = try FloatBuffer(
        count: adapter.parameters.list[full.parameter].count, what: "exported tensor")
      adapter.fullValue(full.parameter, .merged, into: values.pointer)
      try append(values, writer)
    }
    try writer.commit()
    try folder.write(try config().text(), to: "adapter_config.json")
    try folder.commit { _ in false }
  }

  /// Transposed, with zeros up to the common rank.
  private func append(
    _ factor: FloatBuffer, rows: Int, columns: Int, isA: Bool, _ weight: Float,
    _ writer: SafetensorsWriter
  ) throws {
    let (outRows, outColumns) = isA ? (columns, rank) : (rank, rows)
    let out = try FloatBuffer(count: outRows * outColumns, what: "exported factor")
    for row in 0..<rows {
      for column in 0..<columns {
        out.pointer[column * outColumns + row] = weight * factor.pointer[row * columns + column]
      }
    }
    withExtendedLifetime(factor) {}
    try append(out, writer)
  }

  private func append(_ values: FloatBuffer, _ writer: SafetensorsWriter) throws {
    try values.requireFinite("exported tensor")
    try withExtendedLifetime(values) { try writer.append(UnsafeBufferPointer(values.buffer)) }
  }

  private func config() -> JSONValue {
    [
      "fine_tune_type": .string(adapter.settings.usesDoRA ? "dora" : "lora"),
      "num_layers": .integer(Int64(adapter.model.layerCount)),
      "lora_parameters": [
        "rank": .integer(Int64(rank)), "scale": .number(Double(scale ?? 1)),
        "dropout": .number(Double(adapter.settings.dropout)),
        "keys": .array(experts.map { .string(name($0)) }),
      ],
    ]
  }
}
