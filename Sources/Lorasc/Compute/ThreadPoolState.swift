import CSupport
import Glibc
import Synchronization

/// One parallel loop, on its caller's stack.
struct ThreadPoolJob {
  let body: lorasc_task_body
  let tasks: Int
}

/// What the caller and the workers of a `ThreadPool` share; it lives until the last of them goes.
///
/// `state` holds, in one word, how many workers are inside the current job (low 16 bits), whether
/// it is open for more, whether the pool stops, and the job's number. A worker joins by adding one
/// to an open state; the caller closes the job when no task is left to claim and waits for those
/// inside. So a worker that sleeps through a job is never waited for, and one that wakes late
/// finds it closed.
final class ThreadPoolState: @unchecked Sendable {
  // Safe: because `job` is written before the state is opened (releasing) and read after joining
  // (acquiring); everything else is atomic or under the mutex.

  private static let inside: UInt64 = 0xffff
  private static let open: UInt64 = 1 << 16
  private static let stopped: UInt64 = 1 << 17
  private static let number: UInt64 = 1 << 18

  private let state = Atomic<UInt64>(0)
  private let next = Atomic<Int>(0)
  private let sleepers = Atomic<Int>(0)
  private let callerSleeps = Atomic<Bool>(false)
  private var job: UnsafePointer<ThreadPoolJob>?
  private let spins: Int
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let work = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let done = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  /// - Parameter spins: turns of a waiting loop before a thread sleeps, about 20 ns each.
  init(spins: Int) {
    self.spins = spins
    mutex.initialize(to: pthread_mutex_t())
    work.initialize(to: pthread_cond_t())
    done.initialize(to: pthread_cond_t())
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(work, nil)
    pthread_cond_init(done, nil)
  }

  deinit {
    pthread_cond_destroy(done)
    pthread_cond_destroy(work)
    pthread_mutex_destroy(mutex)
    done.deallocate()
    work.deallocate()
    mutex.deallocate()
  }

  // MARK: The caller

  func perform(_ job: UnsafePointer<ThreadPoolJob>) {
    self.job = job
    next.store(0, ordering: .relaxed)
    let before = state.load(ordering: .relaxed)
    state.store(
      (before & ~ThreadPoolState.inside) &+ ThreadPoolState.number | ThreadPoolState.open,
      ordering: .sequentiallyConsistent)
    if sleepers.load(ordering: .sequentiallyConsistent) > 0 { wake(work) }
    takeTasks(job, lane: 0)
    state.bitwiseAnd(~ThreadPoolState.open, ordering: .sequentiallyConsistent)
    waitForWorkers()
    self.job = nil
  }

  private func waitForWorkers() {
    for _ in 0..<max(spins, 1) {
      if state.load(ordering: .acquiring) & ThreadPoolState.inside == 0 { return }
      lorasc_cpu_pause()
    }
    pthread_mutex_lock(mutex)
    callerSleeps.store(true, ordering: .sequentiallyConsistent)
    while state.load(ordering: .sequentiallyConsistent) & ThreadPoolState.inside != 0 {
      pthread_cond_wait(done, mutex)
    }
    callerSleeps.store(false, ordering: .sequentiallyConsistent)
    pthread_mutex_unlock(mutex)
  }

  func stop() {
    state.bitwiseOr(ThreadPoolState.stopped, ordering: .sequentiallyConsistent)
    if sleepers.load(ordering: .sequentiallyConsistent) > 0 { wake(work) }
  }

  /// The mutex makes sure that a thread between its last look and its wait isn't missed.
  private func wake(_ condition: UnsafeMutablePointer<pthread_cond_t>) {
    pthread_mutex_lock(mutex)
    pthread_cond_broadcast(condition)
    pthread_mutex_unlock(mutex)
  }

  // MARK: Workers

  func serve(lane: Int) {
    lorasc_onednn_enter()
    var last: UInt64 = 0
    while true {
      let seen = waitForJob(after: last)
      if seen & ThreadPoolState.stopped != 0 { return }
      let joined = state.compareExchange(
        expected: seen, desired: seen + 1, ordering: .sequentiallyConsistent)
      guard joined.exchanged else { continue }
      last = seen / ThreadPoolState.number
      if let job { takeTasks(job, lane: lane) }
      let left = state.wrappingSubtract(1, ordering: .sequentiallyConsistent).newValue
      if left & (ThreadPoolState.inside | ThreadPoolState.open) == 0,
        callerSleeps.load(ordering: .sequentiallyConsistent)
      {
        wake(done)
      }
    }
  }

  /// A state that is stopped, or open with another number than `last`.
  private func waitForJob(after last: UInt64) -> UInt64 {
    func isNews(_ seen: UInt64) -> Bool {
      seen & ThreadPoolState.stopped != 0
        || (seen & ThreadPoolState.open != 0 && seen / ThreadPoolState.number != last)
    }
    for _ in 0..<spins {
      let seen = state.load(ordering: .acquiring)
      if isNews(seen) { return seen }
      lorasc_cpu_pause()
    }
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    sleepers.wrappingAdd(1, ordering: .sequentiallyConsistent)
    defer { sleepers.wrappingSubtract(1, ordering: .sequentiallyConsistent) }
    while true {
      let seen = state.load(ordering: .sequentiallyConsistent)
      if isNews(seen) { return seen }
      pthread_cond_wait(work, mutex)
    }
  }

  private func takeTasks(_ job: UnsafePointer<ThreadPoolJob>, lane: Int) {
    while true {
      let task = next.wrappingAdd(1, ordering: .relaxed).oldValue
      guard task < job.pointee.tasks else { return }
      lorasc_task_body_call(job.pointee.body, task, lane)
    }
  }
}
