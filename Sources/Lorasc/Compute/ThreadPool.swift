import CSupport
import Glibc

/// A fixed set of threads for short parallel loops: the pool's own, which spin, then sleep, or those
/// of the process's OpenMP.
///
/// ```swift
/// let pool = try ThreadPool(threads: 2)
/// pool.run(chunks: 10) { chunk in ... }
/// ```
///
/// The calling thread takes part, so one thread means no workers at all. Chunks are claimed one
/// after the other; which thread gets which is not fixed, so a chunk must depend on its index
/// only. One caller at a time, and a body must not call `run` of the same pool.
///
/// Workers block all signals: the host's handlers run on the host's threads. In a child made by
/// `fork` there are no workers; `run` still does all chunks there, on the caller.
///
/// Nothing is allocated after init.
final class ThreadPool: @unchecked Sendable {
  // Safe: because all that changes after init is in `shared`, which synchronises itself.

  /// Whose threads work.
  enum Kind: String, Sendable {
    case own
    /// GNU's OpenMP, where the host has it: its threads spin between the host's parallel regions,
    /// and would keep a processor from the pool's own ones.
    case openmp

    /// - Throws: `.unsupported` where OpenMP isn't in the process.
    init(option: String) throws {
      self = Kind(rawValue: option) ?? .own
      guard self == .own || lorasc_openmp_is_available() else {
        throw LorascError(
          .unsupported,
          "thread_pool is openmp, but GNU's OpenMP library, libgomp, is not in this process",
          subject: "thread_pool")
      }
    }
  }

  let threads: Int
  private let kind: Kind
  private let shared: ThreadPoolState
  private var workers: [pthread_t] = []
  private let owner = getpid()

  static let maximumThreads = 1024
  private static let stackBytes = 1 << 20

  /// - Parameters:
  ///   - threads: 1 ... 1024, the caller included.
  ///   - kind: `.openmp` only where it is available
  /// - Throws: `.argument` for another number, `.limit` when the system refuses a thread.
  init(threads: Int, _ kind: Kind = .own) throws {
    guard (1...ThreadPool.maximumThreads).contains(threads) else {
      throw LorascError(
        .argument, "threads is \(threads); it may be 1 to \(ThreadPool.maximumThreads)",
        subject: "threads")
    }
    self.threads = threads
    self.kind = kind
    // With more threads than processors a spinning one keeps a working one from running.
    shared = ThreadPoolState(spins: threads <= ThreadPool.availableThreads ? 2000 : 0)
    guard kind == .own else { return }
    workers.reserveCapacity(threads - 1)
    for lane in 1..<max(threads, 1) {
      let (thread, code) = ThreadPool.start(lane, shared)
      guard let thread else {
        stop()
        throw LorascError(
          .limit, "thread \(lane + 1) of \(threads) could not be started", subject: "threads",
          errno: code)
      }
      workers.append(thread)
    }
  }

  deinit { stop() }

  private func stop() {
    shared.stop()
    guard getpid() == owner else { return }
    for worker in workers { pthread_join(worker, nil) }
    workers = []
  }

  private static func start(_ lane: Int, _ shared: ThreadPoolState) -> (pthread_t?, Int32) {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setstacksize(&attributes, stackBytes)
    // A thread inherits its creator's mask: block everything for the moment of creation.
    var all = sigset_t()
    var before = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_SETMASK, &all, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    let start = Unmanaged.passRetained(WorkerStart(lane: lane, shared: shared))
    var thread = pthread_t()
    let code = pthread_create(
      &thread, &attributes,
      { argument in
        guard let argument else { return nil }
        // Safe: because exactly one retained WorkerStart is passed to each thread.
        let start = Unmanaged<WorkerStart>.fromOpaque(argument).takeRetainedValue()
        start.shared.serve(lane: start.lane)
        return nil
      }, start.toOpaque())
    if code != 0 { start.release() }
    return (code == 0 ? thread : nil, code)
  }

  /// Calls body(0) ... body(chunks - 1), each once, and returns when all have returned.
  func run(chunks: Int, _ body: (_ chunk: Int) -> Void) {
    run(tasks: chunks) { task, _ in body(task) }
  }

  /// The same with the number of the thread, 0 ..< threads, that runs the task: for scratch
  /// memory of its own. Two tasks with one lane never run at the same time.
  func run(tasks: Int, _ body: (_ task: Int, _ lane: Int) -> Void) {
    // A child made by `fork` has none of OpenMP's threads, which would be waited for.
    guard tasks > 1, threads > 1, kind == .own || getpid() == owner else {
      for task in 0..<max(tasks, 0) { body(task, 0) }
      return
    }
    // Safe: because both ways return only when no worker uses body or job any more.
    let words = words(of: body)
    guard kind == .own else { return lorasc_openmp_run(words, tasks, UInt32(threads)) }
    let job = ThreadPoolJob(body: words, tasks: tasks)
    withUnsafePointer(to: job) { shared.perform($0) }
  }

  /// Processors that this process may run on.
  static var availableThreads: Int {
    let allowed = lorasc_available_processors()
    return max(1, allowed > 0 ? allowed : sysconf(Int32(_SC_NPROCESSORS_ONLN)))
  }
}

/// A closure as its two words; they hold while the closure does.
@_silgen_name("lorasc_task_body_of")
private func words(of body: (_ task: Int, _ lane: Int) -> Void) -> lorasc_task_body

private final class WorkerStart: Sendable {
  let lane: Int
  let shared: ThreadPoolState
  init(lane: Int, shared: ThreadPoolState) {
    self.lane = lane
    self.shared = shared
  }
}
