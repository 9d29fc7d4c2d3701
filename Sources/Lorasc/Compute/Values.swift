import CSupport

/// A matrix of activations or their gradients in a plan's memory: float32, or rounded to bfloat16
/// (to nearest even) for the products that read it, or both. One of them is there at least.
struct Values {
  var floats: UnsafeMutablePointer<Float>?
  var halves: UnsafeMutablePointer<UInt16>?

  init(_ floats: UnsafeMutablePointer<Float>?, halves: UnsafeMutablePointer<UInt16>? = nil) {
    self.floats = floats
    self.halves = halves
  }

  /// For what is read only.
  init(reading floats: UnsafePointer<Float>) {
    // Safe: because whoever takes it so only reads it.
    self.init(UnsafeMutablePointer(mutating: floats))
  }

  /// From another element on.
  static func + (values: Values, offset: Int) -> Values {
    Values(values.floats.map { $0 + offset }, halves: values.halves.map { $0 + offset })
  }
}

extension Arena {
  /// rows x columns, held in float32 or bfloat16 alone.
  func values(_ rows: Int, _ columns: Int, _ type: PackedProducts.ElementType, _ what: String)
    throws -> Values
  {
    guard type == .bfloat16 else { return Values(try matrix(rows, columns, what)) }
    return Values(nil, halves: try halves(rows, columns, what))
  }
}

// MARK: Between the two

extension lorasc_kernels {
  /// to (rows, columns) = from, rows `ldTo` and `ldFrom` apart
  func widen(
    _ from: UnsafePointer<UInt16>, ld ldFrom: Int, _ to: UnsafeMutablePointer<Float>, ld ldTo: Int,
    rows: Int, columns: Int
  ) {
    for row in 0..<rows { bf16_to_f32(from + row * ldFrom, to + row * ldTo, columns) }
  }

  func round(
    _ from: UnsafePointer<Float>, ld ldFrom: Int, _ to: UnsafeMutablePointer<UInt16>, ld ldTo: Int,
    rows: Int, columns: Int
  ) {
    for row in 0..<rows { f32_to_bf16(from + row * ldFrom, to + row * ldTo, columns) }
  }
}

extension Compute {
  /// to (rows, columns), without gaps, = from, whose rows are `ld` apart
  func widen(
    _ from: UnsafePointer<UInt16>, ld: Int, _ to: UnsafeMutablePointer<Float>, rows: Int,
    columns: Int
  ) {
    forRows(rows, cost: columns) { start, end in
      kernels.widen(
        from + start * ld, ld: ld, to + start * columns, ld: columns, rows: end - start,
        columns: columns)
    }
  }

  /// to, whose rows are `ld` apart, = from (rows, columns), without gaps
  func round(
    _ from: UnsafePointer<Float>, _ to: UnsafeMutablePointer<UInt16>, ld: Int, rows: Int,
    columns: Int
  ) {
    forRows(rows, cost: columns) { start, end in
      kernels.round(
        from + start * columns, ld: columns, to + start * ld, ld: ld, rows: end - start,
        columns: columns)
    }
  }

  /// Float32 views of a part of some values, in place or in the lane's own memory.
  struct Part {
    let compute: Compute
    fileprivate let lane: Int
    let start: Int
    let count: Int

    /// - Parameter place: 0 ..< 5, another one for each view that is held at a time
    func read(_ values: Values, _ place: Int) -> UnsafeMutablePointer<Float> {
      let floats = view(values, place)
      if values.floats == nil, let halves = values.halves {
        compute.kernels.bf16_to_f32(halves + start, floats, count)
      }
      return floats
    }

    /// The same for what will be written, uninitialised.
    func view(_ values: Values, _ place: Int) -> UnsafeMutablePointer<Float> {
      values.floats.map { $0 + start } ?? compute.scratch(lane, place)
    }

    /// After a view was written to.
    func written(_ floats: UnsafePointer<Float>, _ values: Values) {
      if let halves = values.halves { compute.kernels.f32_to_bf16(floats, halves + start, count) }
    }
  }

  /// body(part) over parts of `count` elements, in parallel.
  /// - Parameter cost: of one element, see `forRows`
  func forParts(_ count: Int, cost: Int, _ body: (Part) -> Void) {
    let size = Compute.partElements
    forRanges((count + size - 1) / size, cost: cost * size) { first, end, lane in
      forParts(first * size..<min(count, end * size), lane, body)
    }
  }

  /// The same on the calling thread, which has the lane.
  func forParts(_ range: Range<Int>, _ lane: Int, _ body: (Part) -> Void) {
    for start in stride(from: range.lowerBound, to: range.upperBound, by: Compute.partElements) {
      body(
        Part(
          compute: self, lane: lane, start: start,
          count: min(Compute.partElements, range.upperBound - start)))
    }
  }
}

/// What follows a product on rows that are complete, on the lane that made them: called in
/// parallel, for ranges of rows that are whole together.
typealias RowsBody = (_ rows: Range<Int>, _ lane: Int) -> Void
