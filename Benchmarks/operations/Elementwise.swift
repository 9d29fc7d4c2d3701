import CSupport

@testable import Lorasc

/// The kernels, split over the threads as layers split them.
enum Elementwise {
  static func operations(_ size: Size, _ work: Workspace) -> [Operation] {
    norms(size, work) + softmax(size, work) + activations(size, work) + others(size, work)
  }

  /// y = a x + b y: the memory's rate is taken from this one.
  static func axpby(_ size: Size, _ work: Workspace) -> Operation {
    let (count, x, y) = (size.wide, work.source(0), work.target(0))
    return Operation(
      name: "axpby", size: size.name, shape: "\(count)", bytes: 12 * Double(count),
      flops: 3 * Double(count),
      prepare: { work.copy(1, to: 0, count) },
      run: {
        work.forBlocks(count, cost: 1) { start, count in
          work.compute.kernels.axpby(0.5, x + start, 0.5, y + start, count)
        }
      })
  }

  // MARK: Norms: rows of tokens, as a block of the model has them between its branches

  private static func norms(_ size: Size, _ work: Workspace) -> [Operation] {
    let (rows, columns, compute) = (size.tokens, size.hidden, work.compute)
    let kernels = compute.kernels
    let count = Double(rows * columns)
    let shape = "\(rows) x \(columns)"
    let (x, residual, dy) = (work.source(0), work.source(1), work.source(1))
    let (sum, y, dx) = (work.target(0), work.target(1), work.target(1))
    // gamma and beta, mean and 1 / deviation of each row.
    let (gamma, beta) = (work.source(2), work.source(2) + columns)
    let (mean, reciprocal) = (work.target(2), work.target(2) + rows)
    let ofRows = 8 * Double(rows)

    /// body(first row, its element, rows)
    func forRows(_ cost: Int, _ body: @escaping (Int, Int, Int) -> Void) -> () -> Void {
      { compute.forRows(rows, cost: cost * columns) { body($0, $0 * columns, $1 - $0) } }
    }
    let layerNorm = forRows(4) { row, at, rows in
      kernels.layer_norm_forward(
        x + at, residual + at, gamma, beta, 1e-5, sum + at, y + at, nil, mean + row,
        reciprocal + row, rows, columns)
    }
    let rmsNorm = forRows(4) { row, at, rows in
      kernels.rms_norm_forward(
        x + at, residual + at, gamma, 1e-5, sum + at, y + at, nil, reciprocal + row, rows,
        columns)
    }
    return [
      // sum = x + residual; mean; (sum - mean)^2 added up; times the reciprocal, gamma, beta.
      Operation(
        name: "LayerNorm forward", size: size.name, shape: shape, bytes: 16 * count + ofRows,
        flops: 8 * count, run: layerNorm),
      // The normalised value 2, dy gamma 1, their sum and product's sum 3, k (g - a - h b) 4.
      Operation(
        name: "LayerNorm backward", size: size.name, shape: shape, bytes: 12 * count + ofRows,
        flops: 10 * count, prepare: layerNorm,
        run: forRows(6) { row, at, rows in
          kernels.layer_norm_backward(
            dy + at, sum + at, gamma, mean + row, reciprocal + row, nil, dx + at, nil, nil, nil,
            rows, columns)
        }),
      Operation(
        name: "RMSNorm forward", size: size.name, shape: shape, bytes: 16 * count + ofRows / 2,
        flops: 5 * count, run: rmsNorm),
      Operation(
        name: "RMSNorm backward", size: size.name, shape: shape, bytes: 12 * count + ofRows / 2,
        flops: 7 * count, prepare: rmsNorm,
        run: forRows(6) { row, at, rows in
          kernels.rms_norm_backward(
            dy + at, sum + at, gamma, reciprocal + row, nil, dx + at, nil, nil, rows, columns)
        }),
    ]
  }

  // MARK: Softmax, in place as attention does it

  private static func softmax(_ size: Size, _ work: Workspace) -> [Operation] {
    let (rows, columns) = size.scores
    let (kernels, count) = (work.compute.kernels, Double(rows * columns))
    let shape = "\(rows) x \(columns)"
    let (x, dp, lse) = (work.target(0), work.target(1), work.target(2))
    let p = work.source(0)
    return [
      // scale x - largest, its exponential, the sum, the quotient, and the largest before.
      Operation(
        name: "softmax forward", size: size.name, shape: shape,
        bytes: 8 * count + 4 * Double(rows), flops: 6 * count,
        prepare: { work.copy(0, to: 0, rows * columns) },
        run: {
          work.compute.forRows(rows, cost: 8 * columns) { start, end in
            kernels.softmax_forward(
              x + start * columns, end - start, columns, columns, 0.125, lse + start, nil)
          }
        }),
      // dp = scale p (dp - sum of p dp)
      Operation(
        name: "softmax backward", size: size.name, shape: shape,
        bytes: 12 * count, flops: 5 * count,
        prepare: { work.copy(1, to: 1, rows * columns) },
        run: {
          work.compute.forRows(rows, cost: 2 * columns) { start, end in
            kernels.softmax_backward(
              p + start * columns, dp + start * columns, end - start, columns, columns, 0.125, nil)
          }
        }),
    ]
  }

