import CSupport

/// An elementwise activation by its name in config.json. Its arrays are all float32 or all bfloat16.
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

  /// y = f(x)
  func forward(_ x: Values, _ y: Values, count: Int, _ compute: Compute) {
    compute.forRows(count, cost: 8) { forward(x, y, $0..<$1, compute) }
  }

  /// The same of some elements, on the calling thread.
  func forward(_ x: Values, _ y: Values, _ elements: Range<Int>, _ compute: Compute) {
    let (x, y) = (x + elements.lowerBound, y + elements.lowerBound)
    if let x = x.floats, let y = y.floats {
      compute.kernels.activation_forward(kind, x, y, elements.count)
    } else if let x = x.halves, let y = y.halves {
      compute.kernels.activation_forward_bf16(kind, x, y, elements.count)
    }
  }

  /// dx = dy ⊙ f′(x); dx may be dy.
  func backward(_ x: Values, _ dy: Values, _ dx: Values, count: Int, _ compute: Compute) {
    compute.forRows(count, cost: 10) { backward(x, dy, dx, $0..<$1, compute) }
  }

  func backward(
    _ x: Values, _ dy: Values, _ dx: Values, _ elements: Range<Int>, _ compute: Compute
  ) {
    let start = elements.lowerBound
    let (x, dy, dx) = (x + start, dy + start, dx + start)
    if let x = x.floats, let dy = dy.floats, let dx = dx.floats {
      compute.kernels.activation_backward(kind, x, dy, dx, elements.count)
    } else if let x = x.halves, let dy = dy.halves, let dx = dx.halves {
      compute.kernels.activation_backward_bf16(kind, x, dy, dx, elements.count)
    }
  }
}

// MARK: Gated: y = f(gate) ⊙ up

extension Activation {
  func forward(
    gate: Values, up: Values, _ y: Values, _ elements: Range<Int>, _ compute: Compute
  ) {
    let start = elements.lowerBound
    let (gate, up, y) = (gate + start, up + start, y + start)
    if let gate = gate.floats, let up = up.floats, let y = y.floats {
      compute.kernels.gate_forward(kind, gate, up, y, elements.count)
    } else if let gate = gate.halves, let up = up.halves, let y = y.halves {
      compute.kernels.gate_forward_bf16(kind, gate, up, y, elements.count)
    }
  }

  /// dGate = dy ⊙ up ⊙ f′(gate), dUp = dy ⊙ f(gate); dUp may be dy.
  func backward(
    gate: Values, up: Values, _ dy: Values, dGate: Values, dUp: Values, _ elements: Range<Int>,
    _ compute: Compute
  ) {
    let start = elements.lowerBound
    let (gate, up, dy) = (gate + start, up + start, dy + start)
    let (dGate, dUp) = (dGate + start, dUp + start)
    if let gate = gate.floats, let up = up.floats, let dy = dy.floats, let dGate = dGate.floats,
      let dUp = dUp.floats
    {
      compute.kernels.gate_backward(kind, gate, up, dy, dGate, dUp, elements.count)
    } else if let gate = gate.halves, let up = up.halves, let dy = dy.halves,
      let dGate = dGate.halves, let dUp = dUp.halves
    {
      compute.kernels.gate_backward_bf16(kind, gate, up, dy, dGate, dUp, elements.count)
    }
  }
}
