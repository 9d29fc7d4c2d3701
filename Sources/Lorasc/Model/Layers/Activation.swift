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

  /// y = f(x) of (rows, columns) values
  func forward(_ x: Values, _ y: Values, rows: Int, columns: Int, _ compute: Compute) {
    let kernel = compute.kernels.activation_forward
    compute.forParts(rows * columns, cost: 8) { part in
      let out = part.view(y, 1)
      kernel(kind, part.read(x, 0), out, part.count)
      part.written(out, y)
    }
  }

  /// dx = dy ⊙ f′(x); dx may be dy.
  func backward(
    _ x: Values, _ dy: Values, _ dx: Values, rows: Int, columns: Int, _ compute: Compute
  ) {
    let kernel = compute.kernels.activation_backward
    compute.forParts(rows * columns, cost: 10) { part in
      let out = part.view(dx, 2)
      kernel(kind, part.read(x, 0), part.read(dy, 1), out, part.count)
      part.written(out, dx)
    }
  }
}

// MARK: Gated: y = f(gate) ⊙ up

extension Activation {
  func forward(
    gate: Values, up: Values, _ y: Values, rows: Int, columns: Int, _ compute: Compute
  ) {
    let kernel = compute.kernels.gate_forward
    compute.forParts(rows * columns, cost: 9) { part in
      let out = part.view(y, 2)
      kernel(kind, part.read(gate, 0), part.read(up, 1), out, part.count)
      part.written(out, y)
    }
  }

  /// dGate = dy ⊙ up ⊙ f′(gate), dUp = dy ⊙ f(gate); one of them may be dy.
  func backward(
    gate: Values, up: Values, _ dy: Values, dGate: Values, dUp: Values, rows: Int, columns: Int,
    _ compute: Compute
  ) {
    let kernel = compute.kernels.gate_backward
    compute.forParts(rows * columns, cost: 14) { part in
      let (gateOut, upOut) = (part.view(dGate, 3), part.view(dUp, 4))
      kernel(
        kind, part.read(gate, 0), part.read(up, 1), part.read(dy, 2), gateOut, upOut, part.count)
      part.written(gateOut, dGate)
      part.written(upOut, dUp)
    }
  }
}
