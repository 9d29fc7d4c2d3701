/// A trainer's whole state as one safetensors file: tensors of the adapter and the optimizer,
/// and in the metadata what is no tensor, as JSON, with a checksum over both.
///
/// Merged weights are stored as the factors they came from and added up again on reading, in
/// the same order, which gives the same bits; only where persistent noise makes the change
/// full rank, the weights themselves are stored.
enum Checkpoint {
  static let format = "lorasc-checkpoint"
  static let version = "1"

  // MARK: What it holds

  /// Named tensors in file order.
  struct Contents {
    var tensors: [(name: String, values: UnsafeBufferPointer<Float>)] = []
    var state = JSONObject()

    mutating func add(_ name: String, _ buffer: FloatBuffer) {
      tensors.append((name, UnsafeBufferPointer(buffer.buffer)))
    }

    /// Of the tensors' names and bytes, and the state's text.
    static func checksum(
      _ tensors: [(name: String, bytes: UnsafeRawBufferPointer)], _ state: String
    ) -> String {
      var print = Fingerprint()
      for (name, bytes) in tensors {
        print.combine(name)
        print.combine(bytes)
      }
      print.combine(state)
      return String(print.value, radix: 16)
    }
  }

  static func write(_ contents: Contents, to path: String) throws {
    let state = try JSONValue.object(contents.state).text(.compact)
    let sum = Contents.checksum(
      contents.tensors.map { ($0.name, UnsafeRawBufferPointer($0.values)) }, state)
    let writer = try SafetensorsWriter(
      path: path,
      tensors: contents.tensors.map { .init(name: $0.name, type: .f32, shape: [$0.values.count]) },
      metadata: [
        ("format", format), ("version", version), ("state", state), ("checksum", sum),
      ])
    for tensor in contents.tensors { try writer.append(tensor.values) }
    try writer.commit()
  }

  /// - Throws: `.format` for anything but an undamaged checkpoint.
  static func read(_ path: String) throws -> (file: SafetensorsFile, state: JSONObject) {
    let file = try SafetensorsFile(path: path)
    guard file.metadataValue("format") == format, let text = file.metadataValue("state"),
      let sum = file.metadataValue("checksum")
    else { throw LorascError(.format, "\(path): is no checkpoint of a trainer", subject: path) }
    guard file.metadataValue("version") == version else {
      throw LorascError(
        .unsupported,
        "\(path): checkpoint version \(file.metadataValue("version") ?? "?"), known: \(version)",
        subject: path)
    }
    let found = withExtendedLifetime(file) {
      Contents.checksum(file.entries.map { ($0.name, file.bytes(of: $0)) }, text)
    }
    guard found == sum else {
      throw LorascError(.format, "\(path): is damaged: its checksum does not fit", subject: path)
    }
    guard case .object(let state) = try JSONValue.parse(text) else {
      throw LorascError(.format, "\(path): its state is no object", subject: path)
    }
    return (file, state)
  }
}

extension Trainer {
  /// Writes everything a bit-for-bit continuation needs, atomically.
  ///
  /// - Throws: `.state` with gradients accumulated, `.io`
  public func save(to path: String) throws {
    try exclusively(fromCallbackToo: true) {
      guard sums.rows == 0 else { throw Self.somethingAccumulated }
      try Checkpoint.write(try contents(), to: path)
    }
  }

