import Foundation
import Testing

@testable import Lorasc

/// What must hold for each method, alone and under LoRASC.
@Suite struct MethodTests {
  static let plain = ["slow_rate": "1", "noise": "0"]
  /// Each preset of LoRASC with its base.
  static let bases = [
    "lorasc+lora": [:], "lorasc+rslora": ["use_rslora": "true"],
    "lorasc+lora+": ["loraplus_lr_ratio": "16"], "lorasc+dora": ["use_dora": "true"],
    "lorasc+cola": ["ranks": "step_down"],
  ]

  private func run(_ values: [String: String], rows: Int = 24) throws -> Job {
    let tiny = try TinyModel()
    let job = try Job(tiny.model, values)
    try job.trainer.run(try TinyModel.rows(rows))
    return job
  }

  private func steps(_ job: Job, _ count: Int) throws {
    let data = try TinyModel.rows(8)
    for _ in 0..<count {
      try withExtendedLifetime(data) { _ = try job.trainer.accumulate(data.batch) }
      try job.trainer.apply()
    }
  }

  private func values(_ job: Job, _ end: String) throws -> [[Float]] {
    try job.adapter.parameterNames.filter { $0.hasSuffix(end) }.map {
      try job.adapter.values(of: $0)
    }
  }

  private func distance(_ a: [Float], _ b: [Float]) -> Double {
    zip(a, b).reduce(0.0) { max($0, abs(Double($1.0) - Double($1.1))) }
  }

  // MARK: LoRASC over each base

  @Test(arguments: bases.keys.sorted()) func withFullRateAndNoNoiseIsTheBaseInAChain(method: String)
    throws
  {
    let base = Self.bases[method] ?? [:]
    let lorasc = try run(Self.plain.merging(["method": method]) { $1 })
    let chain = try run(base.merging(["method": "cola"]) { $1 })
    #expect(try lorasc.mergedBits() == chain.mergedBits())
    #expect(try lorasc.bits() == chain.bits())
    #expect(lorasc.adapter.cascade.index == 3)
  }

  @Test(arguments: [
    ("lorasc+lora", "lora"), ("lorasc+rslora", "rslora"), ("lorasc+lora+", "lora+"),
    ("lorasc+dora", "dora"), ("lorasc+cola", "lora"),
  ]) func withOneCascadeIsTheBase(method: String, base: String) throws {
    let lorasc = try run(Self.plain.merging(["method": method, "cascade_unit": "none"]) { $1 })
    let alone = try run(["method": base])
    #expect(try lorasc.mergedBits() == alone.mergedBits())
    #expect(try lorasc.bits() == alone.bits())
  }

  @Test(arguments: bases.keys.sorted(), ["removed", "per_step"])
  func withVanishingRateLeavesTheBackbone(method: String, lifetime: String) throws {
    let job = try run(["method": method, "slow_rate": "1e-9", "noise_lifetime": lifetime])
    for target in job.adapter.targets {
      let module = job.adapter.model.matrices[target.matrix]
      let merged = try job.trainer.merged(module.name + ".weight")
      #expect(distance(merged, module.weight.values) <= 1e-6)
    }
  }

  @Test(arguments: bases.keys.sorted()) func noiseIsNoPartOfTheResult(method: String) throws {
    let job = try run(["method": method, "learning_rate": "0", "noise": "0.5"])
    for target in job.adapter.targets {
      let module = job.adapter.model.matrices[target.matrix]
      let merged = try job.trainer.merged(module.name + ".weight")
      #expect(distance(merged, module.weight.values) <= 1e-6)
    }
  }

  private func noise(_ job: Job) -> [Float] {
    let matrix = job.adapter.targets[0].matrix
    let count = job.adapter.model.matrices[matrix].count
    let shown = job.trainer.plan.layers[matrix].weight.values(count)
    return zip(shown, job.adapter.clean(matrix).values(count)).map { $0 - $1 }
  }

  @Test func rowScaledNoiseFollowsTheRows() throws {
    let tiny = try TinyModel()
    let job = try Job(
      tiny.model,
      [
        "noise_form": "row_scaled", "noise": "0.3", "schedule": "constant",
        "target_modules": "word_embeddings",
      ])
    let data = try TinyModel.rows(8)
    try withExtendedLifetime(data) { _ = try job.trainer.accumulate(data.batch) }
    let module = job.adapter.model.matrices[job.adapter.targets[0].matrix]
    let noise = noise(job)
    let base = module.weight.values
    var ratios: [Double] = []
    for row in 0..<module.rows {
      func squares(_ value: (Int) -> Float) -> Double {
        (0..<module.columns).reduce(0.0) {
          let element = Double(value(row * module.columns + $1))
          return $0 + element * element
        }
      }
      ratios.append(squares { noise[$0] } / squares { base[$0] } / 0.09)
    }
    // Each is a mean of 16 squares of N(0, 1): their mean has a deviation of √(2 / (16 · 60)).
    #expect(abs(ratios.reduce(0, +) / Double(ratios.count) - 1) < 0.2)
    #expect(ratios.allSatisfy { $0 > 0.1 && $0 < 4 })
  }

