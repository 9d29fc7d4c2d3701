import CSupport

// Quantised blocks of GGUF files to float32: the products and sums of the gguf package's
// dequantisers in their order, never fused, so the same bits at every level. A block of 32 has
// a float16 scale d, some a float16 offset m; bit 5 of 5-bit values lies apart from the others.
// Blocks of 256 are in DequantizationK.swift.

private let kindQ4_0 = Int32(bitPattern: LORASC_BLOCK_Q4_0.rawValue)
private let kindQ4_1 = Int32(bitPattern: LORASC_BLOCK_Q4_1.rawValue)
private let kindQ5_0 = Int32(bitPattern: LORASC_BLOCK_Q5_0.rawValue)
private let kindQ5_1 = Int32(bitPattern: LORASC_BLOCK_Q5_1.rawValue)
private let kindQ8_0 = Int32(bitPattern: LORASC_BLOCK_Q8_0.rawValue)
private let kindQ2_K = Int32(bitPattern: LORASC_BLOCK_Q2_K.rawValue)
private let kindQ3_K = Int32(bitPattern: LORASC_BLOCK_Q3_K.rawValue)
private let kindQ4_K = Int32(bitPattern: LORASC_BLOCK_Q4_K.rawValue)
private let kindQ5_K = Int32(bitPattern: LORASC_BLOCK_Q5_K.rawValue)
private let kindQ6_K = Int32(bitPattern: LORASC_BLOCK_Q6_K.rawValue)

func dequantize(
  _ kind: Int32, _ blocks: UnsafePointer<UInt8>, _ y: UnsafeMutablePointer<Float>, _ n: Int
) {
  switch kind {
  case kindQ4_0: forBlocks(blocks, 18, y, 32, n, blockQ4_0)
  case kindQ4_1: forBlocks(blocks, 20, y, 32, n, blockQ4_1)
  case kindQ5_0: forBlocks(blocks, 22, y, 32, n, blockQ5_0)
  case kindQ5_1: forBlocks(blocks, 24, y, 32, n, blockQ5_1)
  case kindQ8_0: forBlocks(blocks, 34, y, 32, n, blockQ8_0)
  case kindQ2_K: forBlocks(blocks, 84, y, 256, n, blockQ2_K)
  case kindQ3_K: forBlocks(blocks, 110, y, 256, n, blockQ3_K)
  case kindQ4_K: forBlocks(blocks, 144, y, 256, n, blockQ4_K)
  case kindQ5_K: forBlocks(blocks, 176, y, 256, n, blockQ5_K)
  case kindQ6_K: forBlocks(blocks, 210, y, 256, n, blockQ6_K)
  default: break
  }
}

@inline(__always)
private func forBlocks(
  _ blocks: UnsafePointer<UInt8>, _ bytes: Int, _ y: UnsafeMutablePointer<Float>, _ elements: Int,
  _ n: Int, _ block: (UnsafePointer<UInt8>, UnsafeMutablePointer<Float>) -> Void
) {
  var (x, y) = (blocks, y)
  for _ in 0..<max(n, 0) {
    block(x, y)
    x += bytes
    y += elements
  }
}

// MARK: Bytes

/// 16 unsigned bytes.
@inline(__always)
func loadBytes(_ p: UnsafePointer<UInt8>) -> IntLanes {
  // Safe: because callers keep 16 bytes within the block.
  let v = UnsafeRawPointer(p).loadUnaligned(as: SIMD16<UInt8>.self)
  return IntLanes(
    Int32(v[0]), Int32(v[1]), Int32(v[2]), Int32(v[3]), Int32(v[4]), Int32(v[5]), Int32(v[6]),
    Int32(v[7]), Int32(v[8]), Int32(v[9]), Int32(v[10]), Int32(v[11]), Int32(v[12]), Int32(v[13]),
    Int32(v[14]), Int32(v[15]))
}

/// 16 signed bytes.
@inline(__always)
private func loadSignedBytes(_ p: UnsafePointer<UInt8>) -> IntLanes {
  // Safe: because callers keep 16 bytes within the block.
  let v = UnsafeRawPointer(p).loadUnaligned(as: SIMD16<Int8>.self)
  return IntLanes(
    Int32(v[0]), Int32(v[1]), Int32(v[2]), Int32(v[3]), Int32(v[4]), Int32(v[5]), Int32(v[6]),
    Int32(v[7]), Int32(v[8]), Int32(v[9]), Int32(v[10]), Int32(v[11]), Int32(v[12]), Int32(v[13]),
    Int32(v[14]), Int32(v[15]))
}

@inline(__always)
func low(_ v: IntLanes, bits: Int32) -> IntLanes { v & IntLanes(repeating: (1 << bits) &- 1) }

