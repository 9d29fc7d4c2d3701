import Testing

@testable import Lorasc

/// Gradients against finite differences: for each trainable tensor, the derivative of the loss
/// along its own gradient.
@Suite struct GradientTests {
  static let configurations: [[String: String]] = [
    ["head": "classifier"],
    ["head": "mean_linear"],
    ["head": "classifier", "modules_to_save": "pooler", "target_modules": "query,value"],
    ["head": "mean_linear", "target_modules": "output.dense", "label_smoothing": "0.2"],
    ["head": "mean_linear", "class_weights": "0.5,1,2", "use_rslora": "true"],
    [
      "head": "classifier", "hidden_dropout": "0.2", "attention_dropout": "0.3",
      "classifier_dropout": "0.1",
    ],
    ["head": "mean_linear", "target_modules": "encoder.layer.1.intermediate.dense"],
    ["head": "mean_linear", "noise": "0.3", "noise_targets": "all"],
    ["head": "mean_linear", "lora_dropout": "0.3"],
    ["head": "classifier", "use_dora": "true", "dora_norm": "exact", "noise": "0"],
    [
      "head": "mean_linear", "use_dora": "true", "dora_norm": "exact", "lora_dropout": "0.3",
      "noise": "0.2",
    ],
    [
      "head": "mean_linear", "noise": "0",
      "target_modules": "word_embeddings,position_embeddings,token_type_embeddings,value",
    ],
    ["head": "classifier", "bias": "all"],
    ["head": "mean_linear", "bias": "lora_only", "target_modules": "query,output.dense"],
    [
      "head": "classifier", "modules_to_save": "LayerNorm,embeddings,layer.0.intermediate",
      "target_modules": "query",
    ],
    ["head": "mean_linear", "rank_pattern": #"{"query": 1, "0.output.dense": 5}"#],
    ["head": "mean_linear", "noise_form": "row_scaled", "noise_lifetime": "per_step"],
  ]
  /// The norms of DoRA count as constants.
  static let detached: [[String: String]] = [
    ["head": "mean_linear", "use_dora": "true", "noise": "0"],
    ["head": "classifier", "use_dora": "true", "noise": "0", "lora_dropout": "0.3"],
  ]

  @Test(arguments: configurations) func agreesWithFiniteDifferences(values: [String: String]) throws
  {
    try check(values) { _ in }
  }

  /// Holding c fixed is the same as moving m with it: m' = m c(θ) / c(θ₀).
  @Test(arguments: detached) func agreesWithTheNormsHeldFixed(values: [String: String]) throws {
    var start: [String: [Double]] = [:]
    try check(values) { job in
      for target in job.adapter.targets {
        guard let magnitude = target.magnitude else { continue }
        let norms = try Self.norms(job, target)
        let name = job.adapter.parameters.list[magnitude].name
        let before = start[name] ?? norms
        start[name] = norms
        let moved = zip(try job.adapter.values(of: name), zip(norms, before)).map {
          Float(Double($0) * $1.0 / $1.1)
        }
        try moved.withUnsafeBufferPointer { try job.adapter.setValues(of: name, to: $0) }
      }
    }
  }

  /// ‖W + s B A‖ by rows.
  private static func norms(_ job: Job, _ target: AdapterTarget) throws -> [Double] {
    let module = job.adapter.model.matrices[target.matrix]
    let a = job.adapter.parameters.buffer(target.a)
    let b = job.adapter.parameters.buffer(target.b)
    return try module.weight.withFloats { weight in
      (0..<module.outFeatures).map { row in
        (0..<module.inFeatures).reduce(0.0) { sum, column in
          var value = Double(weight[row * module.inFeatures + column])
          for k in 0..<target.rank {
            value +=
              Double(target.scale) * Double(b[row * target.rank + k])
              * Double(a[k * module.inFeatures + column])
          }
          return sum + value * value
        }.squareRoot()
      }
    }
  }

  /// - Parameter settle: called before each loss, to put right what a moved tensor disturbs
  private func check(_ values: [String: String], settle: (Job) throws -> Void) throws {
    let tiny = try TinyModel()
    let job = try Job(tiny.model, values.merging(["schedule": "constant"]) { $1 })
    // B away from 0, so that A has a gradient.
    var random = TestRandom(seed: 3)
    for name in job.adapter.parameterNames
    where name.contains("lora_B") || name.contains("lora_embedding") {
      let count = try job.adapter.values(of: name).count
      let b = (0..<count).map { _ in 0.4 * (random.uniform() - 0.5) }
      try b.withUnsafeBufferPointer { try job.adapter.setValues(of: name, to: $0) }
    }
    let data = try TinyModel.rows(9)
    defer { withExtendedLifetime(data) {} }
    try job.trainer.accumulate(data.batch)
    try settle(job)
    let gradients = try job.adapter.parameterNames.map { ($0, try job.trainer.gradient(of: $0)) }
    try job.trainer.discardGradients()

    func loss() throws -> Double {
      try settle(job)
      // The same masks every time.
      job.trainer.state.draw = 0
      let loss = try job.trainer.accumulate(data.batch).loss
      try job.trainer.discardGradients()
      return loss
    }
    for (name, gradient) in gradients {
      let squares = gradient.reduce(0.0) { $0 + Double($1) * Double($1) }
      let norm = squares.squareRoot()
      // A key's bias moves all scores of a query alike: it has none.
      if name.hasSuffix("key.bias") { continue }
      #expect(norm > 1e-7, "\(name)")
      let start = try job.adapter.values(of: name)
      func along(_ step: Double) throws -> Double {
        let moved = zip(start, gradient).map { Float(Double($0) + step * Double($1) / norm) }
        try moved.withUnsafeBufferPointer { try job.adapter.setValues(of: name, to: $0) }
        return try loss()
      }
      // Richardson: the error is of fourth order in the step.
      let step = 0.02
      let near = (try along(step) - along(-step)) / (2 * step)
      let far = (try along(2 * step) - along(-2 * step)) / (4 * step)
      let slope = (4 * near - far) / 3
      try start.withUnsafeBufferPointer { try job.adapter.setValues(of: name, to: $0) }
      try settle(job)
      #expect(
        abs(slope - norm) <= 2e-3 * norm + 2e-5, "\(name): slope \(slope), gradient \(norm)")
    }
  }
}