  @Test func noisePerStepIsAnotherOneEachStep() throws {
    let tiny = try TinyModel()
    func noises() throws -> [[Float]] {
      let job = try Job(
        tiny.model,
        [
          "noise_lifetime": "per_step", "schedule": "constant", "target_modules": "query",
          "cascade_unit": "none",
        ])
      let data = try TinyModel.rows(8)
      return try (0..<3).map { _ in
        try withExtendedLifetime(data) { _ = try job.trainer.accumulate(data.batch) }
        let first = noise(job)
        // Of one step: the same for all of its batches.
        try withExtendedLifetime(data) { _ = try job.trainer.accumulate(data.batch) }
        #expect(noise(job) == first)
        try job.trainer.apply()
        return first
      }
    }
    let found = try noises()
    #expect(found[0] != found[1] && found[1] != found[2])
    #expect(try noises() == found)
  }

  // MARK: DoRA

  /// W_T − W_0 as the sum of the experts' changes with the weights of the closed form.
  @Test(arguments: ["interpolate", "ema"]) func weightsOfDoRAAreTheClosedForm(rule: String) throws {
    let rate = 0.3
    let tiny = try TinyModel()
    let job = try Job(
      tiny.model,
      [
        "method": "lorasc+dora", "slow_rule": rule, "slow_rate": "0.3", "noise": "0.2",
        "schedule": "constant", "target_modules": "query",
      ])
    let target = job.adapter.targets[0]
    let module = job.adapter.model.matrices[target.matrix]
    var changes: [[Float]] = []
    for _ in 0..<4 {
      try steps(job, 3)
      let magnitude = try #require(target.magnitude)
      changes.append(
        try job.adapter.directedChange(0, magnitude, job.trainer.plan.compute).values)
      try job.trainer.endCascade()
    }
    let found = job.adapter.clean(target.matrix).values(module.count)
    let base = module.weight.values
    for index in 0..<module.count {
      var expected = Double(base[index])
      for (k, change) in changes.enumerated() {
        let weight = rule == "ema" ? 1 - pow(1 - rate, Double(changes.count - k)) : rate
        expected += weight * Double(change[index])
      }
      #expect(abs(Double(found[index]) - expected) < 1e-6)
    }
  }

  @Test func aFreshExpertOfDoRAChangesNothing() throws {
    let tiny = try TinyModel()
    let job = try Job(
      tiny.model, ["method": "lorasc+dora", "noise": "0.3", "schedule": "constant"])
    try steps(job, 3)
    try job.trainer.endCascade()
    let before = try job.merged()
    // The first batch puts the noise on, and m on the noisy rows.
    let data = try TinyModel.rows(8)
    try withExtendedLifetime(data) { _ = try job.trainer.accumulate(data.batch) }
    for target in job.adapter.targets {
      let magnitude = try #require(target.magnitude)
      let change = try job.adapter.directedChange(0, magnitude, job.trainer.plan.compute)
      #expect(change.values.allSatisfy { abs($0) < 1e-6 })
      break
    }
    #expect(distance(try job.merged(), before) < 1e-6)
    #expect(job.trainer.optimizer.factorSteps == 0)
  }

  // MARK: Boundaries

