@testable import Lorasc

/// An operation with the seconds that it took.
struct Measurement {
  let operation: Operation
  private(set) var seconds: [Double] = []

  init(_ operation: Operation) { self.operation = operation }

  /// Repetitions for about this long, after one that isn't counted.
  private static let roundSeconds = 0.05
  private static let repetitions = 3...200

  mutating func measureRound() {
    operation.prepare()
    _ = Self.time(operation.run)
    var (count, total) = (0, 0.0)
    while count < Self.repetitions.lowerBound
      || (total < Self.roundSeconds && count < Self.repetitions.upperBound)
    {
      let taken = Self.time(operation.run)
      seconds.append(taken)
      total += taken
      count += 1
    }
  }

  private static func time(_ run: () -> Void) -> Double {
    let parts = ContinuousClock().measure(run).components
    return Double(parts.seconds) + 1e-18 * Double(parts.attoseconds)
  }

  var median: Double {
    let sorted = seconds.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }

  var bytesPerSecond: Double { operation.bytes / median }
  var flopsPerSecond: Double { operation.flops / median }

  /// All operations take turns, so that whatever else the machine does hits all.
  static func of(_ operations: [Operation], rounds: Int) -> [Measurement] {
    var measured = operations.map { Measurement($0) }
    for _ in 0..<rounds {
      for index in measured.indices { measured[index].measureRound() }
    }
    return measured
  }
}

/// What the machine gave in this run, which bounds every operation.
struct Rates: Codable {
  /// Bytes a second of a large y = a x + b y.
  let memory: Double
  /// Flops a second of the fastest whole product in float32.
  let float32: Double
  /// The same with bfloat16 operands; nil where there is no such product.
  let bfloat16: Double?

  init?(memory: Measurement, products: [Measurement]) {
    func best(_ type: PackedProducts.ElementType) -> Double? {
      products.filter { $0.operation.type == type }.map(\.flopsPerSecond).max()
    }
    guard let float32 = best(.float32) else { return nil }
    self.memory = memory.bytesPerSecond
    self.float32 = float32
    bfloat16 = best(.bfloat16)
  }
}

/// A row of the report.
struct Row: Codable {
  let name: String
  let size: String
  let shape: String
  let type: String
  let seconds: Double
  let repetitions: Int
  let bytes: Double
  let flops: Double
  let gigabytesPerSecond: Double
  let gigaflopsPerSecond: Double
  /// The least that memory and arithmetic allow at this run's rates.
  let boundSeconds: Double
  /// "memory" or "arithmetic"
  let bound: String
  /// seconds / boundSeconds. Below 1 where operands stay in caches, which are faster than memory.
  let ratio: Double

  init(_ measurement: Measurement, _ rates: Rates) {
    let operation = measurement.operation
    let isHalf = operation.type == .bfloat16
    let moving = operation.bytes / rates.memory
    let computing = operation.flops / (isHalf ? rates.bfloat16 ?? rates.float32 : rates.float32)
    (name, size, shape) = (operation.name, operation.size, operation.shape)
    type = isHalf ? "bfloat16" : "float32"
    seconds = measurement.median
    repetitions = measurement.seconds.count
    (bytes, flops) = (operation.bytes, operation.flops)
    gigabytesPerSecond = measurement.bytesPerSecond / 1e9
    gigaflopsPerSecond = measurement.flopsPerSecond / 1e9
    boundSeconds = max(moving, computing)
    bound = moving >= computing ? "memory" : "arithmetic"
    ratio = seconds / boundSeconds
  }
}
