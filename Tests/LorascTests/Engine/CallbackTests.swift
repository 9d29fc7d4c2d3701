import Foundation
import Testing

@testable import Lorasc

/// Rows and losses that the host computes while a call runs.
@Suite struct CallbackTests {
  /// Rows by their numbers, in buffers that every request writes over.
  final class Store {
    let rows: [[Int32]]
    let labels: [Int32]
    private(set) var asked: [[Int]] = []
    private var given: Dataset?

    init(_ count: Int) {
      rows = (0..<count).map { row in (0...(row % 9)).map { Int32($0 * 7 + row) % 60 } }
      labels = (0..<count).map { Int32($0 % 3) }
    }

    func load(_ numbers: UnsafeBufferPointer<Int>) throws -> Batch {
      asked.append(Array(numbers))
      let given = try Dataset(
        rows: numbers.map { rows[$0] }, labels: numbers.map { labels[$0] })
      self.given = given
      return given.batch
    }
  }

  static let settings: [[String: String]] = [
    ["method": "lorasc", "epochs": "3"],
    ["max_batch_tokens": "24", "epochs": "2", "gradient_accumulation_steps": "3"],
    ["batch_size": "1000", "shuffle": "false"],
  ]

  @Test(arguments: settings) func rowsOfAReaderTrainToTheSameBits(values: [String: String]) throws {
    let tiny = try TinyModel()
    let store = Store(40)
    let memory = try Dataset(rows: store.rows, labels: store.labels)
    let data = try Dataset(rows: 40) { try store.load($0) }
    let (a, b) = (try Job(tiny.model, values), try Job(tiny.model, values))
    try a.trainer.run(memory)
    try b.trainer.run(data)
    #expect(try a.bits() == b.bits())
    let epochs = Int(values["epochs"] ?? "3") ?? 0
    let asked = store.asked.flatMap { $0 }
    #expect(asked.count == 40 * epochs)
    #expect(Set(asked.prefix(40)) == Set(0..<40))
    let (x, y) = (try a.trainer.evaluate(memory), try b.trainer.evaluate(data))
    #expect(x.loss.bitPattern == y.loss.bitPattern && x.accuracy == y.accuracy)
    withExtendedLifetime(memory) {}
  }

  struct Mine: Error {}

  static let broken: [[String: String]] = [
    [:], TrainerTests.dropout,
    ["gradient_accumulation_steps": "2"].merging(TrainerTests.dropout) { $1 },
  ]

  /// In the middle of a step too: the next run draws the same dropout masks again.
  @Test(arguments: broken) func whatAReaderThrowsComesOut(values: [String: String]) throws {
    let tiny = try TinyModel()
    let job = try Job(tiny.model, values)
    let store = Store(40)
    var isBroken = true
    let data = try Dataset(rows: 40) { numbers in
      if isBroken, store.asked.count == 3 { throw Mine() }
      return try store.load(numbers)
    }
    #expect(throws: Mine.self) { try job.trainer.run(data) }
    let requestsPerStep = values["gradient_accumulation_steps"] == nil ? 1 : 2
    #expect(try job.trainer.position().step == 3 / requestsPerStep)
    isBroken = false
    try job.trainer.run(data)
    let whole = try Job(tiny.model, values)
    try whole.trainer.run(try Dataset(rows: 40) { try store.load($0) })
    #expect(try whole.bits() == job.bits())
  }

