import COpenBLAS
import CSupport
import Glibc

/// Keeps OpenBLAS and oneDNN at one thread while the engine computes, because the pool's threads
/// call them side by side, and gives the host its counts back afterwards.
///
/// OpenBLAS has one count for the process. The first thread to come in saves it and the last to go
/// out restores it, so two trainers at once don't disturb each other. A host thread that uses the
/// same OpenBLAS meanwhile gets one thread as well. oneDNN's count is OpenMP's, of each thread.
enum BLASThreads {
  /// Runs `body` with OpenBLAS at one thread. May be nested.
  static func withSingleThread<Result>(_ body: () throws -> Result) rethrows -> Result {
    enter()
    defer { leave() }
    return try body()
  }

  /// Runs `body`, a callback of the host, with the host's count again, unless another thread is
  /// still computing. Outside `withSingleThread` it just runs `body`.
  static func outside<Result>(_ body: () throws -> Result) rethrows -> Result {
    let depth = BLASThreads.depth
    guard depth > 0 else { return try body() }
    BLASThreads.depth = 0
    release()
    defer {
      acquire()
      BLASThreads.depth = depth
    }
    return try body()
  }

  /// `leave` must follow on the same thread.
  static func enter() {
    if depth == 0 { acquire() }
    depth += 1
  }

  static func leave() {
    guard depth > 0 else { return }
    depth -= 1
    if depth == 0 { release() }
  }

  // MARK: Over all threads

  private struct Holders {
    var count = 0
    var hostThreads: Int32 = 1
  }

  // Safe: because only `acquire` and `release` touch it, under the mutex.
  nonisolated(unsafe) private static var holders = Holders()
  nonisolated(unsafe) private static let mutex = {
    let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    mutex.initialize(to: pthread_mutex_t())
    pthread_mutex_init(mutex, nil)
    return mutex
  }()

  private static func acquire() {
    lorasc_onednn_enter()
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    if holders.count == 0 {
      holders.hostThreads = openblas_get_num_threads()
      openblas_set_num_threads(1)
    }
    holders.count += 1
  }

  private static func release() {
    lorasc_onednn_leave()
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    holders.count -= 1
    if holders.count == 0 { openblas_set_num_threads(holders.hostThreads) }
  }

  // MARK: Of this thread

  private static let key = {
    var key = pthread_key_t()
    pthread_key_create(&key, nil)
    return key
  }()

  /// How many `enter` of this thread wait for their `leave`: a number in the place of a pointer.
  private static var depth: Int {
    get { Int(bitPattern: pthread_getspecific(key)) }
    set { pthread_setspecific(key, UnsafeRawPointer(bitPattern: newValue)) }
  }
}
