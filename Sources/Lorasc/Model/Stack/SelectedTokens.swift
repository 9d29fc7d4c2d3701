/// The tokens whose last hidden state is all that is asked for, one of each row: a class token, or
/// the last token. Behind the last block's keys and values, only they are computed.
///
/// What is computed for them lies row by row without gaps: "packed" (rows, columns).
struct SelectedTokens {
  enum Place: Sendable { case first, last }

  let place: Place
  /// (rows, hidden), packed: what goes into the last block's queries, and its residual.
  let input: Values
  let residual: UnsafeMutablePointer<Float>
  private let hidden: Int

  /// - Parameter type: what goes into a pre-norm block's queries is held in
  init(
    _ place: Place, hidden: Int, tokens: Int, isPre: Bool, _ type: PackedProducts.ElementType,
    _ arena: Arena
  ) throws {
    self.place = place
    self.hidden = hidden
    residual = try arena.matrix(tokens, hidden, "plan.selected.residual")
    input =
      isPre ? try arena.values(tokens, hidden, type, "plan.selected.input") : Values(residual)
  }

  /// Packs the selected rows of `from`, which are `ld` apart.
  func pack<Element>(
    _ from: UnsafePointer<Element>, columns: Int, ld: Int,
    into packed: UnsafeMutablePointer<Element>, _ batch: StagedBatch
  ) {
    for row in 0..<batch.rows {
      (packed + row * columns)
        .update(from: from + batch.token(place, ofRow: row) * ld, count: columns)
    }
  }

  /// The other way; other rows stay as they are.
  func unpack<Element>(
    _ packed: UnsafePointer<Element>, columns: Int, ld: Int,
    into to: UnsafeMutablePointer<Element>, _ batch: StagedBatch
  ) {
    for row in 0..<batch.rows {
      (to + batch.token(place, ofRow: row) * ld)
        .update(from: packed + row * columns, count: columns)
    }
  }

  /// The same of values that are held alike.
  func pack(_ from: Values, columns: Int, ld: Int, into packed: Values, _ batch: StagedBatch) {
    if let from = from.floats, let packed = packed.floats {
      pack(from, columns: columns, ld: ld, into: packed, batch)
    }
    if let from = from.halves, let packed = packed.halves {
      pack(from, columns: columns, ld: ld, into: packed, batch)
    }
  }

  func unpack(_ packed: Values, columns: Int, ld: Int, into to: Values, _ batch: StagedBatch) {
    if let packed = packed.floats, let to = to.floats {
      unpack(packed, columns: columns, ld: ld, into: to, batch)
    }
    if let packed = packed.halves, let to = to.halves {
      unpack(packed, columns: columns, ld: ld, into: to, batch)
    }
  }

  /// Adds packed rows of hidden columns to the rows that they stand for.
  func add(
    _ packed: UnsafePointer<Float>, to: UnsafeMutablePointer<Float>, _ batch: StagedBatch
  ) {
    for row in 0..<batch.rows {
      let (at, values) = (to + batch.token(place, ofRow: row) * hidden, packed + row * hidden)
      for column in 0..<hidden { at[column] += values[column] }
    }
  }

  /// Packed rows of hidden columns become (tokens, hidden), zero but for them.
  /// - Parameter scratch: as large as the packed rows
  func expand(
    _ values: UnsafeMutablePointer<Float>, through scratch: UnsafeMutablePointer<Float>,
    _ batch: StagedBatch, _ compute: Compute
  ) {
    scratch.update(from: values, count: batch.rows * hidden)
    compute.kernels.fill(0, values, batch.tokenCount * hidden)
    unpack(scratch, columns: hidden, ld: hidden, into: values, batch)
  }
}

extension StagedBatch {
  func token(_ place: SelectedTokens.Place, ofRow row: Int) -> Int {
    place == .first ? Int(starts[row]) : Int(starts[row + 1]) - 1
  }
}
