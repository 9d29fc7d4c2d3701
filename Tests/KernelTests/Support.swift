import CSupport
import Testing

@testable import Lorasc

/// The levels that this CPU runs: every kernel test runs at each of them.
let levels = KernelLevel.allCases.filter(\.isAvailable)

/// Around every multiple of the vector length, and beyond a few.
let lengths = [
  0, 1, 2, 7, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 100, 127, 128, 129, 384, 1000,
]

/// splitmix64, so that tests don't depend on the generator under test.
struct TestRandom {
  var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func word() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  mutating func float(in range: ClosedRange<Float>) -> Float {
    range.lowerBound
      + Float(Double(word() >> 11) * 0x1p-53) * (range.upperBound - range.lowerBound)
  }

  mutating func floats(_ n: Int, in range: ClosedRange<Float> = -2...2) -> [Float] {
    (0..<n).map { _ in float(in: range) }
  }
}

/// An array with guard elements on both sides that a kernel must leave alone, and not aligned to
/// vectors.
final class Guarded<Element: BitwiseCopyable & Equatable> {
  private static var margin: Int { 35 }
  private let block: UnsafeMutablePointer<Element>
  private let sentinel: Element
  let count: Int

  init(_ values: [Element], sentinel: Element) {
    count = values.count
    self.sentinel = sentinel
    block = .allocate(capacity: count + 2 * Guarded.margin)
    block.initialize(repeating: sentinel, count: count + 2 * Guarded.margin)
    for (i, value) in values.enumerated() { block[Guarded.margin + i] = value }
  }

  deinit { block.deallocate() }

  var p: UnsafeMutablePointer<Element> { block + Guarded.margin }
  var values: [Element] { Array(UnsafeBufferPointer(start: p, count: count)) }

  var isIntact: Bool {
    let total = count + 2 * Guarded.margin
    return (0..<Guarded.margin).allSatisfy { block[$0] == sentinel }
      && (Guarded.margin + count..<total).allSatisfy { block[$0] == sentinel }
  }
}

extension Guarded where Element == Float {
  convenience init(_ values: [Float]) { self.init(values, sentinel: -12345.5) }
  convenience init(count: Int, of value: Float = .nan) {
    self.init(Array(repeating: value, count: count))
  }
}

extension Guarded where Element == UInt16 {
  convenience init(_ values: [UInt16]) { self.init(values, sentinel: 0xdead) }
}

/// The distance from the exact value in units of the last place of the nearest float (of the
/// smallest normal number below it). Equal infinities and NaN for NaN are 0 apart.
func ulps(_ value: Float, _ exact: Double) -> Double {
  if exact.isNaN || value.isNaN { return exact.isNaN && value.isNaN ? 0 : .infinity }
  let rounded = Float(exact)
  if rounded.isInfinite || value.isInfinite { return rounded == value ? 0 : .infinity }
  let size = max(abs(rounded), Float.leastNormalMagnitude)
  return abs(Double(value) - exact) / Double(size.ulp)
}

/// The largest error of `values`, element by element.
func largestUlps(_ values: [Float], _ exact: [Double]) -> Double {
  zip(values, exact).reduce(0) { max($0, ulps($1.0, $1.1)) }
}

/// max |value - exact| / max(1, |exact|).
func largestError(_ values: [Float], _ exact: [Double]) -> Double {
  precondition(values.count == exact.count)
  return zip(values, exact).reduce(0) { worst, pair in
    let error = abs(Double(pair.0) - pair.1) / max(1, abs(pair.1))
    return error.isNaN ? .infinity : max(worst, error)
  }
}

func bitPatterns(_ values: [Float]) -> [UInt32] { values.map(\.bitPattern) }
