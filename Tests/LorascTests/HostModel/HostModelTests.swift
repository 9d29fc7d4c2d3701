import Foundation
import Testing

@testable import Lorasc

/// Matrices in the host's memory: types, strides, merges.
@Suite struct HostModelTests {
  private let x = HostNetwork.values(12 * 5, seed: 1)
  private let target = HostNetwork.values(12 * 4, seed: 2)

  @Test func theMergeLandsInTheHostsMemory() throws {
    let network = try HostNetwork(["method": "lorasc"])
    for _ in 0..<4 { try network.step(x, target) }
    let merged = try network.trainer.merged("fc2.weight")
    for (pointer, values) in zip(network.pointers, network.memory) {
      #expect(Array(UnsafeBufferPointer(start: pointer, count: values.count)) == values)
    }
    try network.adapter.mergeIntoHost()
    let found = Array(UnsafeBufferPointer(start: network.pointers[1], count: merged.count))
    #expect(found.map(\.bitPattern) == merged.map(\.bitPattern))
    expectFailure(.state, "memory") { _ = try network.forward(0, self.x) }
    expectFailure(.state, "memory") { try network.adapter.mergeIntoHost() }
    expectFailure(.state, "memory") { _ = try BoundWeight(network.adapter, module: "fc1") }
  }

  @Test func aMergedFolderHoldsTheMatrices() throws {
    let network = try HostNetwork(["method": "lorasc"])
    for _ in 0..<4 { try network.step(x, target) }
    let folder = NSTemporaryDirectory() + "lorasc-host-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let report = try network.adapter.merge(to: folder)
    #expect(report.tensors == 2 && report.changed == 2)
    let file = try SafetensorsFile(path: folder + "/model.safetensors")
    #expect(try file.float32("fc1.weight").values == network.trainer.merged("fc1.weight"))
    #expect(try file.float32("fc2.weight").shape == [4, 7])
  }

  /// PEFT's files and trainer states go both ways.
  @Test func filesComeBack() throws {
    let network = try HostNetwork(["method": "lorasc"])
    for _ in 0..<4 { try network.step(x, target) }
    let folder = NSTemporaryDirectory() + "lorasc-host-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try network.trainer.save(to: folder + "/state")
    _ = try network.adapter.save(to: folder + "/peft", rank: nil)
    let again = try HostNetwork(["method": "lorasc"])
    try again.trainer.resume(from: folder + "/state")
    for one in [network, again] { try one.step(x, target) }
    for name in network.adapter.parameterNames {
      #expect(try network.adapter.values(of: name) == again.adapter.values(of: name))
    }
    let fresh = try HostNetwork(["method": "lorasc"])
    for _ in 0..<4 { try fresh.step(x, target) }
    let loaded = try Adapter.load(model: fresh.model, from: folder + "/peft")
    let expected = try fresh.trainer.merged("fc1.weight")
    let found = try FloatBuffer(count: expected.count, what: "merged")
    try BLASThreads.withSingleThread {
      try loaded.weight(
        ofMatrix: 0, .merged, into: found.pointer, try fresh.model.compute(threads: 1))
    }
    #expect(largestDifference(found.values, expected) < 1e-6)
  }

  /// The same weights as bfloat16, with gaps and transposed make the same product.
  @Test func typesAndLayouts() throws {
    let kernels = try KernelLevel.baseline.table()
    var bits = [UInt16](repeating: 0, count: 7 * 5)
    var values = HostNetwork.values(7 * 5, seed: 6)
    kernels.f32_to_bf16(values, &bits, values.count)
    kernels.bf16_to_f32(bits, &values, values.count)
    var gaps = [Float](repeating: .nan, count: 7 * 6)
    var transposed = [Float](repeating: 0, count: 5 * 7)
    for row in 0..<7 {
      for column in 0..<5 {
        gaps[row * 6 + column] = values[row * 5 + column]
        transposed[column * 7 + row] = values[row * 5 + column]
      }
    }
    func product(_ matrix: HostMatrix) throws -> [Float] {
      var options = Options()
      for (key, value) in ["method": "lora", "schedule": "constant", "max_batch_tokens": "16"] {
        try options.set(key, value)
      }
      let model = try Model(host: [matrix], options: options)
      let adapter = try Adapter(model: model, options: options)
      let layer = try Layer(
        try Trainer(model: model, adapter: adapter, options: options), module: "w")
      var (x, y) = (x, [Float](repeating: 0, count: 12 * 7))
      try x.withUnsafeMutableBufferPointer { x in
        try y.withUnsafeMutableBufferPointer { y in
          guard let x = x.baseAddress, let y = y.baseAddress else { return }
          try layer.forward(
            Activations(x, tokens: 12, features: 5), into: Activations(y, tokens: 12, features: 7))
        }
      }
      return y
    }
    func matrix(
      _ values: UnsafeMutableRawPointer, _ type: HostMatrix.ElementType = .float32,
      stride: Int? = nil, isTransposed: Bool = false
    ) -> HostMatrix {
      HostMatrix(
        name: "w", type: type, values: values, outFeatures: 7, inFeatures: 5, rowStride: stride,
        isTransposed: isTransposed)
    }
    let plain = try values.withUnsafeMutableBytes { try product(matrix($0.baseAddress!)) }
    let narrow = try bits.withUnsafeMutableBytes { try product(matrix($0.baseAddress!, .bfloat16)) }
    let apart = try gaps.withUnsafeMutableBytes { try product(matrix($0.baseAddress!, stride: 6)) }
    let turned = try transposed.withUnsafeMutableBytes {
      try product(matrix($0.baseAddress!, isTransposed: true))
    }
    for other in [narrow, apart, turned] { #expect(other == plain) }
  }

  @Test func badMatricesAreRefused() throws {
    let memory = UnsafeMutablePointer<Float>.allocate(capacity: 64)
    defer { memory.deallocate() }
    memory.initialize(repeating: 0, count: 64)
    func model(_ name: String, _ out: Int, _ into: Int, _ stride: Int? = nil) throws -> Model {
      try Model(
        host: [
          HostMatrix(
            name: name, values: memory, outFeatures: out, inFeatures: into, rowStride: stride)
        ])
    }
    expectFailure(.argument, "name") { _ = try model("", 2, 2) }
    for (out, into, stride) in [(0, 2, nil), (2, -1, nil), (2, 4, 3), (.max, .max, nil)] {
      expectFailure(.shape, "w") { _ = try model("w", out, into, stride) }
    }
    expectFailure(.argument, "at least") { _ = try Model(host: []) }
    memory[3] = .nan
    expectFailure(.nonFinite, "w") { _ = try model("w", 2, 2) }
  }
}
