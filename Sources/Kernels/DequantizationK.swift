// The "K" blocks: 256 values in parts of 16 or 32, each with a small integer scale (and offset),
// which a float16 for the block multiplies. Bits of values that don't fit a byte's share lie in
// arrays of their own.

/// Values = d s q - dmin m, 4 bits each: 64 values share 32 bytes, the low halves first.
@inline(__always)
func blockQ4_K(_ x: UnsafePointer<UInt8>, _ y: UnsafeMutablePointer<Float>) {
  let (d, dmin) = (half(x), half(x + 2))
  for pair in 0..<4 {
    let (first, second) = (part(x + 4, 2 * pair, d, dmin), part(x + 4, 2 * pair + 1, d, dmin))
    for lanes in 0..<2 {
      let q = loadBytes(x + 16 + 32 * pair + 16 * lanes)
      let out = y + 64 * pair + 16 * lanes
      storeScaled(low(q, bits: 4), first.d, plus: first.m, out)
      storeScaled(shifted(q, down: 4), second.d, plus: second.m, out + 32)
    }
  }
}

/// As Q4_K, and bit 5 of value i of the parts of 32 is one of the 8 bits of byte i of 32.
@inline(__always)
func blockQ5_K(_ x: UnsafePointer<UInt8>, _ y: UnsafeMutablePointer<Float>) {
  let (d, dmin) = (half(x), half(x + 2))
  for pair in 0..<4 {
    let (first, second) = (part(x + 4, 2 * pair, d, dmin), part(x + 4, 2 * pair + 1, d, dmin))
    let down = Int32(truncatingIfNeeded: 2 * pair)
    for lanes in 0..<2 {
      let q = loadBytes(x + 48 + 32 * pair + 16 * lanes)
      let high = shifted(loadBytes(x + 16 + 16 * lanes), down: down)
      let out = y + 64 * pair + 16 * lanes
      let fifth = shifted(low(high, bits: 1), up: 4)
      let next = shifted(low(shifted(high, down: 1), bits: 1), up: 4)
      storeScaled(low(q, bits: 4) | fifth, first.d, plus: first.m, out)
      storeScaled(shifted(q, down: 4) | next, second.d, plus: second.m, out + 32)
    }
  }
}

/// Scale and (negative) offset of part j of 8: 6 bits each, packed into 12 bytes: of the first
/// four parts in the low bits of bytes 0 to 7, of the others 4 bits in bytes 8 to 11 and 2 in
/// the high bits of those.
@inline(__always)
private func part(_ s: UnsafePointer<UInt8>, _ j: Int, _ d: Float, _ dmin: Float) -> (
  d: Float, m: Float
) {
  let (scale, offset): (UInt8, UInt8) =
    j < 4
    ? (s[j] & 63, s[j + 4] & 63)
    : (s[j + 4] & 15 | s[j - 4] >> 2 & 0x30, s[j + 4] >> 4 | s[j] >> 2 & 0x30)
  // a - b and a + (-b) are the same bits.
  return (d * Float(scale), -(dmin * Float(offset)))
}

/// Values = d s (q - 32), 6 bits each, 8-bit scales for parts of 16: of each half, the low 4 bits
/// of values i, i + 32 (low halves of bytes), i + 64, i + 96 (high halves) in 64 bytes, the other
/// two of all four in byte i of 32.
@inline(__always)
func blockQ6_K(_ x: UnsafePointer<UInt8>, _ y: UnsafeMutablePointer<Float>) {
  let d = half(x + 208)
  let zero = IntLanes(repeating: 32)
  for side in 0..<2 {
    for lanes in 0..<2 {
      let scales = x + 192 + 8 * side + lanes
      let out = y + 128 * side + 16 * lanes
      let first = loadBytes(x + 64 * side + 16 * lanes)
      let second = loadBytes(x + 64 * side + 32 + 16 * lanes)
      let high = loadBytes(x + 128 + 32 * side + 16 * lanes)
      let parts = (
        low(first, bits: 4) | shifted(low(high, bits: 2), up: 4),
        low(second, bits: 4) | shifted(low(shifted(high, down: 2), bits: 2), up: 4),
        shifted(first, down: 4) | shifted(low(shifted(high, down: 4), bits: 2), up: 4),
        shifted(second, down: 4) | shifted(shifted(high, down: 6), up: 4)
      )
      storeScaled(parts.0 &- zero, d * signed(scales[0]), out)
      storeScaled(parts.1 &- zero, d * signed(scales[2]), out + 32)
      storeScaled(parts.2 &- zero, d * signed(scales[4]), out + 64)
      storeScaled(parts.3 &- zero, d * signed(scales[6]), out + 96)
    }
  }
}