  @Test(arguments: ["new", "same_a", "keep_a", "only_b"])
  func reinitializationsLeaveOneFactorNonZero(reinit: String) throws {
    let tiny = try TinyModel()
    let job = try Job(
      tiny.model,
      [
        "method": "cola", "reinit": reinit, "schedule": "constant",
        "target_modules": "query,word_embeddings",
      ])
    let linear = "encoder.layer.0.attention.self.query.lora_A.weight"
    let initial = try job.adapter.values(of: linear)
    let embedding = try job.adapter.values(of: "embeddings.word_embeddings.lora_embedding_B")
    try steps(job, 3)
    let trained = try job.adapter.values(of: linear)
    #expect((trained == initial) == (reinit == "only_b"))
    try job.trainer.endCascade()
    let next = try job.adapter.values(of: linear)
    switch reinit {
    case "same_a":
      #expect(next == initial)
      #expect(
        try job.adapter.values(of: "embeddings.word_embeddings.lora_embedding_B") == embedding)
    case "keep_a": #expect(next == trained)
    default: #expect(next != initial && next != trained)
    }
    for (position, parameter) in job.adapter.parameters.list.enumerated()
    where parameter.kind.isExpert {
      let isRandom = parameter.kind == .factorA || parameter.kind == .embeddingB
      #expect(job.adapter.parameters.buffer(position).contains { $0 != 0 } == isRandom)
    }
  }

  @Test func ranksStepDown() throws {
    let tiny = try TinyModel()
    let job = try Job(
      tiny.model, ["method": "lorasc+cola", "r": "6", "schedule": "constant", "noise": "0"])
    let name = "encoder.layer.0.attention.self.query.lora_A.weight"
    var ranks: [Int] = []
    for _ in 0..<4 {
      ranks.append(try job.adapter.shape(of: name)[0])
      #expect(job.adapter.targets[0].scale == 16 / Float(ranks[ranks.count - 1]))
      try steps(job, 2)
      try job.trainer.endCascade()
    }
    #expect(ranks == [6, 3, 1, 1])
    #expect(job.adapter.cascade.terms.map { $0[0].rank } == ranks)
    let error = #expect(throws: LorascError.self) {
      try Job(tiny.model, ["ranks": "4,2", "reinit": "keep_a"])
    }
    #expect(error?.subject == "ranks")
  }

  @Test func pruningKeepsTheLargestMoments() throws {
    let tiny = try TinyModel()
    let job = try Job(
      tiny.model, ["method": "relora", "schedule": "constant", "target_modules": "query"])
    try steps(job, 3)
    let optimizer = job.trainer.optimizer
    let parameter = job.adapter.parameters.list[job.adapter.targets[0].a]
    func moments() -> [Float] {
      (0..<parameter.count).map { optimizer.first[parameter.offset + $0] }
    }
    let before = moments()
    try job.trainer.endCascade()
    let after = moments()
    let kept = after.indices.filter { after[$0] != 0 }
    #expect(optimizer.factorSteps == 3)
    #expect(abs(Double(kept.count) - 0.1 * Double(before.count)) <= 1)
    let smallest = kept.map { abs(before[$0]) }.min() ?? 0
    for index in before.indices {
      #expect(after[index] == (abs(before[index]) >= smallest ? before[index] : 0))
    }
  }

  // MARK: Optimizers

  @Test func loraPlusGivesBItsOwnRate() throws {
    func change(_ method: String, _ end: String) throws -> [Float] {
      let tiny = try TinyModel()
      let job = try Job(
        tiny.model,
        [
          "method": method, "optimizer": "sgd", "momentum": "0", "schedule": "constant",
          "bias": "all", "learning_rate": "0.02",
        ])
      let before = try values(job, end).flatMap { $0 }
      try steps(job, 1)
      return zip(try values(job, end).flatMap { $0 }, before).map { $0 - $1 }
    }
    for (end, ratio) in [
      ("lora_B.weight", Float(16)), ("output.dense.bias", 16), ("classifier.weight", 1),
    ] {
      let alone = try change("lora", end).map { $0 * ratio }
      let largest = alone.map { abs($0) }.max() ?? 0
      #expect(largest > 0)
      #expect(distance(try change("lora+", end), alone) <= 1e-2 * Double(largest))
    }
  }

  @Test(arguments: ["false", "true"]) func loraFALeavesAAlone(projects: String) throws {
    let tiny = try TinyModel()
    let job = try Job(
      tiny.model,
      [
        "method": "lora-fa", "lorafa_project": projects, "schedule": "constant", "optimizer": "sgd",
        "momentum": "0", "target_modules": "query",
      ])
    let before = try values(job, "lora_A.weight")
    let data = try TinyModel.rows(8)
    try withExtendedLifetime(data) { _ = try job.trainer.accumulate(data.batch) }
    let target = job.adapter.targets[0]
    let name = job.adapter.parameters.list[target.b].name
    let gradient = try job.trainer.gradient(of: name)
    try job.trainer.apply()
    #expect(try values(job, "lora_A.weight") == before)
    // −ΔB / lr is the gradient, or with the projection solves (ΔB / −lr) (A Aᵀ) = g / s².
    let rank = target.rank
    let a = job.adapter.parameters.buffer(target.a)
    let columns = job.adapter.model.matrices[target.matrix].inFeatures
    let step = try job.adapter.values(of: name).map { -Double($0) / 0.01 }
    for row in 0..<8 {
      for j in 0..<rank {
        var found = step[row * rank + j]
        if projects == "true" {
          found =
            (0..<rank).reduce(0.0) { sum, k in
              let product = (0..<columns).reduce(0.0) {
                $0 + Double(a[k * columns + $1]) * Double(a[j * columns + $1])
              }
              return sum + step[row * rank + k] * product
            } * Double(target.scale) * Double(target.scale)
        }
        #expect(abs(found - Double(gradient[row * rank + j])) < 1e-5)
      }
    }
  }

  // MARK: Starts

  @Test func pissaSplitsTheBackbone() throws {
    let tiny = try TinyModel()
    let job = try Job(tiny.model, ["method": "pissa", "target_modules": "query,output.dense"])
    for target in job.adapter.targets {
      let module = job.adapter.model.matrices[target.matrix]
      #expect(
        distance(try job.trainer.merged(module.name + ".weight"), module.weight.values) < 1e-6)
      func decompose(_ values: [Float]) throws -> SVD {
        try values.withUnsafeBufferPointer {
          try SVD($0, rows: module.rows, columns: module.columns, what: module.name)
        }
      }
      let whole = try decompose(module.weight.values)
      let rest = try decompose(job.adapter.clean(target.matrix).values(module.count))
      for index in 0..<(whole.count - target.rank) {
        #expect(
          abs(rest.singularValues[index] - whole.singularValues[index + target.rank]) < 1e-5)
      }
    }
    let error = #expect(throws: LorascError.self) {
      try Job(tiny.model, ["method": "pissa", "r": "17"])
    }
    #expect(error?.status == .option)
  }

  @Test func gaussianStartsHaveTheirDeviation() throws {
    let tiny = try TinyModel()
    let job = try Job(tiny.model, ["init_lora_weights": "gaussian", "r": "4"])
    let a = try values(job, "lora_A.weight").flatMap { $0 }
    let deviation = (a.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(a.count)).squareRoot()
    #expect(abs(deviation - 0.25) < 0.02)
    #expect(try values(job, "lora_B.weight").flatMap { $0 }.allSatisfy { $0 == 0 })
  }

  // MARK: Targets

  @Test func patternsAndLayersChoose() throws {
    let tiny = try TinyModel()
    let job = try Job(
      tiny.model,
      [
        "target_modules": "query,value,word_embeddings", "layers_to_transform": "1",
        "rank_pattern": #"{"value": 5}"#, "alpha_pattern": #"{"layer.1.attention.self.query": 6}"#,
      ])
    let found = try job.adapter.matches().map { ($0.module, $0.rule, $0.rank, $0.scale) }
    #expect(found.map(\.0) == ["query", "value"].map { "encoder.layer.1.attention.self." + $0 })
    #expect(found.map(\.1) == ["query", "value"])
    #expect(found.map(\.2) == [3, 5])
    #expect(found.map(\.3) == [2, Double(Float(3.2))])
    for bad in [
      ["rank_pattern": "[1]"], ["rank_pattern": #"{"query": 0}"#],
      ["rank_pattern": #"{"query": "4"}"#],
      ["alpha_pattern": #"{"query": -1}"#], ["layers_to_transform": "x"],
      ["layers_pattern": "layer"],
      ["ranks": "2,0"], ["ranks": "2,4", "rank_pattern": #"{"query": 3}"#],
    ] {
      let error = #expect(throws: LorascError.self) { try Job(tiny.model, bad) }
      #expect(error?.status == .option, "\(bad)")
    }
    let error = #expect(throws: LorascError.self) {
      try Job(tiny.model, ["rank_pattern": #"{"nothing": 2}"#])
    }
    #expect(error?.status == .noMatch)
  }

  @Test func aScaleIsOfTheWholeChange() throws {
    let job = try run(["method": "lorasc+dora"])
    let name = job.adapter.matchedModules[0] + ".weight"
    let base = job.adapter.model.matrices[job.adapter.targets[0].matrix].weight.values
    let whole = try job.trainer.merged(name)
    try job.adapter.setScale(0.25)
    let quarter = try job.trainer.merged(name)
    for index in base.indices {
      #expect(abs(quarter[index] - (base[index] + 0.25 * (whole[index] - base[index]))) < 1e-6)
    }
    try job.adapter.setScale(0)
    #expect(try job.trainer.merged(name) == base)
  }
}
