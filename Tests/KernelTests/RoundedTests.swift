import CSupport
import Testing

@testable import Lorasc

/// What kernels read and write as bfloat16 is, bit for bit, what their float32 forms make of the
/// same values, rounded.
@Suite struct RoundedTests {
  private func widened(_ level: KernelLevel, _ halves: [UInt16]) throws -> [Float] {
    var floats = [Float](repeating: 0, count: halves.count)
    try level.table().bf16_to_f32(halves, &floats, halves.count)
    return floats
  }

  private func rounded(_ level: KernelLevel, _ floats: [Float]) throws -> [UInt16] {
    var halves = [UInt16](repeating: 0, count: floats.count)
    try level.table().f32_to_bf16(floats, &halves, floats.count)
    return halves
  }

  /// Finite values, and what isn't where there are many.
  private func halves(_ level: KernelLevel, _ count: Int, _ seed: UInt64) throws -> [UInt16] {
    var random = TestRandom(seed)
    var values = try rounded(level, random.floats(count, in: -5...5))
    if count > 30 { values.replaceSubrange(20..<24, with: [0x7fc0, 0x7f80, 0xff80, 0x8000]) }
    return values
  }

  private func empty(_ count: Int) -> Guarded<UInt16> { Guarded(Array(repeating: 7, count: count)) }

  @Test(arguments: levels, Int32(0)..<5)
  func activations(level: KernelLevel, kind: Int32) throws {
    let kernels = try level.table()
    for n in lengths {
      let (x, dy) = (try halves(level, n, 1), try halves(level, n, 2))
      let (xFloats, dyFloats) = (try widened(level, x), try widened(level, dy))
      let floats = Guarded(count: n)
      kernels.activation_forward(kind, xFloats, floats.p, n)
      let y = empty(n)
      kernels.activation_forward_bf16(kind, x, y.p, n)
      #expect(try y.isIntact && y.values == rounded(level, floats.values), "n \(n)")
      let inPlace = Guarded(x)
      kernels.activation_forward_bf16(kind, inPlace.p, inPlace.p, n)
      #expect(inPlace.isIntact && inPlace.values == y.values, "n \(n)")

      kernels.activation_backward(kind, xFloats, dyFloats, floats.p, n)
      let dx = Guarded(dy)
      kernels.activation_backward_bf16(kind, x, dx.p, dx.p, n)
      #expect(try dx.isIntact && dx.values == rounded(level, floats.values), "n \(n)")
    }
  }

  @Test(arguments: levels, Int32(0)..<5)
  func gates(level: KernelLevel, kind: Int32) throws {
    let kernels = try level.table()
    for n in lengths {
      let (gate, up) = (try halves(level, n, 3), try halves(level, n, 4))
      let dy = try halves(level, n, 5)
      let (gateFloats, upFloats) = (try widened(level, gate), try widened(level, up))
      let (first, second) = (Guarded(count: n), Guarded(count: n))
      kernels.gate_forward(kind, gateFloats, upFloats, first.p, n)
      let y = empty(n)
      kernels.gate_forward_bf16(kind, gate, up, y.p, n)
      #expect(try y.isIntact && y.values == rounded(level, first.values), "n \(n)")

      kernels.gate_backward(
        kind, gateFloats, upFloats, try widened(level, dy), first.p, second.p, n)
      let (dGate, dUp) = (empty(n), Guarded(dy))
      kernels.gate_backward_bf16(kind, gate, up, dUp.p, dGate.p, dUp.p, n)
      #expect(try dGate.isIntact && dGate.values == rounded(level, first.values), "n \(n)")
      #expect(try dUp.isIntact && dUp.values == rounded(level, second.values), "n \(n)")
    }
  }

  @Test(arguments: levels, VectorTests.shapes)
  func scaledColumns(level: KernelLevel, shape: (Int, Int, Int)) throws {
    let (rows, cols, ld) = shape
    let kernels = try level.table()
    var random = TestRandom(9)
    let (k, x, start) = (random.floats(cols), random.floats(rows * ld), random.floats(cols))
    let dy = try halves(level, rows * ld, 8)
    let (dx, dk) = (Guarded(count: rows * ld, of: 0), Guarded(start))
    kernels.scale_columns_backward(k, try widened(level, dy), x, dx.p, dk.p, rows, cols, ld, ld, ld)
    let exact = try rounded(level, dx.values)
    let (inPlace, sums) = (Guarded(dy), Guarded(start))
    kernels.scale_columns_backward_bf16(
      k, inPlace.p, x, inPlace.p, sums.p, rows, cols, ld, ld, ld)
    let expected = (0..<rows * ld).map { $0 % ld < cols ? exact[$0] : dy[$0] }
    #expect(inPlace.isIntact && inPlace.values == expected)
    #expect(sums.isIntact && bitPatterns(sums.values) == bitPatterns(dk.values))
  }