  private func contents() throws -> Checkpoint.Contents {
    var contents = Checkpoint.Contents()
    contents.add("parameters", adapter.parameters.values)
    contents.add("optimizer.first", optimizer.first)
    if let second = optimizer.second { contents.add("optimizer.second", second) }
    let cascade = adapter.cascade
    for (k, term) in cascade.terms.enumerated() {
      for (position, pair) in term.enumerated() {
        contents.add("term.\(k).\(position).a", pair.a)
        contents.add("term.\(k).\(position).b", pair.b)
      }
    }
    for (position, pair) in cascade.slowFactors.enumerated() {
      contents.add("slow.\(position).a", pair.a)
      contents.add("slow.\(position).b", pair.b)
    }
    for (position, initial) in cascade.initialRandom.enumerated() {
      contents.add("initial.\(position)", initial)
    }
    for (position, pair) in cascade.removed.enumerated() {
      guard let pair else { continue }
      contents.add("removed.\(position).a", pair.a)
      contents.add("removed.\(position).b", pair.b)
    }
    for (position, change) in cascade.slowChange.enumerated() {
      contents.add("slow_change.\(position)", change)
    }
    if let start = cascade.fullStart { contents.add("full_start", start) }
    if cascade.isFullRank {
      for matrix in adapter.masters.keys.sorted() {
        if let master = adapter.masters[matrix] {
          contents.add("weight." + model.matrices[matrix].name, master)
        }
      }
    }
    contents.state = try stateJSON()
    return contents
  }

  private func stateJSON() throws -> JSONObject {
    func number(_ value: Int) -> JSONValue { .integer(Int64(value)) }
    let cascade = adapter.cascade
    return [
      "model": .string(String(try model.fingerprint(), radix: 16)),
      "options": .object(try optionsJSON()),
      "adapter_options": .object(try adapterOptions()),
      "parameters": .array(parameterDescriptions()),
      "learning_rate": .number(baseLearningRate),
      "cascade": number(cascade.index),
      "rate": .number(cascade.rate),
      "rates": .array(cascade.rates.map { .number($0) }),
      "terms": number(cascade.terms.count),
      "full_rank": .bool(cascade.isFullRank),
      "factor_steps": number(optimizer.factorSteps),
      "full_steps": number(optimizer.fullSteps),
      "step": number(state.step),
      "cascade_step": number(state.cascadeStep),
      "last_cascade_steps": number(state.lastCascadeSteps),
      "total_steps": number(state.totalSteps),
      "total_cascades": number(state.totalCascades),
      "steps_per_epoch": number(state.stepsPerEpoch),
      "draw": number(state.draw),
      "epoch": number(state.epoch),
      "rows_done": number(state.rowsDone),
      "dataset_rows": number(state.datasetRows),
      "noised_cascade": number(state.noisedCascade),
      "evaluation_due": .bool(state.isEvaluationDue),
      "boundary_due": .bool(state.isBoundaryDue),
      "host_loss": .bool(hostLoss != nil),
    ]
  }

  /// The options that the continuation depends on.
  private func optionsJSON() throws -> JSONObject {
    var json = JSONObject()
    for row in OptionTable.all where row.scope == .trainer || row.key == "method" {
      json[row.key] = .string(try options.text(row.key))
    }
    return json
  }

  /// Name, shape and scale of each trainable tensor, as the first cascade has them.
  private func parameterDescriptions() -> [JSONValue] {
    var list = adapter.parameters.list.map { ($0.name, $0.shape, Float(0)) }
    for target in adapter.targets {
      let module = model.matrices[target.matrix]
      let rank = adapter.settings.ranks.rank(module.name, cascade: 1)
      list[target.a].1 = [rank, module.inFeatures]
      list[target.b].1 = [module.outFeatures, rank]
      list[target.b].2 = adapter.settings.ranks.scale(module.name, rank: rank)
    }
    return list.map { name, shape, scale in
      [
        "name": .string(name), "shape": .array(shape.map { .integer(Int64($0)) }),
        "scale": .number(Double(scale)),
      ]
    }
  }

  /// Options of the adapter that the continuation depends on and its tensors don't show.
  private func adapterOptions() throws -> JSONObject {
    var json = JSONObject()
    for key in ["lora_dropout", "dora_norm", "ranks"] {
      json[key] = .string(try adapter.settings.options.text(key))
    }
    return json
  }
}

// MARK: Resume

