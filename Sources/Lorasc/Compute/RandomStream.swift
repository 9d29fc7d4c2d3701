import CSupport

/// A stream of random words, addressed by what it is for: the same (seed, purpose, cascade, step,
/// name) gives the same words on every machine, at any time, in any order.
///
/// With mix = the finaliser of splitmix64 and chain(a, b, ...) = h of
/// h = 0x9e3779b97f4a7c15, h = mix(h + word) + 0x9e3779b97f4a7c15 for each word:
///   key    = chain(seed, purpose, cascade)
///   stream = chain(FNV-1a(name's UTF-8), step)
/// The words are Philox4x32-10's, see `lorasc_random_stream`.
struct RandomStream: Equatable, Sendable {
  let key: UInt64
  let stream: UInt64

  /// The numbers are part of the results: never change one.
  enum Purpose: UInt64, CaseIterable, Sendable {
    case noise = 1
    case initialFactors = 2
    case head = 3
    case hiddenDropout = 4
    case attentionDropout = 5
    case classifierDropout = 6
    case shuffle = 7
    case loraDropout = 8
    case sampling = 9
  }

  init(seed: UInt64, purpose: Purpose, cascade: Int, step: Int, name: String) {
    key = RandomStream.chain(
      RandomStream.chain(
        RandomStream.chain(RandomStream.golden, seed), purpose.rawValue),
      UInt64(bitPattern: Int64(cascade)))
    stream = RandomStream.chain(
      RandomStream.chain(RandomStream.golden, RandomStream.hash(name)),
      UInt64(bitPattern: Int64(step)))
  }

  init(key: UInt64, stream: UInt64) {
    self.key = key
    self.stream = stream
  }

  /// As the kernels take it.
  var c: lorasc_random_stream { lorasc_random_stream(key: key, stream: stream) }

  private static let golden: UInt64 = 0x9e37_79b9_7f4a_7c15

  private static func chain(_ h: UInt64, _ word: UInt64) -> UInt64 {
    var z = h &+ word
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return (z ^ (z >> 31)) &+ golden
  }

  private static func hash(_ name: String) -> UInt64 {
    name.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01b3 }
  }
}

extension RandomStream {
  /// Words 4 block ... 4 block + 3.
  func words(block: UInt64) -> SIMD4<UInt32> {
    var (c0, c1) = (UInt32(truncatingIfNeeded: block), UInt32(truncatingIfNeeded: block >> 32))
    var (c2, c3) = (UInt32(truncatingIfNeeded: stream), UInt32(truncatingIfNeeded: stream >> 32))
    var (k0, k1) = (UInt32(truncatingIfNeeded: key), UInt32(truncatingIfNeeded: key >> 32))
    for _ in 0..<10 {
      let p0 = c0.multipliedFullWidth(by: 0xd251_1f53)
      let p1 = c2.multipliedFullWidth(by: 0xcd9e_8d57)
      (c0, c1, c2, c3) = (p1.high ^ c1 ^ k0, p1.low, p0.high ^ c3 ^ k1, p0.low)
      k0 &+= 0x9e37_79b9
      k1 &+= 0xbb67_ae85
    }
    return SIMD4(c0, c1, c2, c3)
  }

  /// Puts elements in random order: Fisher-Yates from the top, the swap partner of place i being
  /// floor(w (i + 1) / 2^64) with w from words 2 i (low) and 2 i + 1 (high) of the stream. The
  /// bias of a choice is below count / 2^64.
  func shuffle(_ order: UnsafeMutableBufferPointer<Int>) {
    for i in stride(from: order.count - 1, to: 0, by: -1) {
      let four = words(block: UInt64(i) >> 1)
      let (low, high) = i & 1 == 0 ? (four[0], four[1]) : (four[2], four[3])
      let w = UInt64(high) << 32 | UInt64(low)
      order.swapAt(i, Int(w.multipliedFullWidth(by: UInt64(i) + 1).high))
    }
  }
}