  @Test(arguments: levels, [(1, 2), (3, 6), (2, 32), (3, 34), (1, 128)])
  func rotation(level: KernelLevel, form: (Int, Int)) throws {
    let kernels = try level.table()
    let (heads, size) = form
    let (rows, ld) = (3, heads * size + 3)
    var random = TestRandom(6)
    let x = try rounded(level, random.floats(rows * ld))
    let (cosines, sines) = (random.floats(4 * size), random.floats(4 * size))
    let positions: [Int32] = [2, 0, 7]
    let (floats, turned) = (Guarded(try widened(level, x)), Guarded(x))
    kernels.rotate(floats.p, rows, heads, size, ld, cosines, sines, positions, -1)
    kernels.rotate_bf16(turned.p, rows, heads, size, ld, cosines, sines, positions, -1)
    #expect(try turned.isIntact && turned.values == rounded(level, floats.values))
  }

  @Test(arguments: levels, LayerNormTests.shapes)
  func norms(level: KernelLevel, shape: (Int, Int)) throws {
    let kernels = try level.table()
    let (rows, cols) = shape
    let count = rows * cols
    var random = TestRandom(UInt64(count))
    let (x, dy) = (random.floats(count), random.floats(count))
    let (gamma, beta) = (random.floats(cols), random.floats(cols))
    let rstd = random.floats(rows, in: 0.5...2)
    let (sum, y) = (Guarded(count: count), Guarded(count: count))
    func check(_ run: (UnsafeMutablePointer<Float>?, UnsafeMutablePointer<UInt16>?) -> Void) throws
    {
      run(y.p, nil)
      let (both, floats) = (empty(count), Guarded(count: count))
      run(floats.p, both.p)
      #expect(bitPatterns(floats.values) == bitPatterns(y.values) && floats.isIntact)
      #expect(try both.isIntact && both.values == rounded(level, y.values))
    }
    try check { y, rounded in
      kernels.layer_norm_forward(
        x, nil, gamma, beta, 1e-12, sum.p, y, rounded, nil, nil, rows, cols)
    }
    let alone = empty(count)
    kernels.layer_norm_forward(
      x, nil, gamma, beta, 1e-12, sum.p, nil, alone.p, nil, nil, rows, cols)
    #expect(try alone.isIntact && alone.values == rounded(level, y.values))
    try check { y, rounded in
      kernels.rms_norm_forward(x, dy, gamma, 1e-5, sum.p, y, rounded, nil, rows, cols)
    }
    kernels.rms_norm_forward(x, dy, gamma, 1e-5, sum.p, nil, alone.p, nil, rows, cols)
    #expect(try alone.isIntact && alone.values == rounded(level, y.values))
    for add in [nil, x] {
      try check { dx, rounded in
        guard let dx else { return }
        kernels.layer_norm_backward(
          dy, x, gamma, rstd, rstd, add, dx, rounded, nil, nil, rows, cols)
      }
      try check { dx, rounded in
        guard let dx else { return }
        kernels.rms_norm_backward(dy, x, gamma, rstd, add, dx, rounded, nil, rows, cols)
      }
    }
  }

  @Test(arguments: levels, SoftmaxTests.shapes)
  func softmax(level: KernelLevel, shape: (Int, Int, Int)) throws {
    let kernels = try level.table()
    let (rows, cols, ld) = shape
    var random = TestRandom(UInt64(cols))
    let (x, dp) = (random.floats(rows * ld), random.floats(rows * ld))
    /// What is between the rows stays.
    func expected(_ floats: [Float]) throws -> [UInt16] {
      try rounded(level, floats).enumerated().map { $0.offset % ld < cols ? $0.element : 7 }
    }
    let (p, lse) = (Guarded(x), Guarded(count: rows))
    kernels.softmax_forward(p.p, rows, cols, ld, 0.125, lse.p, nil)
    let (used, halves) = (Guarded(x), empty(rows * ld))
    kernels.softmax_forward(used.p, rows, cols, ld, 0.125, nil, halves.p)
    #expect(try halves.isIntact && halves.values == expected(p.values) && used.isIntact)

    let (again, both, second) = (Guarded(x), Guarded(x), empty(rows * ld))
    kernels.softmax_again(again.p, rows, cols, ld, 0.125, lse.values, 1, nil)
    kernels.softmax_again(both.p, rows, cols, ld, 0.125, lse.values, 1, second.p)
    #expect(bitPatterns(both.values) == bitPatterns(again.values))
    #expect(try second.isIntact && second.values == expected(again.values))

    let (ds, kept, third) = (Guarded(dp), Guarded(dp), empty(rows * ld))
    kernels.softmax_backward(p.values, ds.p, rows, cols, ld, 0.125, nil)
    kernels.softmax_backward(p.values, kept.p, rows, cols, ld, 0.125, third.p)
    #expect(kept.values == dp)
    #expect(try third.isIntact && third.values == expected(ds.values))
  }
}
