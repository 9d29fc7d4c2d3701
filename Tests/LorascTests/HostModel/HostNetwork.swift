@testable import Lorasc

/// A host's own matrices, and an adapter and trainer on them.
final class HostNetwork {
  static let sizes: [(name: String, out: Int, into: Int)] = [("fc1", 7, 5), ("fc2", 4, 7)]
  let memory: [[Float]]
  let pointers: [UnsafeMutablePointer<Float>]
  let bias: UnsafeMutablePointer<Float>
  let model: Model
  let adapter: Adapter
  let trainer: Trainer
  let layers: [Layer]

  static let options = [
    "r": "3", "max_batch_tokens": "64", "schedule": "constant", "learning_rate": "0.05",
    "threads": "2", "seed": "5", "adapter_seed": "9", "max_grad_norm": "0",
  ]

  init(_ values: [String: String]) throws {
    var random = TestRandom(seed: 3)
    memory = Self.sizes.map { size in
      (0..<size.out * size.into).map { _ in random.uniform() - 0.5 }
    }
    pointers = memory.map { values in
      let pointer = UnsafeMutablePointer<Float>.allocate(capacity: values.count)
      pointer.initialize(from: values, count: values.count)
      return pointer
    }
    bias = .allocate(capacity: 7)
    for index in 0..<7 { bias[index] = random.uniform() - 0.5 }
    var options = Options()
    for (key, value) in Self.options.merging(values, uniquingKeysWith: { $1 }) {
      try options.set(key, value)
    }
    let bias = UnsafePointer(bias)
    model = try Model(
      host: zip(Self.sizes, pointers).map {
        HostMatrix(
          name: $0.name, values: $1, outFeatures: $0.out, inFeatures: $0.into,
          bias: $0.name == "fc1" ? bias : nil)
      }, options: options)
    adapter = try Adapter(model: model, options: options)
    trainer = try Trainer(model: model, adapter: adapter, options: options)
    let trainer = trainer
    layers = try Self.sizes.map { try Layer(trainer, module: $0.name) }
  }

  deinit {
    for pointer in pointers { pointer.deallocate() }
    bias.deallocate()
  }

  /// Y of a layer for X (rows, in).
  func forward(_ layer: Int, _ x: [Float], _ call: Layer.Call = .init()) throws -> [Float] {
    let (out, into) = (layers[layer].outFeatures, layers[layer].inFeatures)
    let rows = x.count / into
    var x = x
    var y = [Float](repeating: call.isShare ? 0 : .nan, count: rows * out)
    try x.withUnsafeMutableBufferPointer { x in
      try y.withUnsafeMutableBufferPointer { y in
        guard let x = x.baseAddress, let y = y.baseAddress else { return }
        try layers[layer].forward(
          Activations(x, tokens: rows, features: into),
          into: Activations(y, tokens: rows, features: out), call)
      }
    }
    return y
  }

  /// dX of a layer; gradients go to the trainer.
  func backward(_ layer: Int, _ x: [Float], _ dy: [Float], _ call: Layer.Call = .init()) throws
    -> [Float]
  {
    let (out, into) = (layers[layer].outFeatures, layers[layer].inFeatures)
    let rows = x.count / into
    var (x, dy) = (x, dy)
    var dx = [Float](repeating: call.isShare ? 0 : .nan, count: rows * into)
    try x.withUnsafeMutableBufferPointer { x in
      try dy.withUnsafeMutableBufferPointer { dy in
        try dx.withUnsafeMutableBufferPointer { dx in
          guard let x = x.baseAddress, let dy = dy.baseAddress, let dx = dx.baseAddress else {
            return
          }
          try layers[layer].backward(
            Activations(x, tokens: rows, features: into),
            gradient: Activations(dy, tokens: rows, features: out),
            into: Activations(dx, tokens: rows, features: into), call)
        }
      }
    }
    return dx
  }

  /// One step of both layers on ½ ‖fc2(max(fc1(x), 0)) − t‖².
  @discardableResult
  func step(_ x: [Float], _ target: [Float], key: UInt64 = 0) throws -> Double {
    let call = Layer.Call(key: key)
    let hidden = try forward(0, x, call)
    let active = hidden.map { max($0, 0) }
    let y = try forward(1, active, call)
    let dy = zip(y, target).map { $0 - $1 }
    let dActive = try backward(1, active, dy, call)
    _ = try backward(0, x, zip(dActive, hidden).map { $1 > 0 ? $0 : 0 }, call)
    try trainer.apply()
    return dy.reduce(0) { $0 + 0.5 * Double($1) * Double($1) }
  }

  static func values(_ count: Int, seed: UInt64) -> [Float] {
    var random = TestRandom(seed: seed)
    return (0..<count).map { _ in 2 * random.uniform() - 1 }
  }
}

func largestDifference(_ a: [Float], _ b: [Float]) -> Float {
  a.count == b.count ? zip(a, b).map { abs($0 - $1) }.max() ?? 0 : .infinity
}
