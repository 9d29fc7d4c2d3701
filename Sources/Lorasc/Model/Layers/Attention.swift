/// Multi-head self-attention over segments: each row of the batch attends to itself only.
///
/// For one row of length L and one head of d columns: P = softmax(Q Kᵀ / √d), O = P V. Only
/// the log of each softmax's denominator is kept (tokens, heads); the backward makes P again,
/// in one scratch block a thread.
final class Attention {
  let heads: Int
  let headSize: Int
  private let longest: Int
  /// Per lane: P, dP and, with dropout, the dropped P; each (longest, longest).
  private let scratch: UnsafeMutablePointer<Float>
  /// (tokens, heads): Σ dO ⊙ O, for the backward.
  private let delta: UnsafeMutablePointer<Float>

  private var scale: Float { 1 / Float(headSize).squareRoot() }
  private var width: Int { heads * headSize }

  init(heads: Int, headSize: Int, longest: Int, tokens: Int, lanes: Int, arena: Arena) throws {
    self.heads = heads
    self.headSize = headSize
    self.longest = longest
    scratch = try arena.matrix(lanes * 3, longest * longest, "plan.attention_scratch")
    delta = try arena.matrix(tokens, heads, "plan.attention_delta")
  }

  private func block(_ lane: Int, _ which: Int) -> UnsafeMutablePointer<Float> {
    scratch + (lane * 3 + which) * longest * longest
  }

  /// - Parameters:
  ///   - qkv: (tokens, 3 width): queries, keys, values side by side
  ///   - output: (tokens, width)
  ///   - logSumExp: (heads, tokens), written
  func forward(
    qkv: UnsafePointer<Float>, output: UnsafeMutablePointer<Float>,
    logSumExp: UnsafeMutablePointer<Float>, _ batch: StagedBatch, dropout: Dropout?,
    _ compute: Compute
  ) {
    let tokens = batch.tokenCount
    let kernels = compute.kernels
    compute.forTasks(batch.rows * heads) { task, lane in
      let row = task / heads
      let head = task % heads
      let first = Int(batch.starts[row])
      let length = batch.length(of: row)
      let q = qkv + first * 3 * width + head * headSize
      let p = block(lane, 0)
      compute.gemmOnThisThread(
        length, length, headSize, a: q, lda: 3 * width, b: q + width, ldb: 3 * width,
        transposeB: true, c: p, ldc: length)
      kernels.softmax_forward(
        p, length, length, length, scale, logSumExp + head * tokens + first)
      if let dropout {
        kernels.dropout(
          p, p, length * length, dropout.stream, maskStart(row, head, batch), dropout.probability)
      }
      compute.gemmOnThisThread(
        length, headSize, length, a: p, lda: length, b: q + 2 * width, ldb: 3 * width,
        c: output + first * width + head * headSize, ldc: width)
    }
  }

  /// dV = Pᵀ dO, dP = dO Vᵀ, dS = P ⊙ (dP − Σ dO ⊙ O) / √d, dQ = dS K, dK = dSᵀ Q.
  ///
  /// - Parameters:
  ///   - dOutput: (tokens, width)
  ///   - dqkv: (tokens, 3 width), written
  func backward(
    dOutput: UnsafePointer<Float>, qkv: UnsafePointer<Float>, output: UnsafePointer<Float>,
    logSumExp: UnsafePointer<Float>, dqkv: UnsafeMutablePointer<Float>, _ batch: StagedBatch,
    dropout: Dropout?, _ compute: Compute
  ) {
    let tokens = batch.tokenCount
    let kernels = compute.kernels
    compute.forTasks(batch.rows * heads) { task, lane in
      let row = task / heads
      let head = task % heads
      let first = Int(batch.starts[row])
      let length = batch.length(of: row)
      let q = qkv + first * 3 * width + head * headSize
      let k = q + width
      let v = k + width
      let dq = dqkv + first * 3 * width + head * headSize
      let dOut = dOutput + first * width + head * headSize
      let out = output + first * width + head * headSize
      let delta = self.delta + head * tokens + first
      for index in 0..<length {
        delta[index] = kernels.dot(dOut + index * width, out + index * width, headSize)
      }
      let p = block(lane, 0)
      let dp = block(lane, 1)
      compute.gemmOnThisThread(
        length, length, headSize, a: q, lda: 3 * width, b: k, ldb: 3 * width, transposeB: true,
        c: p, ldc: length)
      kernels.softmax_again(
        p, length, length, length, scale, logSumExp + head * tokens + first, 1)
      compute.gemmOnThisThread(
        length, length, headSize, a: dOut, lda: width, b: v, ldb: 3 * width, transposeB: true,
        c: dp, ldc: length)
      var used = UnsafePointer(p)
      if let dropout {
        let dropped = block(lane, 2)
        let start = maskStart(row, head, batch)
        kernels.dropout(p, dropped, length * length, dropout.stream, start, dropout.probability)
        kernels.dropout(dp, dp, length * length, dropout.stream, start, dropout.probability)
        used = UnsafePointer(dropped)
      }
      compute.gemmOnThisThread(
        length, headSize, length, a: used, lda: length, transposeA: true, b: dOut, ldb: width,
        c: dq + 2 * width, ldc: 3 * width)
      kernels.softmax_backward(p, dp, length, length, length, scale, delta, 1)
      compute.gemmOnThisThread(
        length, headSize, length, a: dp, lda: length, b: k, ldb: 3 * width, c: dq, ldc: 3 * width)
      compute.gemmOnThisThread(
        length, headSize, length, a: dp, lda: length, transposeA: true, b: q, ldb: 3 * width,
        c: dq + width, ldc: 3 * width)
    }
  }

  /// Masks of a batch follow each other: row r, head h has its own (longest, longest) range.
  private func maskStart(_ row: Int, _ head: Int, _ batch: StagedBatch) -> UInt64 {
    UInt64(row * heads + head) * UInt64(longest * longest)
  }
}
