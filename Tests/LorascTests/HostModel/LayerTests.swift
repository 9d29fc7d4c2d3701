import Foundation
import Testing

@testable import Lorasc

/// Layers of the host's own model.
@Suite struct LayerTests {
  static let methods: [[String: String]] = [
    ["method": "lora"],
    ["method": "lorasc"],
    ["method": "lorasc", "noise": "0", "master_weights": "factors"],
    ["method": "lorasc", "slow_rule": "ema", "master_weights": "factors"],
    ["method": "lorasc", "slow_rule": "ema_factors", "reinit": "same_a"],
    ["method": "lorasc", "noise_lifetime": "per_step"],
    ["method": "lorasc", "noise_lifetime": "persist"],
    ["method": "lorasc+dora", "lora_dropout": "0.2"],
    ["method": "lorasc+dora", "noise_lifetime": "per_step", "dora_norm": "exact"],
    ["method": "lorasc", "init_lora_weights": "pissa", "lora_dropout": "0.3"],
  ]

  private let x = HostNetwork.values(12 * 5, seed: 1)
  private let target = HostNetwork.values(12 * 4, seed: 2)

  /// A network in the middle of its second cascade.
  private func trained(_ values: [String: String]) throws -> HostNetwork {
    let network = try HostNetwork(values)
    for step in 0..<3 { try network.step(x, target, key: UInt64(step)) }
    if network.adapter.settings.options.isCascading { try network.trainer.endCascade() }
    for step in 3..<5 { try network.step(x, target, key: UInt64(step)) }
    return network
  }

  @Test(arguments: methods) func lossFalls(values: [String: String]) throws {
    let network = try HostNetwork(values)
    let losses = try (0..<40).map { try network.step(x, target, key: UInt64($0)) }
    #expect(losses[39] < 0.8 * losses[0])
  }

  /// X W0ᵀ + what the adapter adds is the whole product, and so are the gradients of X.
  @Test(arguments: methods) func shareAndBaseAreTheWhole(values: [String: String]) throws {
    let network = try trained(values)
    let base = product(x, network.memory[0], 7, 5, bias: network.bias)
    for weights in [Layer.Weights.training, .view(.merged), .view(.fast)] {
      let whole = try network.forward(0, x, .init(weights: weights, key: 8))
      let share = try network.forward(0, x, .init(weights: weights, isShare: true, key: 8))
      #expect(largestDifference(whole, zip(base, share).map { $0 + $1 }) < 1e-5)
      #expect(largestDifference(whole, base) > 1e-3)
    }
    let dy = HostNetwork.values(12 * 7, seed: 4)
    let whole = try network.backward(0, x, dy, .init(key: 8))
    let gradients = try network.adapter.parameterNames.map { try network.trainer.gradient(of: $0) }
    try network.trainer.discardGradients()
    let share = try network.backward(0, x, dy, .init(isShare: true, key: 8))
    var transposed = [Float](repeating: 0, count: 35)
    for row in 0..<7 {
      for column in 0..<5 { transposed[column * 7 + row] = network.memory[0][row * 5 + column] }
    }
    let baseGradient = product(dy, transposed, 5, 7)
    #expect(largestDifference(whole, zip(baseGradient, share).map { $0 + $1 }) < 1e-5)
    for (name, expected) in zip(network.adapter.parameterNames, gradients) {
      #expect(largestDifference(try network.trainer.gradient(of: name), expected) < 1e-5)
    }
  }

  /// The merged view of a layer is the product with what a merge writes.
  @Test(arguments: methods) func mergedViewIsTheMergedWeight(values: [String: String]) throws {
    let network = try trained(values)
    for strength in [1, 0.5] {
      try network.adapter.setScale(strength)
      let merged = try network.trainer.merged("fc1.weight")
      let expected = product(x, merged, 7, 5, bias: network.bias)
      let found = try network.forward(0, x, .init(weights: .view(.merged)))
      #expect(largestDifference(found, expected) < 1e-5)
      let bound = try BoundWeight(network.adapter, module: "fc1")
      var y = [Float](repeating: 0, count: 12 * 7)
      bound(x, &y, rows: 12)
      #expect(largestDifference(y, expected) < 1e-5)
      bound(x, &y, rows: 1)
      #expect(largestDifference(Array(y.prefix(7)), Array(expected.prefix(7))) < 1e-5)
    }
  }

