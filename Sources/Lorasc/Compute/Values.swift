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
  init(reading floats: UnsafePointer<Float>, halves: UnsafeMutablePointer<UInt16>? = nil) {
    // Safe: because whoever takes it so only reads it.
    self.init(UnsafeMutablePointer(mutating: floats), halves: halves)
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

  /// rows x columns in float32, for products in bfloat16 rounded too.
  func sums(_ rows: Int, _ columns: Int, _ type: PackedProducts.ElementType, _ what: String)
    throws -> Values
  {
    let halves = type == .bfloat16 ? try halves(rows, columns, what + ".rounded") : nil
    return Values(try matrix(rows, columns, what), halves: halves)
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
}

/// What follows a product on rows that are complete, on the lane that made them: called in
/// parallel, for ranges of rows that are whole together.
typealias RowsBody = (_ rows: Range<Int>, _ lane: Int) -> Void
