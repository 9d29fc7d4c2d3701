import Glibc
import Synchronization

/// "One call at a time": a second one meanwhile is refused with `.busy`, never made to
/// wait. During a callback the owner may open the object to calls of the same thread.
public final class ExclusiveUse: Sendable {
  private let inUse = Atomic<Bool>(false)
  private let callbackThread = Atomic<UInt>(0)
  private let what: String

  public init(_ what: String) { self.what = what }

  public func callAsFunction<Result>(
    fromCallbackToo: Bool = false, _ body: () throws -> Result
  ) throws -> Result {
    if fromCallbackToo, callbackThread.load(ordering: .acquiring) == UInt(pthread_self()) {
      return try body()
    }
    guard
      inUse.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing)
        .exchanged
    else { throw LorascError(.busy, "the \(what) is in use by another call", subject: what) }
    defer { inUse.store(false, ordering: .releasing) }
    return try body()
  }

  /// Runs a host's callback while the object is in use.
  func duringCallback<Result>(_ body: () throws -> Result) rethrows -> Result {
    callbackThread.store(UInt(pthread_self()), ordering: .releasing)
    defer { callbackThread.store(0, ordering: .releasing) }
    return try body()
  }
}
