import CFFI
public import CLorasc
import CSupport
import Lorasc
import Synchronization

/// A libffi closure: a plain C function whose behaviour is an object's.
private final class BoundFunction: @unchecked Sendable {
  typealias Handler =
    @convention(c) (
      UnsafeMutablePointer<ffi_cif>?, UnsafeMutableRawPointer?,
      UnsafeMutablePointer<UnsafeMutableRawPointer?>?, UnsafeMutableRawPointer?
    ) -> Void
  // Safe: because all is set once and freed when nothing calls the function any more.
  private let closure: UnsafeMutableRawPointer
  private let interface = UnsafeMutablePointer<ffi_cif>.allocate(capacity: 1)
  private let arguments: UnsafeMutablePointer<UnsafeMutablePointer<ffi_type>?>
  private let owner: AnyObject?
  /// The function's address.
  let code: UnsafeMutableRawPointer

  /// - Parameters:
  ///   - user: what the handler gets; `owner` keeps it
  init(
    _ types: [UnsafeMutablePointer<ffi_type>?], user: UnsafeMutableRawPointer?,
    owner: AnyObject? = nil, _ handler: @escaping Handler
  ) throws {
    arguments = .allocate(capacity: types.count)
    arguments.initialize(from: types, count: types.count)
    var code: UnsafeMutableRawPointer?
    guard let closure = ffi_closure_alloc(lorasc_ffi_closure_size(), &code), let code else {
      interface.deallocate()
      arguments.deallocate()
      throw LorascError(.unsupported, "the system grants no executable memory for bound functions")
    }
    self.closure = closure
    self.code = code
    self.owner = owner
    guard
      ffi_prep_cif(
        interface, FFI_DEFAULT_ABI, UInt32(types.count), lorasc_ffi_type_void(), arguments)
        == FFI_OK,
      ffi_prep_closure_loc(
        closure.assumingMemoryBound(to: ffi_closure.self), interface, handler, user, code) == FFI_OK
    else { throw LorascError(.unsupported, "libffi offers no closures here") }
  }

  deinit {
    ffi_closure_free(closure)
    interface.deallocate()
    arguments.deallocate()
  }
}

private let boundFunctions = Mutex<[UInt: BoundFunction]>([:])

private func register(_ bound: BoundFunction) -> UnsafeMutableRawPointer {
  boundFunctions.withLock { $0[UInt(bitPattern: bound.code)] = bound }
  return bound.code
}

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

// MARK: Forward

private func bindForward(
  _ weight: BoundWeight, _ function: UnsafeMutablePointer<lorasc_forward_fn?>
) throws {
  let bound = try BoundFunction(
    [lorasc_ffi_type_pointer(), lorasc_ffi_type_pointer(), lorasc_ffi_type_uint64()],
    user: Unmanaged.passUnretained(weight).toOpaque(), owner: weight
  ) { _, _, arguments, user in
    // Safe: because libffi passes three arguments of the types above, and the bound function
    // keeps its weight.
    guard let arguments, let user, let x = arguments[0], let y = arguments[1],
      let rows = arguments[2]
    else { return }
    runBound(
      Unmanaged<BoundWeight>.fromOpaque(user).takeUnretainedValue(),
      x.load(as: UnsafePointer<Float>?.self), y.load(as: UnsafeMutablePointer<Float>?.self),
      rows.load(as: UInt64.self))
  }
  // Safe: because the closure was prepared with this type's signature.
  function.pointee = unsafeBitCast(register(bound), to: lorasc_forward_fn.self)
}

private func runBound(
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

@_cdecl("lorasc_bind_forward") @implementation
public func lorasc_bind_forward(
  _ layer: OpaquePointer!, _ function: UnsafeMutablePointer<lorasc_forward_fn?>!
) -> lorasc_status {
  call {
    let out = try required(function, "function")
    let layer: Layer = try Handles.object(layer, .layer)
    try bindForward(try BoundWeight(layer.trainer.adapter, module: layer.module), out)
  }
}

@_cdecl("lorasc_bind_module") @implementation
public func lorasc_bind_module(
  _ adapter: OpaquePointer!, _ module: UnsafePointer<CChar>!,
  _ function: UnsafeMutablePointer<lorasc_forward_fn?>!
) -> lorasc_status {
  call {
    let out = try required(function, "function")
    let adapter: Adapter = try Handles.object(adapter, .adapter)
    try bindForward(try BoundWeight(adapter, module: try string(module, "module")), out)
  }
}

@_cdecl("lorasc_unbind") @implementation
public func lorasc_unbind(_ function: lorasc_signal_fn?) -> lorasc_status {
  call {
    let address = function.map { UInt(bitPattern: unsafeBitCast($0, to: UnsafeRawPointer.self)) }
    let bound = boundFunctions.withLock { $0.removeValue(forKey: address ?? 0) }
    guard bound != nil else {
      throw LorascError(.handle, "this function came from no bind", subject: "function")
    }
  }
}