  // MARK: Activations

  private static func activations(_ size: Size, _ work: Workspace) -> [Operation] {
    let kernels = work.compute.kernels
    let (gelu, silu) = (
      Int32(LORASC_ACTIVATION_GELU.rawValue), Int32(LORASC_ACTIVATION_SILU.rawValue)
    )
    let (x, up, dy) = (work.source(0), work.source(1), work.source(2))
    let (y, dx, dUp) = (work.target(0), work.target(0), work.target(1))

    func make(
      _ name: String, operands: Int, flops: Int, cost: Int,
      _ body: @escaping (_ at: Int, _ count: Int) -> Void
    ) -> Operation {
      let count = Double(size.wide)
      return Operation(
        name: name, size: size.name, shape: "\(size.wide)", bytes: 4 * Double(operands) * count,
        flops: Double(flops) * count,
        run: {
          work.compute.forRows(size.wide, cost: cost) { body($0, $1 - $0) }
        })
    }
    return [
      // x / 2 (1 + erf(x / √2))
      make("GELU forward", operands: 2, flops: 5, cost: 8) { at, count in
        kernels.activation_forward(gelu, x + at, y + at, count)
      },
      // dy (Φ(x) + x φ(x)), φ(x) = exp(-x² / 2) / √2π
      make("GELU backward", operands: 3, flops: 11, cost: 10) { at, count in
        kernels.activation_backward(gelu, x + at, dy + at, dx + at, count)
      },
      // x / (1 + exp(-x)) up
      make("SiLU gate forward", operands: 3, flops: 5, cost: 8) { at, count in
        kernels.gate_forward(silu, x + at, up + at, y + at, count)
      },
      // s = 1 / (1 + exp(-x)); dy up s (1 + x (1 - s)), dy x s
      make("SiLU gate backward", operands: 5, flops: 11, cost: 10) { at, count in
        kernels.gate_backward(silu, x + at, up + at, dy + at, dx + at, dUp + at, count)
      },
    ]
  }

  // MARK: Optimizer, dropout, conversions

  private static func others(_ size: Size, _ work: Workspace) -> [Operation] {
    let kernels = work.compute.kernels
    let (wide, parameters) = (Double(size.wide), Double(size.parameters))
    let (x, y) = (work.source(0), work.target(0))
    let (p, m, v) = (work.target(0), work.target(1), work.target(2))
    let halves = work.halves(work.targets[2])
    let columns = 1024
    let rows = size.wide / columns
    let stream = RandomStream(key: 2, stream: 3).c
    return [
      // The engine steps its parameters on the calling thread; here all threads do.
      Operation(
        name: "AdamW", size: size.name, shape: "\(size.parameters)", bytes: 28 * parameters,
        flops: 15 * parameters,
        prepare: {
          work.copy(1, to: 0, size.parameters)
          work.fill(1, 0.1, size.parameters)
          work.fill(2, 0.1, size.parameters)
        },
        run: {
          work.forBlocks(size.parameters, cost: 6) { at, count in
            kernels.adamw(
              p + at, x + at, m + at, v + at, count, 1, 1e-4, 0.9, 0.999, 1e-8, 0.01, 0.5, 0.5)
          }
        }),
      // One product; the generator's integer arithmetic, which costs most, isn't counted.
      Operation(
        name: "dropout", size: size.name, shape: "\(size.wide)", bytes: 8 * wide, flops: wide,
        run: {
          work.forBlocks(size.wide, cost: 4) { at, count in
            kernels.dropout(x + at, y + at, count, stream, UInt64(at), 0.1)
          }
        }),
      Operation(
        name: "float32 to bfloat16", size: size.name, shape: "\(size.wide)", bytes: 6 * wide,
        flops: wide,
        run: { work.compute.round(x, halves, ld: columns, rows: rows, columns: columns) }),
      Operation(
        name: "bfloat16 to float32", size: size.name, shape: "\(size.wide)", bytes: 6 * wide,
        flops: wide,
        prepare: { work.compute.round(x, halves, ld: columns, rows: rows, columns: columns) },
        run: { work.compute.widen(halves, ld: columns, y, rows: rows, columns: columns) }),
    ]
  }
}