extension Trainer {
  /// Takes the state of a checkpoint into a trainer on the same model with the same options.
  ///
  /// - Throws: `.mismatch` with what differs as subject, `.format` for a damaged file; the
  ///   trainer is unchanged then.
  public func resume(from path: String) throws {
    try exclusively {
      let (file, json) = try Checkpoint.read(path)
      try checkMatch(json, path)
      let loaded = try namingFile(path) { try Loaded(json, file, self) }
      try take(loaded)
    }
  }

  private func checkMatch(_ json: JSONObject, _ path: String) throws {
    guard try json.string("model") == String(try model.fingerprint(), radix: 16) else {
      throw LorascError(
        .mismatch, "\(path): was made on another model than \(model.path)", subject: "model")
    }
    for (saved, own) in [
      (try json.object("options"), try optionsJSON()),
      (try json.object("adapter_options"), try adapterOptions()),
    ] {
      for member in own.members where saved[member.key] != member.value {
        throw LorascError(
          .mismatch, "\(path): was made with another value of option \(member.key)",
          subject: member.key)
      }
    }
    // States of before there was such a loss don't say so.
    let hadHostLoss = try json["host_loss"] != nil && json.bool("host_loss")
    guard hadHostLoss == (hostLoss != nil) else {
      throw LorascError(
        .mismatch,
        "\(path): was made with \(hadHostLoss ? "a loss of the host's" : "the built-in loss"): set "
          + "it before the state is taken over", subject: "loss")
    }
    let descriptions = try json.array("parameters")
    guard descriptions == parameterDescriptions() else {
      throw LorascError(
        .mismatch, "\(path): was made with other adapters than this trainer has",
        subject: "parameters")
    }
  }

  /// Everything of a checkpoint, read and checked, before anything is changed.
  private struct Loaded {
    var state = TrainerState()
    var cascade = CascadeState()
    var learningRate: Double
    var factorSteps: Int
    var fullSteps: Int
    var parameters: FloatBuffer
    var first: FloatBuffer
    var second: FloatBuffer?
    var masters: [Int: FloatBuffer] = [:]

