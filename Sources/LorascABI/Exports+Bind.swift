import CFFI
public import CLorasc
import Lorasc

@_cdecl("lorasc_bind_interrupt") @implementation
public func lorasc_bind_interrupt(
  _ trainer: OpaquePointer!, _ function: UnsafeMutablePointer<lorasc_signal_fn?>!
) -> lorasc_status {
  call {
    let out = try required(function, "function")
    _ = try Handles.object(trainer, .trainer, as: Trainer.self)
    let bound = try BoundFunction(
      [lorasc_ffi_type_sint32()], user: UnsafeMutableRawPointer(trainer)
    ) { _, _, _, user in _ = lorasc_trainer_interrupt(OpaquePointer(user)) }
    // Safe: because the closure was prepared with this type's signature.
    out.pointee = unsafeBitCast(register(bound), to: lorasc_signal_fn.self)
  }
}

@_cdecl("lorasc_bind_forward") @implementation
public func lorasc_bind_forward(
  _ layer: OpaquePointer!, _ function: UnsafeMutablePointer<lorasc_forward_fn?>!
) -> lorasc_status {
  bind(function) { try bindForward(try weight(of: layer)) }
}

@_cdecl("lorasc_bind_module") @implementation
public func lorasc_bind_module(
  _ adapter: OpaquePointer!, _ module: UnsafePointer<CChar>!,
  _ function: UnsafeMutablePointer<lorasc_forward_fn?>!
) -> lorasc_status {
  bind(function) {
    let adapter: Adapter = try Handles.object(adapter, .adapter)
    return try bindForward(try BoundWeight(adapter, module: try string(module, "module")))
  }
}

@_cdecl("lorasc_bind_scalar") @implementation
public func lorasc_bind_scalar(
  _ layer: OpaquePointer!, _ function: UnsafeMutablePointer<lorasc_scalar_fn?>!
) -> lorasc_status {
  bind(function) { try bindScalar(try weight(of: layer)) }
}

private func weight(of layer: OpaquePointer?) throws -> BoundWeight {
  let layer: Layer = try Handles.object(layer, .layer)
  return try BoundWeight(layer.trainer.adapter, module: layer.module)
}

/// Hands out what `make` binds, as a function of the type that it was prepared for.
private func bind<Function>(
  _ function: UnsafeMutablePointer<Function?>?, _ make: () throws -> BoundFunction
) -> lorasc_status {
  call {
    let out = try required(function, "function")
    // Safe: because the callers above make each closure with the signature of its type.
    out.pointee = unsafeBitCast(register(try make()), to: Function?.self)
  }
}

// MARK: Forms

/// `lorasc_forward_fn`
private func bindForward(_ weight: BoundWeight) throws -> BoundFunction {
  try BoundFunction(
    [lorasc_ffi_type_pointer(), lorasc_ffi_type_pointer(), lorasc_ffi_type_uint64()],
    user: Unmanaged.passUnretained(weight).toOpaque(), owner: weight
  ) { _, _, arguments, user in
    // Safe: because libffi passes three arguments of the types above, and the bound function
    // keeps its weight.
    guard let arguments, let user, let x = arguments[0], let y = arguments[1],
      let rows = arguments[2]
    else { return }
    runForward(
      Unmanaged<BoundWeight>.fromOpaque(user).takeUnretainedValue(),
      x.load(as: UnsafePointer<Float>?.self), y.load(as: UnsafeMutablePointer<Float>?.self),
      rows.load(as: UInt64.self))
  }
}

private func runForward(
  _ weight: BoundWeight, _ x: UnsafePointer<Float>?, _ y: UnsafeMutablePointer<Float>?,
  _ rows: UInt64
) {
  let isSane = rows <= 1 << 40 / UInt64(weight.outFeatures)
  let status = call {
    guard let x, let y else {
      throw LorascError(.argument, "x or y of a bound function is NULL", subject: "x")
    }
    guard isSane else {
      throw LorascError(.shape, "\(rows) rows for a bound function", subject: "rows")
    }
    weight(x, y, rows: Int(rows))
  }
  guard status != LORASC_OK, let y, isSane else { return }
  y.update(repeating: .nan, count: Int(rows) * weight.outFeatures)
}

/// `lorasc_scalar_fn`
private func bindScalar(_ weight: BoundWeight) throws -> BoundFunction {
  guard weight.outFeatures == 1 else {
    throw LorascError(
      .shape, "a function of one value needs a module of one output, not \(weight.outFeatures)",
      subject: "layer")
  }
  return try BoundFunction(
    [lorasc_ffi_type_sint32(), lorasc_ffi_type_pointer()], returning: lorasc_ffi_type_double(),
    user: Unmanaged.passUnretained(weight).toOpaque(), owner: weight
  ) { _, result, arguments, user in
    // Safe: because libffi passes two arguments of the types above and room for a double, and the
    // bound function keeps its weight.
    guard let result, let arguments, let user, let n = arguments[0], let x = arguments[1] else {
      return
    }
    result.storeBytes(
      of: runScalar(
        Unmanaged<BoundWeight>.fromOpaque(user).takeUnretainedValue(), n.load(as: Int32.self),
        x.load(as: UnsafePointer<Double>?.self)), as: Double.self)
  }
}

private func runScalar(_ weight: BoundWeight, _ n: Int32, _ x: UnsafePointer<Double>?) -> Double {
  var y = Double.nan
  _ = call {
    guard let x else {
      throw LorascError(.argument, "x of a bound function is NULL", subject: "x")
    }
    guard Int(n) == weight.inFeatures else {
      throw LorascError(
        .shape, "\(n) values for a bound function of \(weight.inFeatures)", subject: "n")
    }
    y = weight(x)
  }
  return y
}
