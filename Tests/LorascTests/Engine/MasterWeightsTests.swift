import Testing

@testable import Lorasc

/// What finished cascades merged, kept as factors beside W0 instead of float32 copies.
@Suite struct MasterWeightsTests {
  static let methods: [[String: String]] = [
    ["method": "lorasc"],
    ["method": "lorasc", "slow_rule": "ema", "noise_form": "gaussian"],
    ["method": "lorasc", "slow_rule": "ema_factors", "reinit": "same_a"],
    ["method": "lorasc", "noise_lifetime": "per_step", "noise_form": "row_scaled"],
    ["method": "lorasc", "noise_targets": "all", "target_modules": "query,word_embeddings"],
    ["method": "lorasc", "init_lora_weights": "pissa", "ranks": "3,2,1"],
    ["method": "cola"],
  ]

  private func job(_ tiny: TinyModel, _ values: [String: String], _ kind: String) throws -> Job {
    try Job(tiny.model, values.merging(["master_weights": kind]) { $1 })
  }

  private func expectClose(_ found: [Float], _ expected: [Float]) {
    #expect(found.count == expected.count)
    let worst = zip(found, expected).map { abs($0 - $1) }.max() ?? 0
    #expect(worst <= 2e-5, "\(worst)")
  }

  @Test(arguments: methods) func factorsTrainAsCopiesDo(values: [String: String]) throws {
    let tiny = try TinyModel()
    let data = try TinyModel.rows(24)
    defer { withExtendedLifetime(data) {} }
    let copies = try job(tiny, values, "float32")
    let factors = try job(tiny, values, "factors")
    for one in [copies, factors] { try one.trainer.run(data) }
    #expect(factors.adapter.masters.isEmpty)
    #expect(!copies.adapter.masters.isEmpty)
    expectClose(try factors.merged(), try copies.merged())
    let loss = (try copies.trainer.evaluate(data), try factors.trainer.evaluate(data))
    #expect(abs(loss.0.loss - loss.1.loss) <= 1e-5)
    try factors.adapter.setScale(0.5)
    try copies.adapter.setScale(0.5)
    expectClose(try factors.merged(), try copies.merged())
    let halved = (try copies.trainer.evaluate(data), try factors.trainer.evaluate(data))
    #expect(abs(halved.0.loss - halved.1.loss) <= 1e-5)
  }

  /// A 16-bit backbone is not copied either.
  @Test func sixteenBitsStay() throws {
    let tiny = try TinyModel(options: ["dtype": "bfloat16"])
    let data = try TinyModel.rows(24)
    defer { withExtendedLifetime(data) {} }
    let copies = try job(tiny, ["method": "lorasc"], "float32")
    let factors = try job(tiny, ["method": "lorasc"], "factors")
    for one in [copies, factors] { try one.trainer.run(data) }
    #expect(factors.trainer.planBytes < copies.trainer.planBytes)
    expectClose(try factors.merged(), try copies.merged())
  }

  /// DoRA's change and persistent noise have full rank: they are copies whatever is asked for.
  @Test(arguments: [
    ["method": "lorasc+dora"], ["method": "lorasc", "noise_lifetime": "persist"],
  ])
  func fullRankChangesAreCopies(values: [String: String]) throws {
    let tiny = try TinyModel()
    let data = try TinyModel.rows(24)
    defer { withExtendedLifetime(data) {} }
    let copies = try job(tiny, values, "float32")
    let factors = try job(tiny, values, "factors")
    for one in [copies, factors] { try one.trainer.run(data) }
    #expect(!factors.adapter.masters.isEmpty)
    #expect(try factors.mergedBits() == copies.mergedBits())
  }

  @Test func theEstimateCountsNoCopies() throws {
    let tiny = try TinyModel()
    func estimate(_ kind: String) throws -> Estimate {
      try Estimate(
        model: tiny.model,
        options: try TinyModel.options(["method": "lorasc", "master_weights": kind]))
    }
    #expect(try estimate("factors").weightBytes < estimate("float32").weightBytes)
  }
}
