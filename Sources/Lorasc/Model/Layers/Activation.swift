import CSupport

/// An elementwise activation by its name in config.json.
struct Activation: Sendable, Equatable {
  let kind: Int32

  init?(configName: String) {
    switch configName {
    case "gelu": kind = Int32(LORASC_ACTIVATION_GELU.rawValue)
    case "gelu_new", "gelu_pytorch_tanh": kind = Int32(LORASC_ACTIVATION_GELU_TANH.rawValue)
    case "relu": kind = Int32(LORASC_ACTIVATION_RELU.rawValue)
    case "silu", "swish": kind = Int32(LORASC_ACTIVATION_SILU.rawValue)
    case "tanh": kind = Int32(LORASC_ACTIVATION_TANH.rawValue)
    default: return nil
    }
  }

  static let relu = Activation(kind: Int32(LORASC_ACTIVATION_RELU.rawValue))
  static let tanh = Activation(kind: Int32(LORASC_ACTIVATION_TANH.rawValue))

  private init(kind: Int32) { self.kind = kind }

  func forward(
    _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, rows: Int, columns: Int,
    _ compute: Compute
  ) {
    let kernel = compute.kernels.activation_forward
    compute.forRows(rows, cost: 8 * columns) { start, end in
      kernel(kind, x + start * columns, y + start * columns, (end - start) * columns)
    }
  }

  /// dx = dy ⊙ f′(x); dx may be dy.
  func backward(
    _ x: UnsafePointer<Float>, _ dy: UnsafePointer<Float>, _ dx: UnsafeMutablePointer<Float>,
    rows: Int, columns: Int, _ compute: Compute
  ) {
    let kernel = compute.kernels.activation_backward
    compute.forRows(rows, cost: 10 * columns) { start, end in
      let at = start * columns
      kernel(kind, x + at, dy + at, dx + at, (end - start) * columns)
    }
  }
}

// MARK: Gated: y = f(gate) ⊙ up

extension Activation {
  func forward(
    gate: UnsafePointer<Float>, up: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>,
    rows: Int, columns: Int, _ compute: Compute
  ) {
    let kernel = compute.kernels.gate_forward
    compute.forRows(rows, cost: 9 * columns) { start, end in
      let at = start * columns
      kernel(kind, gate + at, up + at, y + at, (end - start) * columns)
    }
  }

  /// dGate = dy ⊙ up ⊙ f′(gate), dUp = dy ⊙ f(gate); one of them may be dy.
  func backward(
    gate: UnsafePointer<Float>, up: UnsafePointer<Float>, _ dy: UnsafePointer<Float>,
    dGate: UnsafeMutablePointer<Float>, dUp: UnsafeMutablePointer<Float>, rows: Int, columns: Int,
    _ compute: Compute
  ) {
    let kernel = compute.kernels.gate_backward
    compute.forRows(rows, cost: 14 * columns) { start, end in
      let at = start * columns
      kernel(kind, gate + at, up + at, dy + at, dGate + at, dUp + at, (end - start) * columns)
    }
  }
}
