import CSupport
import Testing

@testable import Lorasc

/// Products with packed weights against sums in float64, over random shapes, rows that are apart
/// and every number of rows around the tiles.
@Suite(.enabled(if: MatrixProducts.onednn.isAvailable, "oneDNN is not installed"))
struct PackedProductTests {
  static let shapes = [(384, 96), (33, 65), (100, 37), (7, 3), (1, 1), (64, 9000)]
  static let rows = [1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 200, 300]

  private static func rounded(_ x: Float, _ type: PackedProducts.ElementType) -> Double {
    guard type == .bfloat16 else { return Double(x) }
    let bits = x.bitPattern
    return Double(Float(bitPattern: (bits &+ 0x7fff &+ (bits >> 16 & 1)) & 0xffff_0000))
  }

  private struct Case {
    let rows: Int
    let ldx: Int
    let ldy: Int
    let output: PackedProducts.Output
  }

  /// W as it lies in a layer: (columns, inner).
  /// - Parameter side: W is packed by blocks of this side.
  private func check(
    _ shape: PackedProducts.Shape, _ type: PackedProducts.ElementType, _ cases: [Case],
    threads: [Int], cut side: PackedBlocks.Side? = nil
  ) throws {
    var random = TestRandom(UInt64(shape.inner * 31 + shape.columns))
    let w = random.floats(shape.inner * shape.columns, in: -1...1)
    let bias = random.floats(shape.columns, in: -1...1)
    let computes = try threads.map { try Compute(threads: $0, products: .onednn) }
    let arena = Arena()
    let shapes = side.map { PackedBlocks.shapes(of: shape, cut: $0) } ?? [shape]
    let packed = try computes.map { compute in
      let products = try PackedProducts(type, Set(shapes), lanes: compute.threads, arena)
      let matrix: any PackedOperand =
        if let side {
          try #require(try PackedBlocks(products, shape, cut: side, "w", arena))
        } else {
          try #require(try products.matrix(shape, "w", arena))
        }
      BLASThreads.withSingleThread { matrix.pack(w, innerStride: 1, columnStride: shape.inner) }
      return matrix
    }
    for one in cases {
      let x = (0..<one.rows * one.ldx).map { place in
        place % one.ldx < shape.inner ? random.float(in: -1...1) : Float.nan
      }
      let start = random.floats(one.rows * one.ldy, in: -1...1)
      var first: [UInt32]?
      for (compute, matrix) in zip(computes, packed) {
        let y = Guarded(one.output == .add ? start : start.map { _ in .nan })
        let seen = Guarded([UInt16](repeating: 0, count: one.rows))
        let (at, seenAt) = (y.p, seen.p)
        BLASThreads.withSingleThread {
          withUnsafeBufferPointers(bias, x) { bias, x in
            matrix.multiply(
              Values(reading: x), ldx: one.ldx, Values(y.p), ldy: one.ldy, rows: one.rows,
              bias: one.output == .setWithBias ? bias.baseAddress : nil,
              adds: one.output == .add, compute
            ) { rows, _ in
              for row in rows where !at[row * one.ldy + shape.columns - 1].isNaN {
                seenAt[row] += 1
              }
            }
          }
        }
        #expect(y.isIntact && seen.isIntact)
        #expect(seen.values.allSatisfy { $0 == 1 })
        let bits = bitPatterns(y.values)
        #expect(bits == first ?? bits, "threads \(compute.threads)")
        first = first ?? bits
        var worst = 0.0
        for row in 0..<one.rows {
          for column in stride(from: 0, to: one.ldy, by: max(1, one.ldy / 50)) {
            let value = y.p[row * one.ldy + column]
            guard column < shape.columns else {
              #expect(value.isNaN == (one.output != .add))
              continue
            }
            var (sum, size) = (0.0, 0.0)
            for k in 0..<shape.inner {
              let term =
                Self.rounded(x[row * one.ldx + k], type)
                * Self.rounded(w[column * shape.inner + k], type)
              sum += term
              size += abs(term)
            }
            if one.output.hasBias { (sum, size) = (sum + Double(bias[column]), size + 1) }
            if one.output == .add {
              (sum, size) = (sum + Double(start[row * one.ldy + column]), size + 1)
            }
            let share = abs(Double(value) - sum) / size
            worst = share.isNaN ? .infinity : max(worst, share)
          }
        }
        // As of `Compute.gemm`: products of bfloat16 are exact in float32.
        #expect(worst < (4 + Double(shape.inner).squareRoot() / 2) * 0x1p-24, "\(one)")
      }
    }
  }

