/// The sum of word, position and segment embeddings, a row a token.
struct Embeddings {
  /// (vocabulary, columns), (positions, columns), (types, columns)
  let words: FloatView
  let positions: FloatView
  let types: FloatView?
  let columns: Int

  func forward(_ batch: StagedBatch, _ y: UnsafeMutablePointer<Float>, _ compute: Compute) {
    let axpby = compute.kernels.axpby
    compute.forRows(batch.tokenCount, cost: 3 * columns) { start, end in
      for token in start..<end {
        let row = y + token * columns
        axpby(1, words.pointer + Int(batch.tokens[token]) * columns, 0, row, columns)
        axpby(1, positions.pointer + Int(batch.positions[token]) * columns, 1, row, columns)
        if let types {
          axpby(1, types.pointer + Int(batch.tokenTypes[token]) * columns, 1, row, columns)
        }
      }
    }
  }
}