@inline(__always)
private func signed(_ byte: UInt8) -> Float { Float(Int8(bitPattern: byte)) }

/// Values = d s q - dmin m, 2 bits each, 4-bit scales and offsets for parts of 16: byte i of a
/// half's 32 holds values i, i + 32, i + 64, i + 96, from its low bits up.
@inline(__always)
func blockQ2_K(_ x: UnsafePointer<UInt8>, _ y: UnsafeMutablePointer<Float>) {
  let (d, dmin) = (half(x + 80), half(x + 82))
  for side in 0..<2 {
    for lanes in 0..<2 {
      let q = loadBytes(x + 16 + 32 * side + 16 * lanes)
      for quarter in 0..<4 {
        let scale = x[8 * side + 2 * quarter + lanes]
        storeScaled(
          low(shifted(q, down: Int32(truncatingIfNeeded: 2 * quarter)), bits: 2),
          d * Float(scale & 15), plus: -(dmin * Float(scale >> 4)),
          y + 128 * side + 32 * quarter + 16 * lanes)
      }
    }
  }
}

/// Values = d (s - 32) (q - 4 unless the third bit is set), 2 bits each as Q2_K's; the third bit
/// of value i of the eight parts of 32 is one of the 8 bits of byte i of 32.
@inline(__always)
func blockQ3_K(_ x: UnsafePointer<UInt8>, _ y: UnsafeMutablePointer<Float>) {
  let d = half(x + 108)
  let scales = scalesQ3_K(x + 96)
  for side in 0..<2 {
    for lanes in 0..<2 {
      let q = loadBytes(x + 32 + 32 * side + 16 * lanes)
      let high = loadBytes(x + 16 * lanes)
      for quarter in 0..<4 {
        let bits = shifted(q, down: Int32(truncatingIfNeeded: 2 * quarter))
        let third = shifted(high, down: Int32(truncatingIfNeeded: 4 * side + quarter))
        let value = low(bits, bits: 2) | shifted(low(third, bits: 1), up: 2)
        let eight = side == 0 ? scales.0 : scales.1
        let scale = Int32(eight &>> UInt64(8 * (2 * quarter + lanes)) & 63) &- 32
        storeScaled(
          value &- IntLanes(repeating: 4), d * Float(scale),
          y + 128 * side + 32 * quarter + 16 * lanes)
      }
    }
  }
}

/// 16 scales of 6 bits, a byte each: the low 4 bits in 8 bytes, low halves before high ones, the
/// other 2 in 4 bytes, from their low bits up.
@inline(__always)
private func scalesQ3_K(_ s: UnsafePointer<UInt8>) -> (UInt64, UInt64) {
  let small = UInt64(word(s)) | UInt64(word(s + 4)) &<< 32
  let large = UInt64(word(s + 8))
  let (halves, pairs): (UInt64, UInt64) = (0x0f0f_0f0f_0f0f_0f0f, 0x0303_0303)
  let first = large & pairs | (large &>> 2 & pairs) &<< 32
  let second = large &>> 4 & pairs | (large &>> 6 & pairs) &<< 32
  return (small & halves | first &<< 4, small &>> 4 & halves | second &<< 4)
}