  @Test(arguments: shapes, [PackedProducts.ElementType.float32, .bfloat16])
  func matchesNaiveAndTheThreadsGiveTheSameBits(
    shape: (Int, Int), type: PackedProducts.ElementType
  ) throws {
    let shape = PackedProducts.Shape(inner: shape.0, columns: shape.1)
    let some = shape.columns > 1000 ? [1, 33] : Self.rows
    let cases = some.flatMap { rows in
      PackedProducts.Output.of(.float32).map { output in
        let gap = rows % 2 == 1 ? 3 : 0
        return Case(
          rows: rows, ldx: shape.inner + gap, ldy: shape.columns + gap, output: output)
      }
    }
    do {
      try check(shape, type, cases, threads: [1, 2, 4])
    } catch let error as LorascError where error.status == .unsupported {
      // bfloat16 is AVX-512's.
      #expect(type == .bfloat16 && !KernelLevel.avx512.isAvailable)
    }
  }

  /// A matrix that is much longer than wide, whichever side is the sum's; groups of 256 rows.
  @Test(
    arguments: [
      ((24, 17_000), PackedBlocks.Side.columns), ((17_000, 24), .inner), ((16, 20_480), .columns),
    ], [PackedProducts.ElementType.float32, .bfloat16])
  func blocksMatchNaiveAndTheThreadsGiveTheSameBits(
    cut: (shape: (Int, Int), side: PackedBlocks.Side), type: PackedProducts.ElementType
  ) throws {
    let shape = PackedProducts.Shape(inner: cut.shape.0, columns: cut.shape.1)
    let cases = [1, 160, 300].flatMap { rows in
      PackedProducts.Output.of(.float32).map { output in
        let gap = rows == 160 ? 0 : 3
        return Case(
          rows: rows, ldx: shape.inner + gap, ldy: shape.columns + gap, output: output)
      }
    }
    do {
      try check(shape, type, cases, threads: [1, 2, 4], cut: cut.side)
    } catch let error as LorascError where error.status == .unsupported {
      #expect(type == .bfloat16 && !KernelLevel.avx512.isAvailable)
    }
  }

  /// Blocks that round what they give: the bits of those that don't, rounded.
  @Test(arguments: [((24, 17_000), PackedBlocks.Side.columns), ((17_000, 24), .inner)])
  func blocksRound(shape: (Int, Int), side: PackedBlocks.Side) throws {
    let shape = PackedProducts.Shape(inner: shape.0, columns: shape.1)
    let rows = 70
    var random = TestRandom(11)
    let w = random.floats(shape.inner * shape.columns, in: -1...1)
    let x = Guarded(random.floats(rows * shape.inner, in: -1...1))
    let bias = Guarded(random.floats(shape.columns, in: -1...1))
    let compute = try Compute(threads: 2, products: .onednn)
    let arena = Arena()
    let floats = Guarded([Float](repeating: .nan, count: rows * shape.columns))
    let halves = Guarded([UInt16](repeating: 7, count: rows * shape.columns))
    do {
      let products = try PackedProducts(
        .bfloat16, Set(PackedBlocks.shapes(of: shape, cut: side)), lanes: 2, arena)
      let blocks = try #require(try PackedBlocks(products, shape, cut: side, "w", arena))
      BLASThreads.withSingleThread {
        blocks.pack(w, innerStride: 1, columnStride: shape.inner)
        for y in [Values(floats.p), Values(nil, halves: halves.p)] {
          blocks.multiply(
            Values(x.p), ldx: shape.inner, y, ldy: shape.columns, rows: rows, bias: bias.p,
            adds: false, compute, then: { _, _ in })
        }
      }
    } catch let error as LorascError where error.status == .unsupported {
      return #expect(!KernelLevel.avx512.isAvailable)
    }
    let expected = Guarded([UInt16](repeating: 7, count: rows * shape.columns))
    compute.kernels.f32_to_bf16(floats.p, expected.p, rows * shape.columns)
    #expect(halves.values == expected.values && halves.isIntact && floats.isIntact)
  }

