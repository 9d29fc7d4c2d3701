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
  ]

  @Test(arguments: configurations) func agreesWithFiniteDifferences(values: [String: String]) throws
  {
    let tiny = try TinyModel()
    let job = try Job(tiny.model, values.merging(["schedule": "constant"]) { $1 })
    // B away from 0, so that A has a gradient.
    var random = TestRandom(seed: 3)
    for name in job.adapter.parameterNames where name.contains("lora_B") {
      let count = try job.adapter.values(of: name).count
      let b = (0..<count).map { _ in 0.4 * (random.uniform() - 0.5) }
      try b.withUnsafeBufferPointer { try job.adapter.setValues(of: name, to: $0) }
    }
    let data = try TinyModel.rows(9)
    defer { withExtendedLifetime(data) {} }
    try job.trainer.accumulate(data.batch)
    let gradients = try job.adapter.parameterNames.map { ($0, try job.trainer.gradient(of: $0)) }
    try job.trainer.discardGradients()

    func loss() throws -> Double {
      // The same masks every time.
      job.trainer.state.draw = 0
      let loss = try job.trainer.accumulate(data.batch).loss
      try job.trainer.discardGradients()
      return loss
    }
    for (name, gradient) in gradients {
      let squares = gradient.reduce(0.0) { $0 + Double($1) * Double($1) }
      let norm = squares.squareRoot()
      // A key's bias-like directions have none; everything here has one.
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
      #expect(
        abs(slope - norm) <= 2e-3 * norm + 2e-5, "\(name): slope \(slope), gradient \(norm)")
    }
  }
}
