import Foundation
import Testing

@testable import Lorasc

/// The properties of the cascade that hold for every slow rule.
@Suite struct CascadeTests {
  static let rules = ["interpolate", "ema", "ema_factors"]
  static let exact = ["slow_rate": "1", "noise": "0"]

  private func run(_ values: [String: String], rows: Int = 24) throws -> Job {
    let tiny = try TinyModel()
    let job = try Job(tiny.model, values)
    try job.trainer.run(try TinyModel.rows(rows))
    return job
  }

  @Test(arguments: rules) func withFullRateAndNoNoiseIsCOLA(rule: String) throws {
    let lorasc = try run(["method": "lorasc", "slow_rule": rule].merging(Self.exact) { $1 })
    let cola = try run(["method": "cola"])
    #expect(try lorasc.mergedBits() == cola.mergedBits())
    #expect(try lorasc.bits() == cola.bits())
    #expect(lorasc.adapter.cascade.index == 3)
  }

  @Test(arguments: rules) func withOneCascadeIsLoRA(rule: String) throws {
    let lorasc = try run(
      ["method": "lorasc", "slow_rule": rule, "cascade_unit": "none"].merging(Self.exact) { $1 })
    let lora = try run(["method": "lora"])
    #expect(try lorasc.mergedBits() == lora.mergedBits())
    #expect(try lorasc.bits() == lora.bits())
  }

  @Test func noiseChangesTrainingOnly() throws {
    let quiet = try run(["method": "lorasc", "noise": "0"])
    let noisy = try run(["method": "lorasc", "noise": "0.2"])
    let again = try run(["method": "lorasc", "noise": "0.2"])
    #expect(try quiet.mergedBits() != noisy.mergedBits())
    #expect(try again.mergedBits() == noisy.mergedBits())
  }

  @Test(arguments: rules) func withVanishingRateLeavesTheBackbone(rule: String) throws {
    let job = try run(["method": "lorasc", "slow_rule": rule, "slow_rate": "1e-9", "noise": "0.1"])
    for target in job.adapter.targets {
      let module = job.adapter.model.matrices[target.matrix]
      let merged = try job.trainer.merged(module.name + ".weight")
      let base = module.weight.values
      for (index, value) in merged.enumerated() {
        #expect(abs(value - base[index]) <= 1e-6)
      }
    }
  }

  /// W_T − W_0 as the sum of the fast experts with the weights of the closed form.
  @Test(arguments: ["interpolate", "ema"]) func weightsAreTheClosedForm(rule: String) throws {
    let rate = 0.3
    let job = try run([
      "method": "lorasc", "slow_rule": rule, "slow_rate": "0.3", "noise": "0", "epochs": "4",
    ])
    try job.trainer.endCascade()
    let cascades = job.adapter.cascade.terms.count
    #expect(cascades == 4)
    for (position, target) in job.adapter.targets.enumerated() {
      let module = job.adapter.model.matrices[target.matrix]
      var expected = module.weight.values.map(Double.init)
      for k in 1...cascades {
        let weight = rule == "ema" ? 1 - pow(1 - rate, Double(cascades - k + 1)) : rate
        let pair = job.adapter.cascade.terms[k - 1][position]
        for row in 0..<module.outFeatures {
          for column in 0..<module.inFeatures {
            var change = 0.0
            for rank in 0..<pair.rank {
              change +=
                Double(pair.b[row * pair.rank + rank])
                * Double(pair.a[rank * module.inFeatures + column])
            }
            expected[row * module.inFeatures + column] += weight * Double(pair.scale) * change
          }
        }
      }
      let found = job.adapter.clean(target.matrix).values(module.count)
      for index in 0..<module.count { #expect(abs(Double(found[index]) - expected[index]) < 1e-5) }
    }
  }

  @Test func aBoundaryStartsAfresh() throws {
    let tiny = try TinyModel()
    let job = try Job(tiny.model, ["method": "lorasc", "schedule": "constant"])
    let data = try TinyModel.rows(8)
    defer { withExtendedLifetime(data) {} }
    for _ in 0..<3 {
      try job.trainer.accumulate(data.batch)
      try job.trainer.apply()
    }
    let before = try job.trainer.merged("encoder.layer.0.attention.self.query.weight")
    try job.trainer.endCascade()
    #expect(job.trainer.optimizer.factorSteps == 0)
    #expect(job.trainer.optimizer.fullSteps == 3)
    for (index, parameter) in job.adapter.parameters.list.enumerated() where parameter.kind.isExpert
    {
      let values = job.adapter.parameters.buffer(index)
      #expect(values.contains { $0 != 0 } == (parameter.kind == .factorA))
      for offset in parameter.offset..<parameter.offset + parameter.count {
        #expect(job.trainer.optimizer.first[offset] == 0)
        #expect(job.trainer.optimizer.second?[offset] == 0)
      }
    }
    // With B = 0 the merged view is what the boundary merged.
    #expect(try job.trainer.merged("encoder.layer.0.attention.self.query.weight") == before)
  }

  /// COLA as an independent chain: train LoRA, save the merged model, open it anew, train
  /// again from the second cascade's A.
  @Test func colaIsAChainOfMergedModels() throws {
    let data = try TinyModel.rows(8)
    defer { withExtendedLifetime(data) {} }
    let common = [
      "schedule": "constant", "rewarmup_ratio": "0", "target_modules": "query,value",
      "head": "classifier",
    ]
    func steps(_ job: Job) throws {
      for _ in 0..<4 {
        try job.trainer.accumulate(data.batch)
        try job.trainer.apply()
      }
    }
    let tiny = try TinyModel()
    let cola = try Job(tiny.model, common.merging(["method": "cola"]) { $1 })
    try steps(cola)
    try cola.trainer.endCascade()
    let secondA = try cola.adapter.parameterNames.filter { $0.contains("lora_A") }
      .map { ($0, try cola.adapter.values(of: $0)) }
    let headMoments = cola.trainer.optimizer
    try steps(cola)

    let first = try Job(tiny.model, common.merging(["method": "lora"]) { $1 })
    try steps(first)
    let folder = tiny.path + "-merged"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try first.adapter.merge(to: folder)
    let second = try Job(try Model(path: folder), common.merging(["method": "lora"]) { $1 })
    for (name, values) in secondA {
      try values.withUnsafeBufferPointer { try second.adapter.setValues(of: name, to: $0) }
    }
    // The head trains through: its moments go along.
    for parameter in second.adapter.parameters.list where !parameter.kind.isExpert {
      for index in parameter.offset..<parameter.offset + parameter.count {
        second.trainer.optimizer.first[index] = first.trainer.optimizer.first[index]
        second.trainer.optimizer.second?[index] = first.trainer.optimizer.second?[index] ?? 0
      }
    }
    second.trainer.optimizer.fullSteps = first.trainer.optimizer.fullSteps
    try steps(second)
    #expect(try second.mergedBits() == cola.mergedBits())
    #expect(headMoments.fullSteps == 8)
  }

  @Test func theListOfCascadesIsFollowed() throws {
    let tiny = try TinyModel()
    let job = try Job(
      tiny.model,
      ["method": "cola", "cascade_unit": "list", "cascade_list": "2,3,1", "epochs": "4"])
    var boundaries: [Int] = []
    try job.trainer.run(try TinyModel.rows(24)) { progress in
      if progress.event == .cascade { boundaries.append(progress.step) }
      return .goOn
    }
    #expect(boundaries == [2, 5, 12])
  }
}
