import CSupport

/// Multi-head self-attention over segments: each row of the batch attends to itself only.
///
/// For one row of length L and one head of d columns: P = softmax(Q Kᵀ / √d), O = P V; causal: a
/// token sees itself and up to `window` − 1 before it. With fewer heads of keys and values than
/// of queries, consecutive query heads share one (Ainslie et al. 2023).
///
/// Only the log of each softmax's denominator is kept (heads, tokens); the backward makes P
/// again. Both work on blocks of queries, so that scratch memory grows with L, not with L².
///
/// Where activations are held as bfloat16 the products are computed from it: P and dS are rounded
/// for them, and what they give is float32, which is rounded once a row and head is complete.
///
/// Of selected tokens, one of each row, queries and their gradients lie where those of all tokens
/// do; outputs, their gradients and the logs of the denominators are packed, one for each row.
final class Attention {
  let heads: Int
  let keyValueHeads: Int
  let headSize: Int
  private let isCausal: Bool
  /// Keys that a query may see.
  private let longest: Int
  private let blockRows: Int
  /// Per lane P, and for training dP and the dropped P: `laneBlocks` of (blockRows, longest).
  private let laneBlocks: Int
  private let scratch: UnsafeMutablePointer<Float>
  /// Per lane P, and for training dS, rounded: `laneRounded` of (blockRows, longest); nil: all is
  /// float32.
  private let rounded: UnsafeMutablePointer<UInt16>?
  private let laneRounded: Int
  /// Per lane O, or for training dQ, dK and dV of a row and head, each (longest, headSize), before
  /// they are rounded; nil: all is float32.
  private let results: UnsafeMutablePointer<Float>?
  private let laneResults: Int

  private var scale: Float { 1 / Float(headSize).squareRoot() }
  private var width: Int { heads * headSize }
  private var projected: Int { (heads + 2 * keyValueHeads) * headSize }
  private var group: Int { heads / keyValueHeads }

  private static let mostBlockRows = 256
  /// Of a causal block each product has a corner that nothing needs.
  private static let mostCausalRows = 128

  init(
    _ sizes: Backbone.Sizes, _ form: Backbone.AttentionForm, longest: Int, tokens: Int, lanes: Int,
    training: Bool, type: PackedProducts.ElementType, _ arena: Arena
  ) throws {
    heads = sizes.heads
    keyValueHeads = sizes.keyValueHeads
    headSize = sizes.headSize
    isCausal = form.isCausal
    self.longest = longest
    blockRows = min(tokens, longest, form.isCausal ? Self.mostCausalRows : Self.mostBlockRows)
    laneBlocks = training ? 3 : 1
    scratch = try arena.matrix(lanes * laneBlocks, blockRows * longest, "plan.attention_scratch")
    laneResults = training ? 3 : 1
    laneRounded = training ? 2 : 1
    let isRounded = type == .bfloat16
    rounded =
      isRounded
      ? try arena.halves(lanes * laneRounded, blockRows * longest, "plan.attention_rounded") : nil
    results =
      isRounded
      ? try arena.matrix(lanes * laneResults, longest * headSize, "plan.attention_results") : nil
  }

  private func block(_ lane: Int, _ which: Int) -> UnsafeMutablePointer<Float> {
    scratch + (lane * laneBlocks + which) * blockRows * longest
  }

  /// Where products read a block rounded.
  private func roundedBlock(_ lane: Int, _ which: Int) -> UnsafeMutablePointer<UInt16>? {
    rounded.map { $0 + (lane * laneRounded + which) * blockRows * longest }
  }

  private func round(_ block: Values, _ span: Span, _ compute: Compute) {
    guard let floats = block.floats, let halves = block.halves else { return }
    compute.kernels.f32_to_bf16(floats, halves, span.rows * span.columns)
  }

  // MARK: One row and head

  /// (length, headSize), rows `ld` apart.
  private struct Rows {
    let values: Values
    let ld: Int

    static func + (rows: Rows, row: Int) -> Values { rows.values + row * rows.ld }
  }

  /// What products give, (length, headSize), float32 until it is complete.
  private struct Result {
    let floats: UnsafeMutablePointer<Float>
    let ld: Int
    /// Where it goes in bfloat16.
    let rounded: (halves: UnsafeMutablePointer<UInt16>, ld: Int)?

    static func + (result: Result, row: Int) -> UnsafeMutablePointer<Float> {
      result.floats + row * result.ld
    }
  }

  private enum Place: Int {
    case dq, dk, dv
    static let output = dq
  }

  /// Where a result is computed: in place, or in the lane's memory.
  private func result(_ values: Values, ld: Int, _ place: Place, _ lane: Int) -> Result {
    guard let results, let halves = values.halves else {
      guard let floats = values.floats else { preconditionFailure("values without memory") }
      return Result(floats: floats, ld: ld, rounded: nil)
    }
    return Result(
      floats: results + (lane * laneResults + place.rawValue) * longest * headSize, ld: headSize,
      rounded: (halves, ld))
  }

