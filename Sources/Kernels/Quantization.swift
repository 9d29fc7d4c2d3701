/// float32 to Q8_0, as the gguf package: blocks of 32 with d = max |x| / 127 as a float16, and
/// x / d rounded to the nearest, halves away from zero, by the product with 1 / d.
func quantizeQ8_0(
  _ x: UnsafePointer<Float>, _ blocks: UnsafeMutablePointer<UInt8>, _ n: Int
) {
  for block in 0..<max(n, 0) {
    let from = x + 32 * block
    let to = blocks + 34 * block
    let (first, second) = (load(from), load(from, 16))
    var d = largestLane(larger(magnitude(first), magnitude(second))) / 127
    let inverse = Lanes(repeating: d == 0 ? 0 : 1 / d)
    // Safe: because a block starts with a float16 and blocks lie at even addresses.
    f32ToF16(&d, UnsafeMutableRawPointer(to).assumingMemoryBound(to: UInt16.self), 1)
    storeBytes(rounded(first * inverse), to + 2)
    storeBytes(rounded(second * inverse), to + 18)
  }
}

/// |v| < 2^22 to the nearest integer, halves away from zero. Where 1 / d overflowed, 0: the
/// float16 d is 0 there.
@inline(__always)
private func rounded(_ v: Lanes) -> IntLanes {
  let shift = Lanes(repeating: 0x1p23)
  let one = Lanes(repeating: 1)
  let size = magnitude(v)
  let nearest = (size + shift) - shift
  let floor = nearest.replacing(with: nearest - one, where: nearest .> size)
  let away = (size - floor) .>= Lanes(repeating: 0.5)
  let integer = bits(floor.replacing(with: floor + one, where: away) + shift)
  let isFinite = size .< shift
  let kept = IntLanes(repeating: 0).replacing(
    with: integer & IntLanes(repeating: 0xff), where: isFinite)
  return kept.replacing(
    with: IntLanes(repeating: 0) &- kept, where: bits(v) .< IntLanes(repeating: 0))
}

@inline(__always)
private func storeBytes(_ v: IntLanes, _ p: UnsafeMutablePointer<UInt8>) {
  for i in 0..<16 { p[i] = UInt8(truncatingIfNeeded: v[i]) }
}