@inline(__always)
func shifted(_ v: IntLanes, down: Int32) -> IntLanes { v &>> IntLanes(repeating: down) }

@inline(__always)
func shifted(_ v: IntLanes, up: Int32) -> IntLanes { v &<< IntLanes(repeating: up) }

/// A float16, as `f16ToF32` has it.
@inline(__always)
func half(_ p: UnsafePointer<UInt8>) -> Float {
  // Safe: because callers keep 2 bytes within the block.
  let h = UInt32(UInt16(littleEndian: UnsafeRawPointer(p).loadUnaligned(as: UInt16.self)))
  let size = (h & 0x7fff) << 13
  let exponent = size & 0x0f80_0000
  let sign = (h & 0x8000) << 16
  if exponent == 0 {
    let tiny = Float(bitPattern: 113 << 23)
    return Float(bitPattern: (Float(bitPattern: size | 113 << 23) - tiny).bitPattern | sign)
  }
  let bias: UInt32 = exponent == 0x0f80_0000 ? 224 << 23 : 112 << 23
  return Float(bitPattern: (size &+ bias) | sign)
}

// MARK: Values

/// y = d q
@inline(__always)
func storeScaled(_ q: IntLanes, _ d: Float, _ y: UnsafeMutablePointer<Float>) {
  store(Lanes(repeating: d) * converted(q), y)
}

/// y = d q + m
@inline(__always)
func storeScaled(_ q: IntLanes, _ d: Float, plus m: Float, _ y: UnsafeMutablePointer<Float>) {
  store(Lanes(repeating: d) * converted(q) + Lanes(repeating: m), y)
}

/// 16 for each of the low 16 bits that is set, in the order of the bits.
@inline(__always)
private func fifthBits(_ word: UInt32) -> IntLanes {
  let bit = IntLanes(
    1, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8, 1 << 9, 1 << 10, 1 << 11,
    1 << 12, 1 << 13, 1 << 14, 1 << 15)
  let isSet = (IntLanes(repeating: Int32(truncatingIfNeeded: word)) & bit) .== bit
  return IntLanes(repeating: 0).replacing(with: IntLanes(repeating: 16), where: isSet)
}

@inline(__always)
func word(_ p: UnsafePointer<UInt8>) -> UInt32 {
  // Safe: because callers keep 4 bytes within the block.
  UInt32(littleEndian: UnsafeRawPointer(p).loadUnaligned(as: UInt32.self))
}

// MARK: Blocks of 32: the low halves of 16 bytes are values 0 to 15, the high ones 16 to 31

@inline(__always)
private func blockQ4_0(_ x: UnsafePointer<UInt8>, _ y: UnsafeMutablePointer<Float>) {
  let d = half(x)
  let q = loadBytes(x + 2)
  let eight = IntLanes(repeating: 8)
  storeScaled(low(q, bits: 4) &- eight, d, y)
  storeScaled(shifted(q, down: 4) &- eight, d, y + 16)
}

@inline(__always)
private func blockQ4_1(_ x: UnsafePointer<UInt8>, _ y: UnsafeMutablePointer<Float>) {
  let (d, m) = (half(x), half(x + 2))
  let q = loadBytes(x + 4)
  storeScaled(low(q, bits: 4), d, plus: m, y)
  storeScaled(shifted(q, down: 4), d, plus: m, y + 16)
}

@inline(__always)
private func blockQ5_0(_ x: UnsafePointer<UInt8>, _ y: UnsafeMutablePointer<Float>) {
  let d = half(x)
  let high = word(x + 2)
  let q = loadBytes(x + 6)
  let sixteen = IntLanes(repeating: 16)
  storeScaled((low(q, bits: 4) | fifthBits(high)) &- sixteen, d, y)
  storeScaled((shifted(q, down: 4) | fifthBits(high >> 16)) &- sixteen, d, y + 16)
}

@inline(__always)
private func blockQ5_1(_ x: UnsafePointer<UInt8>, _ y: UnsafeMutablePointer<Float>) {
  let (d, m) = (half(x), half(x + 2))
  let high = word(x + 4)
  let q = loadBytes(x + 8)
  storeScaled(low(q, bits: 4) | fifthBits(high), d, plus: m, y)
  storeScaled(shifted(q, down: 4) | fifthBits(high >> 16), d, plus: m, y + 16)
}

@inline(__always)
private func blockQ8_0(_ x: UnsafePointer<UInt8>, _ y: UnsafeMutablePointer<Float>) {
  let d = half(x)
  storeScaled(loadSignedBytes(x + 2), d, y)
  storeScaled(loadSignedBytes(x + 18), d, y + 16)
}
