import CSupport
import Kernels
import KernelsAVX2
import KernelsAVX512
import KernelsBF16

/// Which compilation of the elementwise kernels to use. The levels differ in speed and, by
/// rounding, in the last bits; float64 sums and random numbers are the same at all of them.
enum KernelLevel: String, CaseIterable, Sendable {
  case baseline
  case avx2
  case avx512

  /// The best this CPU runs.
  static let best: KernelLevel =
    switch lorasc_cpu_level() {
    case 2: .avx512
    case 1: .avx2
    default: .baseline
    }

  /// The level named by the option `kernels`, "auto" being the best.
  /// - Throws: `.option` for another word, `.unsupported` for a level that this CPU lacks.
  init(option: String) throws {
    guard option != "auto" else {
      self = .best
      return
    }
    guard let level = KernelLevel(rawValue: option) else {
      throw LorascError(
        .option, "kernels is \(option); it may be auto, baseline, avx2 or avx512",
        subject: "kernels")
    }
    _ = try level.table()
    self = level
  }

  var isAvailable: Bool { order <= KernelLevel.best.order }

  private var order: Int {
    switch self {
    case .baseline: 0
    case .avx2: 1
    case .avx512: 2
    }
  }

  /// - Throws: `.unsupported` when this CPU lacks the level's instructions.
  func table() throws -> lorasc_kernels {
    guard isAvailable else {
      throw LorascError(
        .unsupported,
        "this CPU does not run kernels \(rawValue), its best is \(KernelLevel.best.rawValue)",
        subject: rawValue)
    }
    return switch self {
    case .baseline: KernelLevel.baselineTable
    case .avx2: KernelLevel.avx2Table
    case .avx512: KernelLevel.avx512Table
    }
  }

  // Safe: because the tables never change and point to functions and string constants.
  nonisolated(unsafe) static let baselineTable = Kernels.makeKernelTable()
  nonisolated(unsafe) private static let avx2Table = KernelsAVX2.makeKernelTable()
  nonisolated(unsafe) private static let avx512Table = {
    var table = KernelsAVX512.makeKernelTable()
    if lorasc_cpu_has_bf16() { addBFloat16Products(to: &table) }
    return table
  }()
}
