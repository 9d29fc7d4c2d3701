import Foundation
import Testing

@testable import Lorasc

@Suite struct TrainerTests {
  static let dropout = ["hidden_dropout": "0.1", "attention_dropout": "0.1"]

  static let threaded: [[String: String]] = [
    dropout,
    [
      "method": "lorasc+dora", "lora_dropout": "0.2", "bias": "all", "noise_lifetime": "per_step",
    ],
    ["target_modules": "query,word_embeddings", "modules_to_save": "LayerNorm,intermediate"],
    ["method": "lorasc", "master_weights": "factors"],
  ]

  @Test(arguments: threaded, ["2", "4"])
  func bitsDoNotDependOnThreads(values: [String: String], threads: String) throws {
    let data = try TinyModel.rows(40)
    defer { withExtendedLifetime(data) {} }
    func trained(_ threads: String) throws -> [UInt32] {
      let tiny = try TinyModel()
      let job = try Job(tiny.model, values.merging(["threads": threads]) { $1 })
      try job.trainer.run(data)
      return try job.mergedBits() + job.bits()
    }
    #expect(try trained(threads) == trained("1"))
  }

  @Test func unequalPartsEqualOneBatch() throws {
    let tiny = try TinyModel()
    let values = ["schedule": "constant", "class_weights": "1,2,0.5"]
    let whole = try Job(tiny.model, values)
    let parts = try Job(tiny.model, values)
    let rows: [[Int32]] = (0..<7).map { row in (0...row).map { Int32($0 * 7 + row) % 60 } }
    let labels: [Int32] = [0, 1, 2, -100, 1, 0, 2]
    let all = try Dataset(rows: rows, labels: labels)
    try withExtendedLifetime(all) { _ = try whole.trainer.accumulate(all.batch) }
    for range in [0..<1, 1..<5, 5..<7] {
      let part = try Dataset(rows: Array(rows[range]), labels: Array(labels[range]))
      try withExtendedLifetime(part) { _ = try parts.trainer.accumulate(part.batch) }
    }
    for name in whole.adapter.parameterNames {
      let (a, b) = (try whole.trainer.gradient(of: name), try parts.trainer.gradient(of: name))
      let norm = a.reduce(0) { $0 + $1 * $1 }.squareRoot()
      let difference = zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }.squareRoot()
      #expect(difference <= 1e-5 * norm + 1e-8, "\(name)")
    }
    #expect(abs(try whole.trainer.apply().loss - parts.trainer.apply().loss) < 1e-6)
  }

  static let resumed: [[String: String]] = [
    ["method": "lorasc"],
    ["method": "lorasc", "master_weights": "factors", "slow_rule": "ema"],
    ["method": "lorasc", "slow_rule": "ema", "noise_form": "gaussian"],
    ["method": "lorasc", "slow_rule": "ema_factors", "reinit": "same_a", "slow_head": "true"],
    ["method": "lorasc", "noise_lifetime": "persist", "noise_targets": "all"],
    ["method": "cola", "optimizer": "sgd", "boundary_optimizer": "keep", "schedule": "cosine"],
    ["method": "lora", "gradient_accumulation_steps": "2"],
    ["method": "lorasc+dora", "slow_rule": "ema", "lora_dropout": "0.1"],
    ["method": "lorasc+dora", "noise_lifetime": "per_step", "dora_norm": "exact"],
    ["method": "lorasc+dora", "noise_lifetime": "persist", "schedule_span": "cascade"],
    ["method": "lorasc+cola", "slow_rule": "ema"],
    ["method": "lorasc+lora+", "reinit": "keep_a", "bias": "all", "slow_head": "true"],
    ["method": "relora", "target_modules": "query,word_embeddings"],
    [
      "method": "rac-lora", "modules_to_save": "LayerNorm",
      "rank_pattern": #"{"layer.1.output.dense": 2}"#,
    ],
    [
      "method": "lorasc", "init_lora_weights": "pissa", "slow_rule": "ema_factors",
      "reinit": "same_a",
    ],
  ]

  /// Stopped after any step, saved, resumed in a new trainer: the same bits as in one go.
  @Test(arguments: resumed) func resumesBitForBit(values: [String: String]) throws {
    let values = values.merging(Self.dropout) { $1 }
    let data = try TinyModel.rows(20)
    defer { withExtendedLifetime(data) {} }
    let tiny = try TinyModel()
    let whole = try Job(tiny.model, values)
    try whole.trainer.run(data)
    let expected = try whole.mergedBits()
    let total = try whole.trainer.position().step
    let path = tiny.path + "/checkpoint"
    for stop in 1..<total {
      let first = try Job(tiny.model, values)
      let error = #expect(throws: LorascError.self) {
        try first.trainer.run(data) { progress in
          progress.event == .step && progress.step == stop ? .cancel : .goOn
        }
      }
      #expect(error?.status == .cancelled)
      try first.trainer.save(to: path)
      let second = try Job(tiny.model, values)
      try second.trainer.resume(from: path)
      try second.trainer.run(data)
      #expect(try second.mergedBits() == expected, "stopped after step \(stop)")
      #expect(try second.bits() == whole.bits())
    }
  }

  @Test func damagedCheckpointsAreRefused() throws {
    let tiny = try TinyModel()
    let job = try Job(tiny.model, ["target_modules": "query"])
    let data = try TinyModel.rows(8)
    defer { withExtendedLifetime(data) {} }
    try job.trainer.run(data)
    let path = tiny.path + "/checkpoint"
    try job.trainer.save(to: path)
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    let before = try job.mergedBits()
    var random = TestRandom(seed: 11)
    for _ in 0..<60 {
      var damaged = whole
      if random.below(2) == 0 {
        damaged[random.below(damaged.count)] ^= UInt8(1 + random.below(255))
      } else {
        damaged.removeLast(1 + random.below(damaged.count - 1))
      }
      try damaged.write(to: URL(fileURLWithPath: path))
      #expect(throws: LorascError.self) { try job.trainer.resume(from: path) }
      #expect(try job.mergedBits() == before)
    }
    try whole.write(to: URL(fileURLWithPath: path))
    let other = try Job(tiny.model, ["target_modules": "query", "learning_rate": "0.5"])
    let error = #expect(throws: LorascError.self) { try other.trainer.resume(from: path) }
    #expect(error?.status == .mismatch)
    #expect(error?.subject == "learning_rate")
  }

  @Test func aMergedFolderPredictsTheSame() throws {
    for head in ["classifier", "mean_linear"] {
      let tiny = try TinyModel()
      let job = try Job(tiny.model, ["head": head])
      let data = try TinyModel.rows(20)
      defer { withExtendedLifetime(data) {} }
      try job.trainer.run(data)
      let folder = tiny.path + "-merged"
      defer { try? FileManager.default.removeItem(atPath: folder) }
      let report = try job.adapter.merge(to: folder)
      #expect(report.changed > 0)
      let merged = try Model(path: folder)
      func logits(_ model: Model, _ adapter: Adapter?) throws -> [Float] {
        var out = [Float](repeating: 0, count: data.rows * 3)
        try out.withUnsafeMutableBufferPointer {
          try Predictor.predict(
            model: model, adapter: adapter, batch: data.batch, .logits, into: $0)
        }
        return out
      }
      #expect(try logits(merged, nil) == logits(tiny.model, job.adapter))
      #expect(throws: LorascError.self) {
        try Adapter(model: merged).merge(to: folder)
      }
    }
  }

  @Test func modelsAreNeverChanged() throws {
    let tiny = try TinyModel()
    let before = try tiny.model.fingerprint()
    let job = try Job(tiny.model, ["noise_lifetime": "persist", "noise_targets": "all"])
    try job.trainer.run(try TinyModel.rows(20))
    #expect(try tiny.model.fingerprint() == before)
  }

  @Test func interruptionsStayUntilTheyAreSeen() throws {
    let tiny = try TinyModel()
    let job = try Job(tiny.model, [:])
    job.trainer.interrupt()
    let data = try TinyModel.rows(8)
    defer { withExtendedLifetime(data) {} }
    let error = #expect(throws: LorascError.self) { try job.trainer.run(data) }
    #expect(error?.status == .interrupted)
    try job.trainer.run(data)
  }

  @Test func schedulesAreTransformers() throws {
    let schedule = try Schedule(try TinyModel.options(["schedule": "linear", "warmup_steps": "2"]))
    let factors = (0..<6).map { schedule.factor(step: $0, total: 6) }
    #expect(factors == [0, 0.5, 1, 0.75, 0.5, 0.25])
  }

  @Test func aScheduleMaySpanEachCascade() throws {
    let tiny = try TinyModel()
    let job = try Job(
      tiny.model,
      ["method": "cola", "schedule_span": "cascade", "batch_size": "4", "learning_rate": "0.01"])
    var rates: [Double] = []
    try job.trainer.run(try TinyModel.rows(16)) { progress in
      if progress.event == .step { rates.append(progress.learningRate / 0.01) }
      return .goOn
    }
    #expect(rates == [1, 0.75, 0.5, 0.25, 1, 0.75, 0.5, 0.25, 1, 0.75, 0.5, 0.25])
  }

  @Test func theRateRisesAgainAfterABoundary() throws {
    func factors(_ shape: String) throws -> [Double] {
      let schedule = try Schedule(try TinyModel.options(["schedule": shape]))
      return (0..<4).map {
        schedule.factor(step: 10 + $0, total: 20, cascadeStep: $0, rewarmup: 2)
      }
    }
    #expect(try factors("constant") == [1.0 / 3, 2.0 / 3, 1, 1])
    let cosine = (10..<14).map { 0.5 * (1 + cos(Double.pi * Double($0) / 20)) }
    #expect(try factors("jagged_cosine") == [0, cosine[2] / 2, cosine[2], cosine[3]])
  }
}
