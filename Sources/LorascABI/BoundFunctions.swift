import CFFI
public import CLorasc
import CSupport
import Lorasc
import Synchronization

/// A libffi closure: a plain C function whose behaviour is an object's.
final class BoundFunction: @unchecked Sendable {
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
  ///   - types: of the arguments
  ///   - user: what the handler gets; `owner` keeps it
  /// - Throws: `.unsupported` where the system denies executable memory
  init(
    _ types: [UnsafeMutablePointer<ffi_type>?],
    returning result: UnsafeMutablePointer<ffi_type>? = lorasc_ffi_type_void(),
    user: UnsafeMutableRawPointer?, owner: AnyObject? = nil, _ handler: @escaping Handler
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
      ffi_prep_cif(interface, FFI_DEFAULT_ABI, UInt32(types.count), result, arguments) == FFI_OK,
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

/// The function's address; `lorasc_unbind` ends its life.
func register(_ bound: BoundFunction) -> UnsafeMutableRawPointer {
  boundFunctions.withLock { $0[UInt(bitPattern: bound.code)] = bound }
  return bound.code
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