  private func complete(_ result: Result, _ count: Int, _ compute: Compute) {
    guard let (halves, ld) = result.rounded else { return }
    compute.kernels.round(
      result.floats, ld: result.ld, halves, ld: ld, rows: count, columns: headSize)
  }

  /// Keys and values that a row's tokens see, as pointers to those of the row's first token.
  struct Context {
    /// (past + tokens, key-value heads · headSize), rows `ld` apart
    let keys: UnsafePointer<Float>
    let values: UnsafePointer<Float>
    let ld: Int
    /// Tokens of the row that were there before.
    let past: Int
  }

  /// Queries [first, end) of a row and the keys [keys, keysEnd) that any of them sees.
  private struct Span {
    let first: Int
    let end: Int
    let keys: Int
    let keysEnd: Int

    var rows: Int { end - first }
    var columns: Int { keysEnd - keys }
  }

  /// body(span) for blocks of a row's queries, or for the selected one alone.
  private func forSpans(
    _ length: Int, _ window: Int?, past: Int = 0, _ selected: SelectedTokens.Place?,
    _ body: (Span) -> Void
  ) {
    var first = selected == .last ? length - 1 : past
    let last = selected == nil ? past + length : first + 1
    while first < last {
      let end = min(last, first + blockRows)
      body(
        isCausal
          ? Span(first: first, end: end, keys: firstKey(first, window), keysEnd: end)
          : Span(first: first, end: end, keys: 0, keysEnd: length))
      first = end
    }
  }

  private func firstKey(_ query: Int, _ window: Int?) -> Int {
    window.map { max(0, query - $0 + 1) } ?? 0
  }

  /// body(row, its visible columns) for the rows of a span's block; all in one where each row
  /// sees every column.
  private func forVisible(
    _ span: Span, _ window: Int?, _ body: (_ row: Int, _ rows: Int, _ columns: Range<Int>) -> Void
  ) {
    guard isCausal else { return body(0, span.rows, 0..<span.columns) }
    for row in 0..<span.rows {
      let query = span.first + row
      body(row, 1, firstKey(query, window) - span.keys..<query + 1 - span.keys)
    }
  }

  // MARK: The next row and head

  /// Asks for what this lane's next task will probably read, while this one computes: rows of a head
  /// are so far apart that the CPU doesn't see them coming.
  private func prefetch(
    _ row: Int, query: Int, _ qkv: Values, dOutput: Values?, _ batch: StagedBatch
  ) {
    guard row < batch.rows else { return }
    let (first, length) = (Int(batch.starts[row]), batch.length(of: row))
    let own = qkv + first * projected
    let shared = query / group * headSize
    prefetch(Rows(values: own + keyColumn + shared, ld: projected), length)
    prefetch(Rows(values: own + query * headSize, ld: projected), length)
    prefetch(Rows(values: own + valueColumn + shared, ld: projected), length)
    if let dOutput {
      prefetch(Rows(values: dOutput + (first * width + query * headSize), ld: width), length)
    }
  }

  private func prefetch(_ rows: Rows, _ count: Int) {
    if let halves = rows.values.halves {
      lorasc_prefetch_rows(halves, count, 2 * headSize, 2 * rows.ld)
    } else if let floats = rows.values.floats {
      lorasc_prefetch_rows(floats, count, 4 * headSize, 4 * rows.ld)
    }
  }

  // MARK: Forward

