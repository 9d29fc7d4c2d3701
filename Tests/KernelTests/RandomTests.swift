import CSupport
import Glibc
import Testing

@testable import Lorasc

@Suite struct RandomTests {
  static let stream = RandomStream(key: 0x0123_4567_89ab_cdef, stream: 0xfedc_ba98_7654_3210)

  /// The word that element i takes, from the scalar generator.
  private func word(_ stream: RandomStream, _ i: UInt64) -> UInt32 {
    stream.words(block: i >> 2)[Int(i & 3)]
  }

  /// Random123's known answers: counter and key all zeros, all ones, digits of pi.
  @Test func philoxKnownAnswers() {
    let cases: [(UInt64, UInt64, UInt64, SIMD4<UInt32>)] = [
      (0, 0, 0, SIMD4(0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8)),
      (.max, .max, .max, SIMD4(0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd)),
      (
        0x299f_31d0_a409_3822, 0x0370_7344_1319_8a2e, 0x85a3_08d3_243f_6a88,
        SIMD4(0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1)
      ),
    ]
    for (key, stream, block, answer) in cases {
      #expect(RandomStream(key: key, stream: stream).words(block: block) == answer)
    }
  }

  /// The kernels' words are visible through u - 1/2 with width 1.
  @Test(arguments: levels)
  func kernelsHaveTheKnownAnswersToo(level: KernelLevel) throws {
    let kernels = try level.table()
    let out = Guarded(count: 4)
    kernels.add_uniform(nil, out.p, 4, lorasc_random_stream(key: 0, stream: 0), 0, 1)
    let answer: [UInt32] = [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
    #expect(out.values == answer.map { Float($0 >> 8) * 0x1p-24 - 0.5 })
    // The last block of all, then the index wraps.
    kernels.add_uniform(
      nil, out.p, 4, lorasc_random_stream(key: .max, stream: .max), .max - 3, 1)
    let last = RandomStream(key: .max, stream: .max).words(block: .max >> 2)
    #expect(out.values == (0..<4).map { Float(last[$0] >> 8) * 0x1p-24 - 0.5 })
  }

  @Test(arguments: levels)
  func uniformIsOneMultiplyAndOneAdd(level: KernelLevel) throws {
    let kernels = try level.table()
    var random = TestRandom(1)
    let c = Self.stream.c
    for n in lengths {
      for first: UInt64 in [0, 1, 2, 3, 4, 37, 1 << 34, (1 << 40) + 3] {
        let base = random.floats(n)
        let out = Guarded(count: n)
        kernels.add_uniform(base, out.p, n, c, first, 0.3)
        let exact = base.enumerated().map { i, b -> Float in
          let u = Float(word(Self.stream, first + UInt64(i)) >> 8) * 0x1p-24
          return b + (u - 0.5) * 0.3
        }
        #expect(bitPatterns(out.values) == bitPatterns(exact) && out.isIntact, "\(n) \(first)")
        let inPlace = Guarded(base)
        kernels.add_uniform(inPlace.p, inPlace.p, n, c, first, 0.3)
        #expect(bitPatterns(inPlace.values) == bitPatterns(exact) && inPlace.isIntact)
      }
    }
  }

  /// A block's pairs (0, 1) and (2, 3), by float64 formulas.
  private func normal(_ stream: RandomStream, _ i: UInt64) -> Double {
    let u = Double((word(stream, i & ~1) >> 8) + 1) * 0x1p-24
    let angle = 2 * Double.pi * Double(word(stream, i | 1) >> 8) * 0x1p-24
    return (-2 * log(u)).squareRoot() * (i & 1 == 0 ? cos(angle) : sin(angle))
  }

  @Test(arguments: levels)
  func normalMatchesFloat64(level: KernelLevel) throws {
    let kernels = try level.table()
    let n = 1 << 18
    let out = Guarded(count: n)
    kernels.add_normal(nil, out.p, n, Self.stream.c, 0, 1)
    let exact = (0..<n).map { normal(Self.stream, UInt64($0)) }
    #expect(largestError(out.values, exact) < 5e-7)
    let mean = exact.reduce(0, +) / Double(n)
    let variance = exact.reduce(0) { $0 + $1 * $1 } / Double(n)
    let fourth = exact.reduce(0) { $0 + $1 * $1 * $1 * $1 } / Double(n)
    // Five deviations of each moment's estimate.
    #expect(abs(mean) < 5 / Double(n).squareRoot())
    #expect(abs(variance - 1) < 5 * (2 / Double(n)).squareRoot())
    #expect(abs(fourth - 3) < 5 * (96 / Double(n)).squareRoot())
  }

  @Test(arguments: levels)
  func anyRangeCanBeMadeOnItsOwn(level: KernelLevel) throws {
    let kernels = try level.table()
    let c = Self.stream.c
    let whole = Guarded(count: 1000)
    let base = [Float](repeating: 0.25, count: 1000)
    kernels.add_normal(base, whole.p, 1000, c, 5, 0.1)
    for n in lengths {
      for start in [0, 1, 2, 3, 10, 33] where start + n <= 1000 {
        let part = Guarded(count: n)
        kernels.add_normal(base, part.p, n, c, UInt64(5 + start), 0.1)
        let expected = whole.values[start..<start + n].map(\.bitPattern)
        #expect(bitPatterns(part.values) == expected && part.isIntact)
      }
    }
  }

  @Test func sameBitsAtEveryLevel() throws {
    let n = 1 << 16
    var random = TestRandom(9)
    let base = random.floats(n)
    func all(_ level: KernelLevel) throws -> [[UInt32]] {
      let kernels = try level.table()
      return [0, 1, 2].map { which in
        let out = Guarded(count: n)
        switch which {
        case 0: kernels.add_uniform(base, out.p, n, Self.stream.c, 3, 0.1)
        case 1: kernels.add_normal(base, out.p, n, Self.stream.c, 3, 0.1)
        default: kernels.dropout(base, out.p, n, Self.stream.c, 3, 0.1)
        }
        return bitPatterns(out.values)
      }
    }
    let expected = try all(.baseline)
    for level in levels {
      let bits = try all(level)
      #expect(bits == expected)
    }
  }

  @Test(arguments: levels)
  func dropoutKeepsByTheWord(level: KernelLevel) throws {
    let kernels = try level.table()
    var random = TestRandom(2)
    for p: Float in [0.1, 0.5, 0.9, 1e-9, 0.99999994] {
      for n in lengths {
        let x = random.floats(n)
        let y = Guarded(count: n)
        kernels.dropout(x, y.p, n, Self.stream.c, 7, p)
        let exact = x.enumerated().map { i, x in
          x * (Double(word(Self.stream, 7 + UInt64(i))) >= Double(p) * 0x1p32 ? 1 / (1 - p) : 0)
        }
        #expect(bitPatterns(y.values) == bitPatterns(exact) && y.isIntact, "\(p) \(n)")
        let inPlace = Guarded(x)
        kernels.dropout(inPlace.p, inPlace.p, n, Self.stream.c, 7, p)
        #expect(bitPatterns(inPlace.values) == bitPatterns(exact))
      }
    }
    let x = random.floats(100)
    let y = Guarded(count: 100)
    kernels.dropout(x, y.p, 100, Self.stream.c, 0, 0)
    #expect(y.values == x)
    kernels.dropout(x, y.p, 100, Self.stream.c, 0, 1)
    #expect(y.values.allSatisfy { $0 == 0 })
  }
}

@Suite struct RandomStreamTests {
  private let pinnedZero = RandomStream(
    key: 0x32c9_e5e7_ff67_330e, stream: 0xc031_e35f_0e87_df0a)
  private let pinnedOther = RandomStream(
    key: 0x0e4e_b003_fea8_f673, stream: 0x9765_ca5e_ea09_7acb)