    init(_ json: JSONObject, _ file: SafetensorsFile, _ trainer: Trainer) throws {
      var used = 0
      func tensor(_ name: String, _ count: Int) throws -> FloatBuffer {
        let view = try file.float32(name)
        guard view.count == count else {
          throw LorascError(
            .format, "tensor \(name) has \(view.count) elements, not \(count)", subject: name)
        }
        let buffer = try FloatBuffer(count: count, what: name)
        withExtendedLifetime(view) { buffer.pointer.update(from: view.pointer, count: count) }
        used += 1
        return buffer
      }
      let adapter = trainer.adapter
      let count = adapter.parameters.bufferCount
      func pair(_ prefix: String, _ position: Int, cascade: Int) throws -> FactorPair {
        let module = adapter.model.matrices[adapter.targets[position].matrix]
        let rank = adapter.settings.ranks.rank(module.name, cascade: cascade)
        return FactorPair(
          a: try tensor(prefix + ".a", rank * module.inFeatures),
          b: try tensor(prefix + ".b", rank * module.outFeatures), rank: rank,
          scale: adapter.settings.ranks.scale(module.name, rank: rank))
      }
      let counts = 0...Int.max
      learningRate = try json.double("learning_rate")
      factorSteps = try json.int("factor_steps", in: counts)
      fullSteps = try json.int("full_steps", in: counts)
      parameters = try tensor("parameters", count)
      first = try tensor("optimizer.first", count)
      second = trainer.optimizer.second == nil ? nil : try tensor("optimizer.second", count)

      cascade.rule = trainer.settings.slowRule
      cascade.index = try json.int("cascade", in: 1...Int.max - 1)
      cascade.rate = try json.double("rate")
      cascade.rates = try json.array("rates").map { value in
        switch value {
        case .number(let rate): return rate
        case .integer(let rate): return Double(rate)
        default: throw LorascError(.format, "a rate is no number", subject: "rates")
        }
      }
      cascade.isFullRank = try json.bool("full_rank")
      let terms = try json.int("terms", in: 0...Int.max)
      guard terms == cascade.rates.count, terms == cascade.index - 1,
        ([cascade.rate] + cascade.rates).allSatisfy({ $0 > 0 && $0 <= 1 })
      else { throw LorascError(.format, "cascade, terms and rates do not fit", subject: "terms") }
      for k in 0..<terms {
        cascade.terms.append(
          try adapter.targets.indices.map { try pair("term.\(k).\($0)", $0, cascade: k + 1) })
      }
      if file["slow.0.a"] != nil {
        cascade.slowFactors = try adapter.targets.indices.map {
          try pair("slow.\($0)", $0, cascade: 1)
        }
      }
      if file["initial.0"] != nil {
        cascade.initialRandom = try adapter.targets.enumerated().map { position, target in
          let factor = adapter.randomFactor(of: target)
          return try tensor("initial.\(position)", adapter.parameters.list[factor].count)
        }
      }
      if adapter.settings.initialization == .pissa {
        cascade.removed = try adapter.targets.indices.map { position in
          file["removed.\(position).a"] == nil
            ? nil : try pair("removed.\(position)", position, cascade: 1)
        }
      }
      if file["slow_change.0"] != nil {
        cascade.slowChange = try adapter.targets.enumerated().map { position, target in
          try tensor("slow_change.\(position)", adapter.model.matrices[target.matrix].count)
        }
      }
      if file["full_start"] != nil { cascade.fullStart = try tensor("full_start", count) }
      if cascade.isFullRank {
        for (matrix, module) in trainer.model.matrices.enumerated()
        where file["weight." + module.name] != nil {
          masters[matrix] = try tensor("weight." + module.name, module.count)
        }
      }
      guard used == file.entries.count else {
        throw LorascError(.format, "the checkpoint holds tensors that do not belong to it")
      }

      state.step = try json.int("step", in: counts)
      state.cascadeStep = try json.int("cascade_step", in: counts)
      state.lastCascadeSteps = try json.int("last_cascade_steps", in: counts)
      state.totalSteps = try json.int("total_steps", in: counts)
      state.totalCascades = try json.int("total_cascades", in: counts)
      state.stepsPerEpoch = try json.int("steps_per_epoch", in: counts)
      state.draw = try json.int("draw", in: counts)
      state.epoch = try json.int("epoch", in: counts)
      state.rowsDone = try json.int("rows_done", in: counts)
      state.datasetRows = try json.int("dataset_rows", in: counts)
      state.noisedCascade = try json.int("noised_cascade", in: counts)
      state.isEvaluationDue = try json.bool("evaluation_due")
      state.isBoundaryDue = try json.bool("boundary_due")
      guard state.rowsDone <= state.datasetRows, learningRate >= 0, learningRate.isFinite else {
        throw LorascError(.format, "the position in the data does not fit", subject: "rows_done")
      }
    }
  }

  private func take(_ loaded: Loaded) throws {
    let before = (adapter.cascade, adapter.masters)
    adapter.cascade = loaded.cascade
    adapter.masters = loaded.masters
    if !loaded.cascade.isFullRank {
      do {
        try adapter.rebuildMasters(plan.compute)
      } catch {
        (adapter.cascade, adapter.masters) = before
        throw error
      }
    }
    let count = adapter.parameters.bufferCount
    defer { withExtendedLifetime(loaded) {} }
    adapter.setRanks(ofCascade: loaded.cascade.index)
    bindings.bindExperts()
    adapter.parameters.values.pointer.update(from: loaded.parameters.pointer, count: count)
    optimizer.first.pointer.update(from: loaded.first.pointer, count: count)
    if let second = loaded.second {
      optimizer.second?.pointer.update(from: second.pointer, count: count)
    }
    optimizer.factorSteps = loaded.factorSteps
    optimizer.fullSteps = loaded.fullSteps
    baseLearningRate = loaded.learningRate
    state = loaded.state
    clearGradients()
    forgetCascade()
    // The views of DoRA's experts need this cascade's noise.
    if state.cascadeStep > 0 { try showTraining() }
  }
}