  /// - Parameters:
  ///   - qkv: (tokens, projected): queries, keys, values side by side
  ///   - context: of a batch's only row, where it goes on; nil: rows see their own tokens
  ///   - output: (tokens, width)
  ///   - logSumExp: (heads, tokens), written
  ///   - selected: the only query of each row; nil: all
  func forward(
    qkv: Values, context: Context?, output: Values, logSumExp: UnsafeMutablePointer<Float>,
    window: Int?, selected: SelectedTokens.Place?, _ batch: StagedBatch, dropout: Dropout?,
    _ compute: Compute
  ) {
    let tokens = batch.tokenCount
    compute.forTasks(batch.rows * heads) { task, lane in
      let (row, head) = (task / heads, task % heads)
      let next = task + compute.threads
      if context == nil {
        prefetch(next / heads, query: next % heads, qkv, dOutput: nil, batch)
      }
      let first = Int(batch.starts[row])
      let length = batch.length(of: row)
      let past = context?.past ?? 0
      let own = qkv + first * projected
      let q = Rows(values: own + head * headSize, ld: projected)
      let shared = head / group * headSize
      let (k, v): (Rows, Rows)
      if let context {
        k = Rows(values: Values(reading: context.keys + shared), ld: context.ld)
        v = Rows(values: Values(reading: context.values + shared), ld: context.ld)
      } else {
        k = Rows(values: own + keyColumn + shared, ld: projected)
        v = Rows(values: own + valueColumn + shared, ld: projected)
      }
      let out = result(
        output + (selected == nil ? first : row) * width + head * headSize, ld: width, .output, lane
      )
      let logs = logSumExp + head * tokens + (selected == nil ? first : row)
      let p = block(lane, 0)
      let operand = Values(p, halves: roundedBlock(lane, 0))
      // What is dropped is rounded behind the dropout.
      let rounded = dropout == nil ? operand.halves : nil
      forSpans(length, window, past: past, selected) { span in
        // Of a selected query the output is the row's only one.
        let place = selected == nil ? span.first - past : 0
        scores(q, span.first - past, k, span, into: p, compute)
        forVisible(span, window) { row, rows, columns in
          hide(Values(p, halves: rounded), row, columns, span, compute)
          let at = row * span.columns + columns.lowerBound
          compute.kernels.softmax_forward(
            p + at, rows, columns.count, span.columns, scale, logs + place + row,
            rounded.map { $0 + at })
        }
        if let dropout {
          drop(p, p, span, length: length, row * heads + head, dropout, compute)
          round(operand, span, compute)
        }
        compute.products.gemm(
          span.rows, headSize, span.columns, a: operand, lda: span.columns, b: v + span.keys,
          ldb: v.ld, c: out + place, ldc: out.ld)
      }
      complete(out, selected == nil ? length : 1, compute)
    }
  }

  private var keyColumn: Int { heads * headSize }
  private var valueColumn: Int { (heads + keyValueHeads) * headSize }

  /// A row's own keys and values.
  /// - Parameter qkv: from the row's first token on
  func ownContext(_ qkv: UnsafePointer<Float>) -> Context {
    Context(keys: qkv + keyColumn, values: qkv + valueColumn, ld: projected, past: 0)
  }

  /// S = Q Kᵀ of a span, whose queries start at `query` of those that are there
  private func scores(
    _ q: Rows, _ query: Int, _ k: Rows, _ span: Span, into s: UnsafeMutablePointer<Float>,
    _ compute: Compute
  ) {
    compute.products.gemm(
      span.rows, span.columns, headSize, a: q + query, lda: q.ld, b: k + span.keys, ldb: k.ld,
      transposeB: true, c: s, ldc: span.columns)
  }

  /// Zeros where a row of a block sees nothing.
  private func hide(
    _ p: Values, _ row: Int, _ visible: Range<Int>, _ span: Span, _ compute: Compute
  ) {
    guard visible.count < span.columns else { return }
    let (start, end) = (p + row * span.columns, p + (row * span.columns + visible.upperBound))
    let after = span.columns - visible.upperBound
    if let start = start.floats, let end = end.floats {
      compute.kernels.fill(0, start, visible.lowerBound)
      compute.kernels.fill(0, end, after)
    }
    if let start = start.halves, let end = end.halves {
      start.update(repeating: 0, count: visible.lowerBound)
      end.update(repeating: 0, count: after)
    }
  }

  /// Masks of a batch follow each other: each row and head has its own (longest, longest) range,
  /// in which query i and key j stand at i · length + j.
  private func drop(
    _ from: UnsafePointer<Float>, _ to: UnsafeMutablePointer<Float>, _ span: Span, length: Int,
    _ place: Int, _ dropout: Dropout, _ compute: Compute
  ) {
    let start = UInt64(place) * UInt64(longest * longest)
    for row in 0..<span.rows {
      compute.kernels.dropout(
        from + row * span.columns, to + row * span.columns, span.columns, dropout.stream,
        start + UInt64((span.first + row) * length + span.keys), dropout.probability)
    }
  }

  // MARK: Backward

