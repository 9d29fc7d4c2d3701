import Glibc
import Synchronization
import Testing

@testable import Lorasc

@Suite struct ThreadPoolTests {
  private static func kind(_ name: String) throws -> ThreadPool.Kind {
    if name == "openmp" { try #require(dlopen("libgomp.so.1", RTLD_NOW | RTLD_GLOBAL) != nil) }
    return try ThreadPool.Kind(option: name)
  }

  @Test(arguments: [1, 2, 3, 4, 9], ["own", "openmp"])
  func everyChunkOnce(threads: Int, kind: String) throws {
    let pool = try ThreadPool(threads: threads, Self.kind(kind))
    for round in 0..<3000 {
      let chunks = round % 23
      let done = Guarded([UInt16](repeating: 0, count: chunks))
      let p = done.p
      pool.run(chunks: chunks) { p[$0] += 1 }
      #expect(done.values.allSatisfy { $0 == 1 } && done.isIntact)
    }
  }

  /// Runs with pauses between, so that the workers fall asleep and are woken, and pools that come
  /// and go.
  @Test(arguments: [2, 4])
  func sleepingWorkersAndShortLives(threads: Int) throws {
    for round in 0..<60 {
      let pool = try ThreadPool(threads: threads)
      let sum = Atomic<Int>(0)
      for pause in [0, 1, 100, 300] {
        usleep(UInt32(pause * (round % 3)))
        pool.run(chunks: 40) { sum.wrappingAdd($0, ordering: .relaxed) }
      }
      #expect(sum.load(ordering: .relaxed) == 4 * 780)
    }
  }

  /// A chunk that lasts makes the caller wait asleep for the worker that has it.
  @Test func callerWaitsForTheLastChunk() throws {
    let pool = try ThreadPool(threads: 2)
    for _ in 0..<5 {
      let sum = Atomic<Int>(0)
      pool.run(tasks: 2) { task, lane in
        if lane == 1 { usleep(30_000) }
        sum.wrappingAdd(task + 1, ordering: .relaxed)
      }
      #expect(sum.load(ordering: .relaxed) == 3)
    }
  }

  @Test(arguments: ["own", "openmp"])
  func lanesAreExclusive(kind: String) throws {
    let threads = 4
    let pool = try ThreadPool(threads: threads, Self.kind(kind))
    let busy = (0..<threads).map { _ in Flag() }
    let clashes = Atomic<Int>(0)
    for _ in 0..<200 {
      pool.run(tasks: 50) { task, lane in
        let old = busy[lane].value.exchange(1, ordering: .sequentiallyConsistent)
        if old != 0 { clashes.wrappingAdd(1, ordering: .relaxed) }
        if task % 9 == 0 { sched_yield() }
        busy[lane].value.store(0, ordering: .sequentiallyConsistent)
      }
    }
    #expect(clashes.load(ordering: .relaxed) == 0)
  }

  private final class Flag: Sendable { let value = Atomic<Int>(0) }

  /// Both threads must be inside at the same time, else the first waits in vain.
  @Test func workersReallyWork() throws {
    let pool = try ThreadPool(threads: 2)
    let met = (0..<200).contains { _ in
      let inside = Atomic<Int>(0)
      let both = Atomic<Bool>(false)
      pool.run(chunks: 2) { _ in
        inside.wrappingAdd(1, ordering: .sequentiallyConsistent)
        for _ in 0..<10_000 where inside.load(ordering: .sequentiallyConsistent) < 2 {
          sched_yield()
        }
        if inside.load(ordering: .sequentiallyConsistent) == 2 {
          both.store(true, ordering: .relaxed)
        }
      }
      return both.load(ordering: .relaxed)
    }
    #expect(met)
  }

  @Test func signalsAreForTheHostsThreads() throws {
    // Swift's own threads block signals: open one first, it must still be open afterwards.
    var one = sigset_t()
    var before = sigset_t()
    var after = sigset_t()
    sigemptyset(&one)
    sigaddset(&one, SIGUSR1)
    pthread_sigmask(SIG_UNBLOCK, &one, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    let pool = try ThreadPool(threads: 3)
    pthread_sigmask(SIG_SETMASK, nil, &after)
    #expect(sigismember(&after, SIGUSR1) == 0)
    let open = Atomic<Int>(0)
    for _ in 0..<200 {
      pool.run(tasks: 30) { _, lane in
        var mask = sigset_t()
        pthread_sigmask(SIG_SETMASK, nil, &mask)
        let blocked = sigismember(&mask, SIGUSR1) == 1 && sigismember(&mask, SIGINT) == 1
        if lane > 0 && !blocked { open.wrappingAdd(1, ordering: .relaxed) }
      }
    }
    #expect(open.load(ordering: .relaxed) == 0)
  }

  @Test(arguments: [0, -1, ThreadPool.maximumThreads + 1, Int.max, Int.min])
  func impossibleNumbers(threads: Int) {
    let error = #expect(throws: LorascError.self) { try ThreadPool(threads: threads) }
    #expect(error?.status == .argument)
  }

  @Test func availableThreadsIsWhatTheSystemSays() {
    #expect(ThreadPool.availableThreads >= 1)
    #expect(ThreadPool.availableThreads <= sysconf(Int32(_SC_NPROCESSORS_CONF)))
  }
}