  private func stream(
    seed: UInt64 = 1, _ purpose: RandomStream.Purpose = .noise, cascade: Int = 0, step: Int = 0,
    name: String = "a"
  ) -> RandomStream {
    RandomStream(seed: seed, purpose: purpose, cascade: cascade, step: step, name: name)
  }

  /// The mixing is part of saved results: these numbers must never change. They were computed by
  /// the documented formula in Python.
  @Test func pinned() {
    #expect(stream(seed: 0, .noise, cascade: 0, step: 0, name: "") == pinnedZero)
    #expect(
      stream(seed: 42, .shuffle, cascade: 3, step: 7, name: "encoder.layer.0.attention.self.query")
        == pinnedOther)
  }

  @Test func everyPartCounts() {
    var all = [
      stream(), stream(seed: 2), stream(cascade: 1), stream(step: 1), stream(name: "b"),
      stream(name: "ab"),
      stream(name: "ba"), stream(step: -1), stream(seed: .max),
    ]
    all += RandomStream.Purpose.allCases.dropFirst().map { stream($0) }
    let distinct = Set(all.map { [$0.key, $0.stream] })
    #expect(distinct.count == all.count)
  }

  @Test(arguments: [0, 1, 2, 3, 10, 1000])
  func permutationHoldsEveryIndex(count: Int) {
    let order = permutation(of: count, stream(.shuffle))
    #expect(order.sorted() == Array(0..<count))
    #expect(permutation(of: count, stream(.shuffle)) == order)
  }

  private func permutation(of count: Int, _ stream: RandomStream) -> [Int] {
    var order = Array(0..<count)
    order.withUnsafeMutableBufferPointer { stream.shuffle($0) }
    return order
  }

  /// Each of the 24 orders of four about equally often: chi squared with 23 degrees of freedom.
  @Test func permutationsAreUniform() {
    var counts: [[Int]: Int] = [:]
    let draws = 24000
    for step in 0..<draws {
      counts[permutation(of: 4, stream(.shuffle, step: step)), default: 0] += 1
    }
    let expected = Double(draws) / 24
    let chi = counts.values.reduce(0) {
      $0 + (Double($1) - expected) * (Double($1) - expected) / expected
    }
    #expect(counts.count == 24 && chi < 55)
  }
}