  /// dV = Pᵀ dO, dP = dO Vᵀ, dS = P ⊙ (dP − Σ P ⊙ dP) / √d, dQ = dS K, dK = dSᵀ Q; keys and
  /// values add up over the query heads that share them.
  ///
  /// - Parameters:
  ///   - dOutput: (tokens, width)
  ///   - dqkv: (tokens, projected), written
  func backward(
    dOutput: Values, qkv: Values, logSumExp: UnsafePointer<Float>, dqkv: Values, window: Int?,
    selected: SelectedTokens.Place?, _ batch: StagedBatch, dropout: Dropout?, _ compute: Compute
  ) {
    let tokens = batch.tokenCount
    compute.forTasks(batch.rows * keyValueHeads) { task, lane in
      let (row, shared) = (task / keyValueHeads, task % keyValueHeads)
      let next = task + compute.threads
      prefetch(
        next / keyValueHeads, query: next % keyValueHeads * group, qkv,
        dOutput: selected == nil ? dOutput : nil, batch)
      let first = Int(batch.starts[row])
      let length = batch.length(of: row)
      let (own, dOwn) = (qkv + first * projected, dqkv + first * projected)
      let (key, value) = (keyColumn + shared * headSize, valueColumn + shared * headSize)
      let dk = result(dOwn + key, ld: projected, .dk, lane)
      let dv = result(dOwn + value, ld: projected, .dv, lane)
      for head in shared * group..<(shared + 1) * group {
        let outputs = selected == nil ? first : row
        let query = head * headSize
        let dq = result(dOwn + query, ld: projected, .dq, lane)
        if selected != nil { clear(dq, length, compute) }
        let pass = Pass(
          q: Rows(values: own + query, ld: projected), k: Rows(values: own + key, ld: projected),
          v: Rows(values: own + value, ld: projected), dq: dq, dk: dk, dv: dv,
          dOutput: Rows(values: dOutput + (outputs * width + query), ld: width),
          logSumExp: logSumExp + head * tokens + outputs, place: row * heads + head,
          length: length, selected: selected, isFirst: head == shared * group)
        backward(pass, window, lane: lane, dropout, compute)
        complete(dq, length, compute)
      }
      complete(dk, length, compute)
      complete(dv, length, compute)
    }
  }

  private func clear(_ result: Result, _ count: Int, _ compute: Compute) {
    for row in 0..<count { compute.kernels.fill(0, result + row, headSize) }
  }

  /// One row and head, from its first token on; of a selected one, from its output on.
  private struct Pass {
    let q: Rows
    let k: Rows
    let v: Rows
    let dq: Result
    let dk: Result
    let dv: Result
    let dOutput: Rows
    let logSumExp: UnsafePointer<Float>
    let place: Int
    let length: Int
    let selected: SelectedTokens.Place?
    /// Of those that share keys and values.
    let isFirst: Bool

    /// Where an output lies that a query has.
    func output(of query: Int) -> Int { selected == nil ? query : 0 }
  }

  private func backward(
    _ pass: Pass, _ window: Int?, lane: Int, _ dropout: Dropout?, _ compute: Compute
  ) {
    let kernels = compute.kernels
    let (p, dp) = (block(lane, 0), block(lane, 1))
    // What is dropped is rounded behind the dropout.
    let used = Values(dropout == nil ? p : block(lane, 2), halves: roundedBlock(lane, 0))
    let rounded = dropout == nil ? used.halves : nil
    let ds = Values(dp, halves: roundedBlock(lane, 1))
    // dK and dV hold nothing yet: a span of all keys sets them.
    var isEmpty = pass.isFirst
    forSpans(pass.length, window, pass.selected) { span in
      if isEmpty, span.columns < pass.length {
        clear(pass.dk, pass.length, compute)
        clear(pass.dv, pass.length, compute)
        isEmpty = false
      }
      let beta: Float = isEmpty ? 0 : 1
      isEmpty = false
      let place = pass.output(of: span.first)
      let dOut = pass.dOutput + place
      scores(pass.q, span.first, pass.k, span, into: p, compute)
      forVisible(span, window) { row, rows, columns in
        hide(Values(p, halves: rounded), row, columns, span, compute)
        let at = row * span.columns + columns.lowerBound
        kernels.softmax_again(
          p + at, rows, columns.count, span.columns, scale, pass.logSumExp + place + row, 1,
          rounded.map { $0 + at })
      }
      compute.products.gemm(
        span.rows, span.columns, headSize, a: dOut, lda: pass.dOutput.ld, b: pass.v + span.keys,
        ldb: pass.v.ld, transposeB: true, c: dp, ldc: span.columns)
      if let dropout, let floats = used.floats {
        drop(p, floats, span, length: pass.length, pass.place, dropout, compute)
        drop(dp, dp, span, length: pass.length, pass.place, dropout, compute)
        round(used, span, compute)
      }
      compute.products.gemm(
        span.columns, headSize, span.rows, a: used, lda: span.columns, transposeA: true, b: dOut,
        ldb: pass.dOutput.ld, c: pass.dv + span.keys, ldc: pass.dv.ld, beta: beta)
      kernels.softmax_backward(
        p, dp, span.rows, span.columns, span.columns, scale, ds.halves)
      compute.products.gemm(
        span.rows, headSize, span.columns, a: ds, lda: span.columns, b: pass.k + span.keys,
        ldb: pass.k.ld, c: pass.dq + span.first, ldc: pass.dq.ld)
      compute.products.gemm(
        span.columns, headSize, span.rows, a: ds, lda: span.columns, transposeA: true,
        b: pass.q + span.first, ldb: pass.q.ld, c: pass.dk + span.keys, ldc: pass.dk.ld, beta: beta)
    }
  }
}
