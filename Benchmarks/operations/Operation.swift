@testable import Lorasc

/// One operation of the engine at one size, with what it has to move and to compute at least.
struct Operation {
  let name: String
  let size: String
  let shape: String
  /// Each input read once, each output written once. A cache that reads an output's lines before
  /// they are written (all but non-temporal stores) moves more.
  let bytes: Double
  /// As the formula has them: an exponential, a root, a division and a rounding count as one each.
  let flops: Double
  /// What products are multiplied in.
  var type = PackedProducts.ElementType.float32
  /// Sets what `run` changes in place, so that repetitions meet ordinary numbers.
  var prepare: () -> Void = {}
  let run: () -> Void
}

/// How large the operands are.
struct Size {
  let name: String
  let tokens: Int
  let hidden: Int
  /// Elements of an activation between two linear modules.
  let wide: Int
  /// Attention's scores: rows of all heads, and their length.
  let scores: (rows: Int, columns: Int)
  /// What the optimizer steps.
  let parameters: Int

  /// A batch of 32 x 64 tokens; parameters of adapters of rank 16 on all linear modules.
  static let minilm = Size(
    name: "MiniLM", tokens: 2048, hidden: 384, wide: 2048 * 1536, scores: (32 * 12 * 64, 64),
    parameters: 6 * 16 * (4 * (384 + 384) + 2 * (384 + 1536)))
  /// 128 MiB an operand, so that caches don't hold two.
  static let large = Size(
    name: "large", tokens: 1 << 16, hidden: 512, wide: Workspace.elements,
    scores: (1 << 16, 512), parameters: Workspace.elements)
}

/// The operands of all operations, which take turns.
final class Workspace {
  static let elements = 1 << 25

  let compute: Compute
  /// Normal random numbers, which are only read.
  let sources: [FloatBuffer]
  /// What operations write, or change in place.
  let targets: [FloatBuffer]

  init(_ compute: Compute) throws {
    self.compute = compute
    let made = try (0..<6).map { _ in try FloatBuffer(count: Self.elements, what: "operands") }
    (sources, targets) = (Array(made[..<3]), Array(made[3...]))
    for (index, buffer) in made.enumerated() {
      let stream = RandomStream(key: 1, stream: UInt64(index)).c
      forBlocks(Self.elements, cost: 16) { start, count in
        compute.kernels.add_normal(nil, buffer.pointer + start, count, stream, UInt64(start), 1)
      }
    }
  }

  func source(_ index: Int) -> UnsafeMutablePointer<Float> { sources[index].pointer }
  func target(_ index: Int) -> UnsafeMutablePointer<Float> { targets[index].pointer }

  /// The same memory as bfloat16.
  func halves(_ buffer: FloatBuffer) -> UnsafeMutablePointer<UInt16> {
    // Safe: because a float has room for two, and no operation uses one buffer as both.
    UnsafeMutableRawPointer(buffer.pointer)
      .bindMemory(to: UInt16.self, capacity: 2 * buffer.count)
  }

  /// body(start, count) over blocks of 1024 elements side by side, in parallel.
  /// - Parameter cost: of one element, see `Compute.forRows`
  func forBlocks(_ count: Int, cost: Int, _ body: (_ start: Int, _ count: Int) -> Void) {
    compute.forRows((count + 1023) / 1024, cost: 1024 * cost) { first, end in
      body(first * 1024, min(count, end * 1024) - first * 1024)
    }
  }

  /// target = source, of so many elements.
  func copy(_ source: Int, to target: Int, _ count: Int) {
    let (from, to) = (self.source(source), self.target(target))
    forBlocks(count, cost: 1) { start, count in
      (to + start).update(from: from + start, count: count)
    }
  }

  func fill(_ target: Int, _ value: Float, _ count: Int) {
    let to = self.target(target)
    forBlocks(count, cost: 1) { start, count in compute.kernels.fill(value, to + start, count) }
  }
}