  @Test(arguments: [0, -1, Int(Int32.max) + 1, Int.max]) func numberOfRowsIsBounded(rows: Int) {
    #expect(throws: LorascError.self) {
      try Dataset(rows: rows) { _ in throw Mine() }
    }
  }

  // MARK: Losses

  /// Of any head, in its own arithmetic: float64, an item after the other.
  static func builtIn(_ problem: ProblemType, _ outputs: inout LossOutputs) throws {
    let loss = Loss(problem: problem, labels: outputs.width)
    let logits = try #require(outputs.logits.baseAddress)
    let weights = try #require(outputs.weights.baseAddress)
    let none = [Int32](repeating: Batch.ignoredLabel, count: outputs.count)
    let sums = try none.withUnsafeBufferPointer { none in
      try loss(
        logits: logits, gradient: outputs.gradient?.baseAddress,
        LossItems(
          count: outputs.count, labels: try #require((outputs.labels ?? none).baseAddress),
          weights: weights, targets: outputs.targets?.baseAddress,
          rows: try #require(outputs.rows.baseAddress), places: outputs.places?.baseAddress))
    }
    outputs.loss = sums.loss
  }

  static let heads: [[String: String]] = [
    ["head": "mean_linear"],
    ["head": "classifier", "hidden_dropout": "0.1"],
    ["head": "token"],
    ["head": "embedding", "num_labels": "0"],
    ["problem_type": "regression"],
    ["problem_type": "multi_label_classification"],
  ]

  @Test(arguments: heads) func theBuiltInLossAsACallbackGivesTheSameBits(
    values: [String: String]
  ) throws {
    let tiny = try TinyModel()
    let store = Store(24)
    let data = try Dataset(
      rows: store.rows, labels: store.labels,
      targets: (0..<72).map { $0 % 5 == 0 ? 1 : 0 },
      tokenLabels: store.rows.map { $0.map { $0 % 4 == 0 ? Batch.ignoredLabel : $0 % 3 } })
    defer { withExtendedLifetime(data) {} }
    let (plain, own) = (try Job(tiny.model, values), try Job(tiny.model, values))
    let problem = own.adapter.head.problem
    try own.trainer.setLoss { try Self.builtIn(problem, &$0) }
    try plain.trainer.run(data)
    try own.trainer.run(data)
    #expect(try plain.bits() == own.bits())
    let (x, y) = (try plain.trainer.evaluate(data), try own.trainer.evaluate(data))
    #expect(x.loss == y.loss && x.rows == y.rows && x.lossWeight == y.lossWeight)
    #expect(x.accuracy == y.accuracy || (x.accuracy.isNaN && y.accuracy.isNaN))
  }

  /// Of any loss: d loss / d weights by finite differences, through the whole model.
  @Test func anotherLossHasItsGradient() throws {
    let tiny = try TinyModel()
    let job = try Job(tiny.model, ["schedule": "constant"])
    let data = try TinyModel.rows(6)
    // Σ of log cosh (z), by items' weights.
    try job.trainer.setLoss { outputs in
      for (index, z) in outputs.logits.enumerated() {
        outputs.loss += log(cosh(Double(z)))
        outputs.gradient?[index] = tanh(z)
      }
    }
    let name = "classifier.weight"
    let names = job.adapter.parameterNames
    #expect(names.contains(name))
    try withExtendedLifetime(data) {
      let stats = try job.trainer.accumulate(data.batch)
      #expect(stats.lossWeight == 6)
      let gradient = try job.trainer.gradient(of: name)
      try job.trainer.discardGradients()
      var values = try job.adapter.values(of: name)
      for index in stride(from: 0, to: values.count, by: 7) {
        func loss(_ step: Float) throws -> Double {
          values[index] += step
          try values.withUnsafeBufferPointer { try job.adapter.setValues(of: name, to: $0) }
          values[index] -= step
          defer { try? job.trainer.discardGradients() }
          return try job.trainer.accumulate(data.batch).loss
        }
        let step: Float = 1e-2
        let slope = (try loss(step) - loss(-step)) / Double(2 * step)
        #expect(abs(slope - Double(gradient[index])) < 1e-3, "\(index)")
      }
    }
  }

  @Test func whatALossThrowsComesOut() throws {
    let tiny = try TinyModel()
    let job = try Job(tiny.model, [:])
    let data = try TinyModel.rows(24)
    defer { withExtendedLifetime(data) {} }
    try job.trainer.setLoss { _ in throw Mine() }
    #expect(throws: Mine.self) { try job.trainer.run(data) }
    #expect(throws: Mine.self) { try job.trainer.evaluate(data) }
    try job.trainer.setLoss(nil)
    try job.trainer.run(data)
  }
}