  /// Gradients by central differences of Σ G ⊙ Y; DoRA with its norms differentiated.
  @Test(arguments: [
    ["method": "lora", "lora_dropout": "0.3"], ["method": "lorasc"],
    ["method": "lorasc+dora", "dora_norm": "exact"],
  ])
  func gradientsAreTheSlopes(values: [String: String]) throws {
    let network = try trained(values)
    let dy = HostNetwork.values(12 * 7, seed: 4)
    func value(_ x: [Float]) throws -> Double {
      zip(try network.forward(0, x, .init(key: 3)), dy).reduce(0) { $0 + Double($1.0 * $1.1) }
    }
    let dx = try network.backward(0, x, dy, .init(key: 3))
    let step: Float = 3e-3
    for index in [0, 17, 59] {
      var (above, below) = (x, x)
      above[index] += step
      below[index] -= step
      let slope = (try value(above) - value(below)) / Double(2 * step)
      #expect(abs(slope - Double(dx[index])) < 2e-3)
    }
    for name in network.adapter.parameterNames where name.hasPrefix("fc1.") {
      let gradient = try network.trainer.gradient(of: name)
      let memory = try network.adapter.memory(of: name)
      for index in [0, gradient.count - 1] {
        let before = memory[index]
        memory[index] = before + step
        let above = try value(x)
        memory[index] = before - step
        let below = try value(x)
        memory[index] = before
        #expect(abs((above - below) / Double(2 * step) - Double(gradient[index])) < 5e-3)
      }
    }
  }

  /// A call of more rows than a block, and of a strided batch, is the same.
  @Test func rowsMayBeManyOrApart() throws {
    let wide = try HostNetwork(["method": "lora"])
    let narrow = try HostNetwork(["method": "lora", "max_batch_tokens": "5"])
    #expect(try largestDifference(wide.forward(0, x), narrow.forward(0, x)) < 1e-6)
    var apart = [Float](repeating: .nan, count: 3 * 40)
    for row in 0..<12 {
      for column in 0..<5 {
        apart[row / 4 * 40 + row % 4 * 6 + column] = x[row * 5 + column]
      }
    }
    var y = [Float](repeating: 0, count: 12 * 7)
    try apart.withUnsafeMutableBufferPointer { apart in
      try y.withUnsafeMutableBufferPointer { y in
        guard let apart = apart.baseAddress, let y = y.baseAddress else { return }
        try wide.layers[0].forward(
          Activations(apart, batch: 3, tokens: 4, features: 5, tokenStride: 6, batchStride: 40),
          into: Activations(y, batch: 3, tokens: 4, features: 7))
      }
    }
    #expect(try largestDifference(y, wide.forward(0, x)) < 1e-6)
  }

  @Test func badRowsAreRefused() throws {
    let network = try HostNetwork(["method": "lora"])
    let memory = UnsafeMutablePointer<Float>.allocate(capacity: 200)
    defer { memory.deallocate() }
    memory.initialize(repeating: 0, count: 200)
    func activations(_ tokens: Int, _ features: Int, _ stride: Int? = nil) -> Activations {
      Activations(memory, tokens: tokens, features: features, tokenStride: stride)
    }
    for (x, y) in [
      (activations(2, 5), activations(3, 7)), (activations(2, 5, 4), activations(2, 7)),
      (activations(-1, 5), activations(-1, 7)), (activations(.max, 5), activations(.max, 7)),
    ] {
      expectFailure(.shape) { try network.layers[0].forward(x, into: y) }
    }
    expectFailure(.state, "host") { _ = try network.trainer.evaluate(try TinyModel.rows(2)) }
    expectFailure(.state, "accumulated") { try network.trainer.apply() }
    expectFailure(.notFound, "fc3") { _ = try Layer(network.trainer, module: "fc3") }
  }
}

/// X Wᵀ + b of 12 rows.
private func product(
  _ x: [Float], _ weight: [Float], _ out: Int, _ into: Int,
  bias: UnsafeMutablePointer<Float>? = nil
) -> [Float] {
  var y: [Float] = []
  for row in 0..<12 {
    for column in 0..<out {
      var sum: Float = bias?[column] ?? 0
      for k in 0..<into { sum += x[row * into + k] * weight[column * into + k] }
      y.append(sum)
    }
  }
  return y
}

extension Options {
  fileprivate var isCascading: Bool { (try? text("method").hasPrefix("lorasc")) ?? false }
}