  /// nil: this CPU has no such products, which is checked.
  private func bfloat16Matrix(_ shape: PackedProducts.Shape, _ arena: Arena) throws
    -> PackedMatrix?
  {
    do {
      let products = try PackedProducts(.bfloat16, [shape], lanes: 2, arena)
      let matrix = try products.matrix(shape, "w", arena)
      #expect(matrix != nil)
      return matrix
    } catch let error as LorascError where error.status == .unsupported {
      #expect(!KernelLevel.avx512.isAvailable)
      return nil
    }
  }

  /// Values in bfloat16 give what their float32 twins do, rounded; additions come before the
  /// rounding and see the rows of X, and what follows sees complete rows, each once.
  @Test(arguments: rows, [0, 5])
  func halvesAndWhatFollows(rows: Int, gap: Int) throws {
    let shape = PackedProducts.Shape(inner: 37, columns: 70)
    let (ldx, ldy) = (shape.inner + gap, shape.columns + gap)
    var random = TestRandom(UInt64(rows))
    let w = random.floats(shape.inner * shape.columns, in: -1...1)
    let x = random.floats(rows * ldx, in: -1...1)
    let compute = try Compute(threads: 2, products: .onednn)
    let kernels = compute.kernels
    let arena = Arena()
    guard let matrix = try bfloat16Matrix(shape, arena) else { return }
    let halvesOfX = Guarded([UInt16](repeating: 0, count: x.count))
    kernels.f32_to_bf16(x, halvesOfX.p, x.count)
    let floats = Guarded([Float](repeating: .nan, count: rows * ldy))
    let halves = Guarded([UInt16](repeating: 7, count: rows * ldy))
    let seen = Guarded([UInt16](repeating: 0, count: rows))
    let given = Guarded([UInt16](repeating: 0, count: rows))
    let (floatsAt, halvesAt, seenAt) = (floats.p, halves.p, seen.p)
    let (halvesAtX, givenAt) = (halvesOfX.p, given.p)
    BLASThreads.withSingleThread {
      matrix.pack(w, innerStride: 1, columnStride: shape.inner)
      func add(_ tile: TileSums) -> Bool {
        let rows = tile.rows
        for row in rows {
          let own = tile.x + (row - rows.lowerBound) * tile.ldx
          let isSame = (0..<shape.inner).allSatisfy {
            own.halves?[$0] == halvesAtX[row * (shape.inner + gap) + $0]
          }
          if isSame { givenAt[row] += 1 }
        }
        for place in 0..<rows.count * shape.columns {
          tile.values[place] += Float(rows.lowerBound + place / shape.columns)
        }
        return false
      }
      x.withUnsafeBufferPointer { x in
        guard let x = x.baseAddress else { return }
        matrix.multiply(
          Values(reading: x), ldx: ldx, Values(floatsAt), ldy: ldy, rows: rows, adds: false,
          compute, adding: add, then: { _, _ in })
      }
      matrix.multiply(
        Values(nil, halves: halvesOfX.p), ldx: ldx, Values(nil, halves: halvesAt), ldy: ldy,
        rows: rows, adds: false, compute, adding: add
      ) { rows, _ in
        for row in rows where halvesAt[row * ldy] != 7 { seenAt[row] += 1 }
      }
    }
    #expect(floats.isIntact && halves.isIntact && seen.isIntact && halvesOfX.isIntact)
    #expect(seen.values.allSatisfy { $0 == 1 })
    #expect(given.values.allSatisfy { $0 == 2 })
    let rounded = Guarded([UInt16](repeating: 7, count: rows * ldy))
    for row in 0..<rows {
      kernels.f32_to_bf16(floatsAt + row * ldy, rounded.p + row * ldy, shape.columns)
    }
    #expect(halves.values == rounded.values)
    BLASThreads.withSingleThread {
      matrix.multiply(
        Values(nil, halves: halvesAtX), ldx: ldx, Values(nil, halves: halvesAt), ldy: ldy,
        rows: rows, adds: false, compute,
        adding: { tile in
          // Its rows are put already: no rounded sums may come over them.
          for row in 0..<tile.rows.count {
            (tile.rounded.map { $0 + row * tile.ldRounded })?.update(
              repeating: 9, count: shape.columns)
          }
          return tile.rounded != nil
        }, then: { _, _ in })
    }
    #expect(halves.isIntact)
    for row in 0..<rows {
      #expect(
        halves.values[row * ldy..<(row + 1) * ldy].enumerated().allSatisfy {
          $0.element == ($0.offset < shape.columns ? 9 : 7)
        })
    }
  }

  /// X weighed by columns on its way gives what a product of the weighed X does, in both types, from
  /// floats or halves, and the sums over rows of X times another matrix.
  @Test(arguments: rows, [PackedProducts.ElementType.float32, .bfloat16])
  func weighedInputs(rows: Int, type: PackedProducts.ElementType) throws {
    let shape = PackedProducts.Shape(inner: 37, columns: 70)
    let ldx = shape.inner + 2
    var random = TestRandom(UInt64(rows))
    let w = random.floats(shape.inner * shape.columns, in: -1...1)
    let k = Guarded(random.floats(shape.inner, in: -1...1))
    let other = Guarded(random.floats(rows * shape.inner, in: -1...1))
    let compute = try Compute(threads: 2, products: .onednn)
    let arena = Arena()
    if type == .bfloat16, try bfloat16Matrix(shape, arena) == nil { return }
    let products = try PackedProducts(type, [shape], lanes: 2, arena)
    let matrix = try #require(try products.matrix(shape, "w", arena))
    // Halves, and what they are as float32.
    let halves = Guarded([UInt16](repeating: 0, count: rows * ldx))
    compute.kernels.f32_to_bf16(random.floats(rows * ldx, in: -1...1), halves.p, rows * ldx)
    let x = Guarded(count: rows * ldx)
    compute.kernels.bf16_to_f32(halves.p, x.p, rows * ldx)
    let scaled = Guarded(x.values)
    compute.kernels.scale_columns(k.p, nil, scaled.p, rows, shape.inner, ldx)
    let inputs = [Values(x.p)] + (type == .bfloat16 ? [Values(nil, halves: halves.p)] : [])
    for input in inputs {
      let memory = try WeighedInput.Memory(
        rows: rows, inner: shape.inner, lanes: 2, "weighed", arena)
      let weighed = WeighedInput(factors: k.p, other: other.p, memory: memory)
      let (y, expected) = (Guarded(count: rows * 70), Guarded(count: rows * 70))
      let sums = Guarded([Float](repeating: 0, count: shape.inner))
      let (yAt, expectedAt, scaledAt, sumsAt) = (y.p, expected.p, scaled.p, sums.p)
      BLASThreads.withSingleThread {
        matrix.pack(w, innerStride: 1, columnStride: shape.inner)
        matrix.multiply(
          input, ldx: ldx, Values(yAt), ldy: 70, rows: rows, adds: false, weighed: weighed, compute,
          adding: noTileBody, then: { _, _ in })
        matrix.multiply(
          Values(scaledAt), ldx: ldx, Values(expectedAt), ldy: 70, rows: rows, adds: false, compute)
        weighed.addSums(to: sumsAt, rows: rows, shape.inner, compute)
      }
      #expect(y.isIntact && bitPatterns(y.values) == bitPatterns(expected.values))
      for column in 0..<shape.inner {
        let exact = (0..<rows).reduce(0.0) {
          $0 + Double(x.values[$1 * ldx + column]) * Double(other.values[$1 * shape.inner + column])
        }
        #expect(abs(Double(sums.values[column]) - exact) < 1e-4)
      }
    }
    #expect(k.isIntact && other.isIntact && x.isIntact && halves.isIntact && scaled.isIntact)
  }

  /// Products that round what they give: the bits of those that don't, rounded.
  @Test(arguments: rows, [0, 5])
  func roundedOutputs(rows: Int, gap: Int) throws {
    let shape = PackedProducts.Shape(inner: 37, columns: 70)
    let ldy = shape.columns + gap
    var random = TestRandom(UInt64(rows))
    let w = random.floats(shape.inner * shape.columns, in: -1...1)
    let x = Guarded(random.floats(rows * shape.inner, in: -1...1))
    let bias = Guarded(random.floats(shape.columns, in: -1...1))
    let compute = try Compute(threads: 2, products: .onednn)
    let arena = Arena()
    guard let matrix = try bfloat16Matrix(shape, arena) else { return }
    BLASThreads.withSingleThread { matrix.pack(w, innerStride: 1, columnStride: shape.inner) }
    for bias in [nil, UnsafePointer(bias.p)] {
      let floats = Guarded([Float](repeating: .nan, count: rows * ldy))
      let halves = Guarded([UInt16](repeating: 7, count: rows * ldy))
      for y in [Values(floats.p), Values(nil, halves: halves.p)] {
        BLASThreads.withSingleThread {
          matrix.multiply(
            Values(x.p), ldx: shape.inner, y, ldy: ldy, rows: rows, bias: bias, adds: false,
            compute)
        }
      }
      let expected = Guarded([UInt16](repeating: 7, count: rows * ldy))
      compute.kernels.round(
        floats.p, ld: ldy, expected.p, ld: ldy, rows: rows, columns: shape.columns)
      #expect(halves.values == expected.values && halves.isIntact && floats.isIntact)
    }
  }

  /// Products of two matrices in bfloat16, as attention and low-rank experts have them.
  @Test(
    .enabled(if: KernelLevel.avx512.isAvailable, "bfloat16 is AVX-512's"),
    arguments: [
      (64, 64, 32), (197, 64, 197), (33, 1, 100), (1, 70, 9), (500, 8, 384), (8, 700, 129),
    ])
  func bfloat16OnBothSides(m: Int, n: Int, k: Int) throws {
    var random = TestRandom(UInt64(m * 7 + n))
    let (gap, alpha, beta): (Int, Float, Float) = (3, 0.5, 2)
    let kernels = try Compute(threads: 1).kernels
    func halves(_ count: Int) -> Guarded<UInt16> {
      let rounded = Guarded([UInt16](repeating: 0, count: count))
      random.floats(count, in: -1...1).withUnsafeBufferPointer { floats in
        if let floats = floats.baseAddress { kernels.f32_to_bf16(floats, rounded.p, count) }
      }
      return rounded
    }
    func value(_ half: UInt16) -> Double { Double(Float(bitPattern: UInt32(half) << 16)) }
    for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
      let (lda, ldb, ldc) = ((ta ? m : k) + gap, (tb ? k : n) + gap, n + gap)
      let a = halves((ta ? k : m) * lda)
      let b = halves((tb ? n : k) * ldb)
      let start = random.floats(m * ldc, in: -1...1)
      var first: [UInt32]?
      for threads in [1, 2, 3] {
        let c = Guarded(start)
        let compute = try Compute(threads: threads, products: .onednn)
        BLASThreads.withSingleThread {
          compute.gemm(
            m, n, k, a: Values(nil, halves: a.p), lda: lda, transposeA: ta,
            b: Values(nil, halves: b.p), ldb: ldb, transposeB: tb, c: c.p, ldc: ldc, alpha: alpha,
            beta: beta)
        }
        #expect(c.isIntact)
        let bits = bitPatterns(c.values)
        #expect(bits == first ?? bits, "threads \(threads)")
        first = first ?? bits
        for i in 0..<m {
          for j in 0..<ldc {
            let old = start[i * ldc + j]
            guard j < n else {
              #expect(c.p[i * ldc + j] == old)
              continue
            }
            var (sum, size) = (Double(beta * old), Double(abs(beta * old)))
            for l in 0..<k {
              let term =
                Double(alpha) * value(a.p[ta ? l * lda + i : i * lda + l])
                * value(b.p[tb ? j * ldb + l : l * ldb + j])
              (sum, size) = (sum + term, size + abs(term))
            }
            let error = abs(Double(c.p[i * ldc + j]) - sum)
            if error > (4 + Double(k).squareRoot() / 2) * 0x1p-24 * size {
              Issue.record("\(i), \(j): \(c.p[i * ldc + j]), not \(sum)")
            }
          }
        }
      }
    }
  }
}

private func withUnsafeBufferPointers(
  _ a: [Float], _ b: [Float], _ body: (UnsafeBufferPointer<Float>, UnsafePointer<Float>) -> Void
) {
  a.withUnsafeBufferPointer { a in
    b.withUnsafeBufferPointer { b in
      if let b = b.baseAddress { body(a, b) }
    }
  }
}
