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

  /// y = f(x)
  func forward(_ x: Values, _ y: Values, count: Int, _ compute: Compute) {
    compute.forParts(count, cost: 8) { forward(x, y, $0) }
  }

  /// The same of a part of them.
  func forward(_ x: Values, _ y: Values, _ part: Compute.Part) {
    let out = part.view(y, 1)
    part.compute.kernels.activation_forward(kind, part.read(x, 0), out, part.count)
    part.written(out, y)
  }

  /// dx = dy ⊙ f′(x); dx may be dy.
  func backward(_ x: Values, _ dy: Values, _ dx: Values, count: Int, _ compute: Compute) {
    compute.forParts(count, cost: 10) { backward(x, dy, dx, $0) }
  }

  func backward(_ x: Values, _ dy: Values, _ dx: Values, _ part: Compute.Part) {
    let out = part.view(dx, 2)
    part.compute.kernels.activation_backward(
      kind, part.read(x, 0), part.read(dy, 1), out, part.count)
    part.written(out, dx)
  }
}

// MARK: Gated: y = f(gate) ⊙ up

extension Activation {
  func forward(gate: Values, up: Values, _ y: Values, _ part: Compute.Part) {
    let out = part.view(y, 2)
    part.compute.kernels.gate_forward(kind, part.read(gate, 0), part.read(up, 1), out, part.count)
    part.written(out, y)
  }

  /// dGate = dy ⊙ up ⊙ f′(gate), dUp = dy ⊙ f(gate); one of them may be dy.
  func backward(
    gate: Values, up: Values, _ dy: Values, dGate: Values, dUp: Values, _ part: Compute.Part
  ) {
    let (gateOut, upOut) = (part.view(dGate, 3), part.view(dUp, 4))
    part.compute.kernels.gate_backward(
      kind, part.read(gate, 0), part.read(up, 1), part.read(dy, 2), gateOut, upOut, part.count)
    part.written(gateOut, dGate)
    part.written(upOut, dUp)
  }
}
