import CFFI
public import CLorasc
import Lorasc
import Synchronization

/// A libffi closure: a plain C function whose behaviour is a handle's.
private final class BoundFunction: @unchecked Sendable {
  private let closure: UnsafeMutableRawPointer
  private let interface = UnsafeMutablePointer<ffi_cif>.allocate(capacity: 1)
  private let arguments = UnsafeMutablePointer<UnsafeMutablePointer<ffi_type>?>.allocate(
    capacity: 1)
  /// The function's address.
  let code: UnsafeMutableRawPointer

  /// `void (int)`, which interrupts the trainer of a handle.
  init(interrupting trainer: OpaquePointer) throws {
    var code: UnsafeMutableRawPointer?
    guard let closure = ffi_closure_alloc(lorasc_ffi_closure_size(), &code), let code else {
      interface.deallocate()
      arguments.deallocate()
      throw LorascError(.unsupported, "the system grants no executable memory for bound functions")
    }
    self.closure = closure
    self.code = code
    arguments.pointee = lorasc_ffi_type_sint32()
    guard
      ffi_prep_cif(interface, FFI_DEFAULT_ABI, 1, lorasc_ffi_type_void(), arguments) == FFI_OK,
      ffi_prep_closure_loc(
        closure.assumingMemoryBound(to: ffi_closure.self), interface,
        { _, _, _, user in _ = lorasc_trainer_interrupt(OpaquePointer(user)) },
        UnsafeMutableRawPointer(trainer), code) == FFI_OK
    else { throw LorascError(.unsupported, "libffi offers no closures here") }
  }

  deinit {
    ffi_closure_free(closure)
    interface.deallocate()
    arguments.deallocate()
  }
}

private let boundFunctions = Mutex<[UInt: BoundFunction]>([:])

@_cdecl("lorasc_bind_interrupt") @implementation
public func lorasc_bind_interrupt(
  _ trainer: OpaquePointer!, _ function: UnsafeMutablePointer<lorasc_signal_fn?>!
) -> lorasc_status {
  call {
    let out = try required(function, "function")
    _ = try Handles.object(trainer, .trainer, as: Trainer.self)
    guard let trainer else { return }
    let bound = try BoundFunction(interrupting: trainer)
    boundFunctions.withLock { $0[UInt(bitPattern: bound.code)] = bound }
    // Safe: because the closure was prepared with this type's signature.
    out.pointee = unsafeBitCast(bound.code, to: lorasc_signal_fn.self)
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
