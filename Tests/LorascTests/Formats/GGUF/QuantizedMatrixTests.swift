import Testing

@testable import Lorasc

/// Quantised tensors as matrices that stay as they are stored.
@Suite struct QuantizedMatrixTests {
  private static let readable: [GGMLType] = [
    .q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .q2_K, .q3_K, .q4_K, .q5_K, .q6_K, .f16, .bf16,
  ]

  /// Random blocks whose float16 scales are finite: no byte has all bits of an exponent.
  private func tensor(
    _ type: GGMLType, rows: Int, columns: Int, _ layout: TensorLayout = .same, seed: UInt64 = 1
  ) throws -> StoredTensor {
    var random = FixedRandom(state: seed)
    let size = rows * columns / type.block.elements * type.block.bytes
    var file = GGUFBytes()
    file.tensor(
      "t", type.rawValue, [UInt64(columns), UInt64(rows)],
      bytes: (0..<size).map { _ in UInt8.random(in: 0...0x3B, using: &random) })
    let read = try GGUFFile(file.bytes)
    return read.stored(try #require(read["t"]), as: "t", layout)
  }

  private func values(_ matrix: StoredMatrix, _ range: Range<Int>) -> [UInt32] {
    [Float](unsafeUninitializedCapacity: range.count) { buffer, written in
      if let start = buffer.baseAddress { matrix.copy(range, to: start) }
      written = range.count
    }.map(\.bitPattern)
  }

  @Test func anyRangeIsAPartOfTheWhole() throws {
    let kernels = try KernelLevel.best.table()
    for type in Self.readable {
      let tensor = try tensor(type, rows: 6, columns: 512)
      let matrix = try #require(StoredMatrix(tensor, kernels))
      #expect(matrix.count == 3072 && matrix.bytes == tensor.bytes.count && matrix.float32 == nil)
      let whole = matrix.values.map(\.bitPattern)
      #expect(whole == (try tensor.float32().values.map(\.bitPattern)), "\(type)")
      #expect(Set(whole).count > 10 && matrix.isFinite, "\(type)")
      for start in [0, 1, 31, 32, 33, 255, 256, 257, 1000, 3071] {
        for count in [0, 1, 2, 31, 32, 33, 255, 256, 257, 512, 2000] where start + count <= 3072 {
          let part = values(matrix, start..<start + count)
          if part != Array(whole[start..<start + count]) {
            Issue.record("\(type) \(start) \(count)")
          }
        }
      }
    }
  }

  /// Heads of 4 rows: 0, 2, 1, 3 become 0, 1, 2, 3.
  @Test func pairedRowsComeApart() throws {
    let kernels = try KernelLevel.best.table()
    for type in Self.readable {
      let plain = try tensor(type, rows: 8, columns: 256)
      let stored = try plain.float32().values
      let order = [0, 2, 1, 3, 4, 6, 5, 7]
      let expected = order.flatMap { stored[$0 * 256..<($0 + 1) * 256] }.map(\.bitPattern)
      let tensor = try tensor(type, rows: 8, columns: 256, .pairedRows(size: 4))
      let matrix = try #require(StoredMatrix(tensor, kernels))
      #expect(matrix.values.map(\.bitPattern) == expected, "\(type)")
      #expect(try tensor.float32().values.map(\.bitPattern) == expected, "\(type)")
      for range in [0..<1, 255..<257, 100..<1500, 511..<2048, 2047..<2048] {
        #expect(values(matrix, range) == Array(expected[range]), "\(type) \(range)")
      }
    }
    #expect(
      (0..<12).map(TensorLayout.pairedRows(size: 6).stored) == [
        0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11,
      ])
  }

  @Test func transposedIsTransposed() throws {
    let plain = try tensor(.q8_0, rows: 3, columns: 64)
    let other = try tensor(.q8_0, rows: 3, columns: 64, .transposed)
    #expect(other.shape == [64, 3] && other.asStored.shape == [3, 64])
    let (a, b) = (try plain.float32().values, try other.float32().values)
    for row in 0..<3 {
      for column in 0..<64 { #expect(a[row * 64 + column] == b[column * 3 + row]) }
    }
    #expect(StoredMatrix(other, try KernelLevel.best.table()) == nil)
  }

  @Test func scalesThatAreNotFinite() throws {
    let kernels = try KernelLevel.best.table()
    for type in Self.readable where type.block.elements > 1 {
      let good = try tensor(type, rows: 4, columns: 256)
      for place in 0..<type.block.bytes - 1 {
        var bytes = Array(good.bytes)
        let last = bytes.count - type.block.bytes + place
        (bytes[last], bytes[last + 1]) = (0, 0x7C)
        var file = GGUFBytes()
        file.tensor("t", type.rawValue, [256, 4], bytes: bytes)
        let read = try GGUFFile(file.bytes)
        let damaged = read.stored(try #require(read["t"]))
        let matrix = try #require(StoredMatrix(damaged, kernels))
        // The truth: the values themselves.
        #expect(matrix.isFinite == matrix.values.allSatisfy(\.isFinite), "\(type) \(place)")
      }
    }
  }

  @Test func otherTypesAreNotRead() throws {
    for type in GGMLType.allCases where !Self.readable.contains(type) {
      let tensor = try tensor(type, rows: 2, columns: 256)
      #expect(StoredMatrix(tensor, try KernelLevel.best.table()) == nil)
      guard ![.f32, .f64].contains(type) else { continue }
      expectFailure(.unsupported, "\"t\"", type.name) { _ = try tensor.float32() }
    }
  }

  @Test func safetensorsKnowNoQuantisedTypes() {
    for type in GGMLType.allCases where type.block.elements > 1 {
      let header =
        #"{"t":{"dtype":"\#(type.name)","shape":[\#(type.block.elements)],"#
        + #""data_offsets":[0,\#(type.block.bytes)]}}"#
      expectFailure(.unsupported, "\"\(type.name)\"") {
        _ = try SafetensorsFile(bytes: safetensors(header: header, data: type.block.bytes))
      }
    }
  }
}
