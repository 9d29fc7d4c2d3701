import Foundation

@testable import Lorasc

/// What each operation of the engine takes beside what memory and arithmetic allow:
/// `make bench-operations`.
///
///     operations <report.json> [threads = 2] [rounds = 5]
///
/// Prints a table and writes it as JSON. Rates and operations are measured in turns within one run;
/// medians count.
@main
enum OperationsBenchmark {
  /// What an operation may take beside its bound.
  static let target = 1.3

  static func main() {
    let arguments = CommandLine.arguments.dropFirst()
    let numbers = arguments.dropFirst().map { Int($0) ?? 0 }
    guard let path = arguments.first, numbers.count <= 2, numbers.allSatisfy({ $0 > 0 }) else {
      fail("operations <report.json> [threads] [rounds]")
    }
    do {
      try run(path, numbers)
    } catch {
      fail("\(error)")
    }
  }

  private static func fail(_ message: String) -> Never {
    FileHandle.standardError.write(Data("\(message)\n".utf8))
    exit(1)
  }

  private static func run(_ path: String, _ numbers: [Int]) throws {
    let compute = try Compute(threads: numbers.first ?? 2)
    let report = try BLASThreads.withSingleThread {
      try measure(compute, rounds: numbers.count > 1 ? numbers[1] : 5)
    }
    report.show()
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    encoder.keyEncodingStrategy = .convertToSnakeCase
    try (encoder.encode(report) + Data("\n".utf8)).write(to: URL(fileURLWithPath: path))
    print("\n\(path)")
  }

  private static func measure(_ compute: Compute, rounds: Int) throws -> Report {
    let work = try Workspace(compute)
    let arena = Arena()
    let products = try [Products.whole(work)] + Products.packed(work, arena)
    var operations = [Elementwise.axpby(.large, work)] + products
    for size in [Size.minilm, .large] {
      operations += Elementwise.operations(size, work)
      for rank in [8, 16] {
        operations += try Products.lowRank(size, rank: rank, work, arena)
      }
    }
    // Operations hold pointers into both.
    let measured = withExtendedLifetime((work, arena)) {
      Measurement.of(operations, rounds: rounds)
    }
    guard let memory = measured.first,
      let rates = Rates(memory: memory, products: Array(measured[1...products.count]))
    else { throw LorascError(.internal, "no rates were measured") }
    return Report(
      threads: compute.threads, kernels: String(cString: compute.kernels.name),
      products: compute.products.rawValue, rates: rates, target: target,
      operations: measured.map { Row($0, rates) })
  }
}

/// What is written.
struct Report: Codable {
  let threads: Int
  let kernels: String
  let products: String
  let rates: Rates
  let target: Double
  let operations: [Row]

  func show() {
    let half = rates.bfloat16.map { String(format: ", %.0f in bfloat16", $0 / 1e9) } ?? ""
    print(
      "\(threads) threads, kernels \(kernels), products \(products): "
        + String(format: "%.1f GB/s, %.0f GFLOP/s", rates.memory / 1e9, rates.float32 / 1e9) + half)
    print()
    print(
      Self.padded("operation", 24), Self.padded("size", 7), Self.padded("shape", 18),
      "      ms     MB  MFLOP   GB/s GFLOP/s  bound, ms  by           ratio")
    for row in operations {
      print(
        Self.padded(row.name, 24), Self.padded(row.size, 7), Self.padded(row.shape, 18),
        String(
          format: "%8.3f %6.0f %6.0f %6.1f %7.1f %10.3f ", 1e3 * row.seconds, row.bytes / 1e6,
          row.flops / 1e6, row.gigabytesPerSecond, row.gigaflopsPerSecond, 1e3 * row.boundSeconds),
        Self.padded(row.bound, 11),
        String(format: "%6.2f", row.ratio) + (row.ratio > target ? " *" : ""))
    }
    print("\n* more than \(target) of what memory and arithmetic allow")
  }

  private static func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }
}
