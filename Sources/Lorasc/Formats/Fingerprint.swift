/// A fast 64-bit hash to tell one set of weights from another. Not cryptographic: it
/// guards against mix-ups, not against forgery.
///
/// Bytes go as little-endian 64-bit words w into eight lanes in turn,
///   x = lane xor w,  x = x xor (x >> 32),  lane = rotl(x · K, 29),  K odd,
/// and, when the message ends, the lanes and the length into one state through the
/// same step and the finalizer of splitmix64. For a fixed lane the step is a bijection
/// of w and for a fixed w one of the lane: a change within one word always changes the
/// result. A product carries bits only upward. Without the shift a change of w's top bit
/// would stay one bit, and one bit changed in the lane's next word could undo it.
/// Eight lanes because a step takes about seven cycles and the processor can overlap as
/// many.
struct Fingerprint: Sendable {
  private(set) var value: UInt64 = 0x6C6F_7261_7363_0001

  private static let factor: UInt64 = 0x9E37_79B9_7F4A_7C15

  @inline(__always)
  private static func step(_ lane: UInt64, _ word: UInt64) -> UInt64 {
    let mixed = lane ^ word
    let product = (mixed ^ mixed >> 32) &* factor
    return product << 29 | product >> 35
  }

  /// Adds one message; its length counts, so that ("ab", "c") and ("a", "bc") differ.
  mutating func combine(_ bytes: UnsafeRawBufferPointer) {
    var l0: UInt64 = 1
    var l1: UInt64 = 2
    var l2: UInt64 = 3
    var l3: UInt64 = 4
    var l4: UInt64 = 5
    var l5: UInt64 = 6
    var l6: UInt64 = 7
    var l7: UInt64 = 8
    let whole = bytes.count / 64 * 64
    // Safe: because offset + 63 < whole <= bytes.count; the loads need no alignment.
    @inline(__always) func word(_ offset: Int) -> UInt64 {
      UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
    var offset = 0
    while offset < whole {
      l0 = Self.step(l0, word(offset))
      l1 = Self.step(l1, word(offset &+ 8))
      l2 = Self.step(l2, word(offset &+ 16))
      l3 = Self.step(l3, word(offset &+ 24))
      l4 = Self.step(l4, word(offset &+ 32))
      l5 = Self.step(l5, word(offset &+ 40))
      l6 = Self.step(l6, word(offset &+ 48))
      l7 = Self.step(l7, word(offset &+ 56))
      offset &+= 64
    }
    // The rest byte by byte into the first lane, which sees each of them as a word.
    for index in whole..<bytes.count { l0 = Self.step(l0, UInt64(bytes[index])) }
    for lane in [l0, l1, l2, l3, l4, l5, l6, l7] { combine(lane) }
    combine(UInt64(bytes.count))
  }

  mutating func combine(_ text: String) {
    var text = text
    text.withUTF8 { combine(UnsafeRawBufferPointer($0)) }
  }

  mutating func combine(_ word: UInt64) {
    var mixed = Self.step(value, word)
    mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
    value = mixed ^ mixed >> 31
  }
}

extension TensorStore {
  /// The fingerprint over names, types, shapes and all bytes, in the order of the
  /// names' UTF-8 bytes: how the tensors are spread over files doesn't count. Reads
  /// everything, so callers keep the result.
  func fingerprint() throws -> UInt64 {
    var fingerprint = Fingerprint()
    for name in names.sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) }) {
      let tensor = try tensor(name)
      fingerprint.combine(name)
      fingerprint.combine(tensor.type.name)
      fingerprint.combine(UInt64(tensor.shape.count))
      for size in tensor.shape { fingerprint.combine(UInt64(size)) }
      withExtendedLifetime(tensor.owner) { fingerprint.combine(tensor.bytes) }
    }
    return fingerprint.value
  }
}
