import COpenBLAS
import CSupport
import Glibc
import Synchronization
import Testing

@testable import Lorasc

@Suite struct ComputeTests {
  @Suite struct Gemm {
    struct Shape: Sendable, CustomStringConvertible {
      let m: Int
      let n: Int
      let k: Int
      var description: String { "\(m)x\(n)x\(k)" }
    }

    static let shapes = [
      (1, 1, 1), (3, 5, 7), (17, 1, 33), (1, 40, 19), (64, 8, 384), (8, 384, 100), (33, 65, 8),
      (200, 300, 64), (1, 1536, 576), (1, 300, 4000), (384, 16, 257), (5, 1536, 31), (700, 96, 40),
      (300, 513, 96),
    ].map { Shape(m: $0.0, n: $0.1, k: $0.2) }

    /// Rows of `cols`, `ld` apart; the gaps hold NaN, so that reading one shows.
    private static func matrix(_ rows: Int, _ cols: Int, _ ld: Int, _ seed: UInt64) -> [Float] {
      var random = TestRandom(seed)
      return (0..<rows * ld).map { $0 % ld < cols ? random.float(in: -1...1) : .nan }
    }

    @Test(arguments: shapes, MatrixProducts.allCases.filter(\.isAvailable))
    func matchesNaiveAndTheThreadsGiveTheSameBits(shape: Shape, products: MatrixProducts) throws {
      let computes = try [1, 2, 4].map { try Compute(threads: $0, products: products) }
      let (m, n, k) = (shape.m, shape.n, shape.k)
      for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
        let (lda, ldb, ldc) = ((ta ? m : k) + 3, (tb ? k : n) + 1, n + 2)
        let a = Self.matrix(ta ? k : m, ta ? m : k, lda, 1)
        let b = Self.matrix(tb ? n : k, tb ? k : n, ldb, 2)
        let start = Self.matrix(m, n, ldc, 3)
        var product = [Double](repeating: 0, count: m * n)
        var size = product
        for i in 0..<m {
          for p in 0..<k {
            let x = Double(ta ? a[p * lda + i] : a[i * lda + p])
            for j in 0..<n {
              let term = x * Double(tb ? b[j * ldb + p] : b[p * ldb + j])
              product[i * n + j] += term
              size[i * n + j] += abs(term)
            }
          }
        }
        for (alpha, beta) in [(Float(1), Float(0)), (1, 1), (-0.5, 0.25), (0, 2)] {
          var first: [UInt32]?
          for compute in computes {
            // beta = 0 must not read C: all of it is NaN then.
            let c = Guarded(beta == 0 ? start.map { _ in .nan } : start)
            BLASThreads.withSingleThread {
              compute.gemm(
                m, n, k, a: a, lda: lda, transposeA: ta, b: b, ldb: ldb, transposeB: tb, c: c.p,
                ldc: ldc, alpha: alpha, beta: beta)
            }
            #expect(c.isIntact)
            var worst = 0.0
            for i in 0..<m {
              for j in 0..<ldc {
                let value = c.p[i * ldc + j]
                guard j < n else {
                  #expect(value.isNaN)
                  continue
                }
                let old = beta == 0 ? 0 : Double(beta) * Double(start[i * ldc + j])
                let error = abs(Double(value) - (Double(alpha) * product[i * n + j] + old))
                // Each product and partial sum is rounded by up to 2^-24 of itself; over k of them
                // the errors add up like sqrt(k) (Higham and Mary 2019).
                let share = error / (abs(Double(alpha)) * size[i * n + j] + abs(old))
                worst = share.isNaN ? .infinity : max(worst, share)
              }
            }
            #expect(
              worst < (4 + Double(k).squareRoot() / 2) * 0x1p-24,
              "\(shape) \(ta) \(tb) \(alpha) \(beta)")
            let bits = bitPatterns(c.values)
            #expect(bits == first ?? bits, "threads \(compute.threads)")
            first = first ?? bits
          }
        }
      }
    }

    /// Sums over many rows, cut or not: of random factors, alpha and beta among them.
    @Test(
      arguments: [
        (16, 100, 4096), (8, 33, 300), (64, 40, 1000), (65, 40, 1000), (8, 40_000, 600),
        (16, 24, 1), (5, 7, 257),
      ], MatrixProducts.allCases.filter(\.isAvailable))
    func summingMatchesNaiveAndTheThreadsGiveTheSameBits(
      shape: (m: Int, n: Int, k: Int), products: MatrixProducts
    ) throws {
      let (m, n, k) = shape
      let (lda, ldb) = (m, n + 1)
      let a = Guarded(Self.matrix(k, m, lda, 1))
      let b = Guarded(Self.matrix(k, n, ldb, 2))
      let start = Self.matrix(m, n, n, 3)
      let split = SumSplit(m, n, k)
      #expect((split.parts - 1) * split.size < k && split.parts * split.size >= k)
      for (alpha, beta) in [(Float(1), Float(0)), (2, 1)] {
        var first: [UInt32]?
        for threads in [1, 2, 4] {
          let compute = try Compute(threads: threads, products: products)
          let c = Guarded(beta == 0 ? start.map { _ in .nan } : start)
          let parts = Guarded([Float](repeating: .nan, count: SumSplit.elements(m * n, k)))
          BLASThreads.withSingleThread {
            compute.sum(
              k, m, n, a.p, Values(b.p), ldx: ldb, c.p, alpha: alpha, beta: beta, parts: parts.p)
          }
          #expect(c.isIntact && parts.isIntact)
          let bits = bitPatterns(c.values)
          #expect(bits == first ?? bits, "threads \(threads)")
          first = first ?? bits
          guard threads == 1 else { continue }
          var worst = 0.0
          for i in 0..<m {
            for j in stride(from: 0, to: n, by: max(1, n / 50)) {
              let old = beta == 0 ? 0 : Double(start[i * n + j])
              var (sum, size) = (old, abs(old))
              for p in 0..<k {
                let term = Double(alpha) * Double(a.p[p * lda + i]) * Double(b.p[p * ldb + j])
                sum += term
                size += abs(term)
              }
              let share = abs(Double(c.p[i * n + j]) - sum) / size
              worst = share.isNaN ? .infinity : max(worst, share)
            }
          }
          #expect(worst < (4 + Double(k).squareRoot() / 2) * 0x1p-24, "\(shape) \(alpha) \(beta)")
        }
      }
    }

    @Test func emptySizes() throws {
      let compute = try Compute(threads: 2)
      let one: [Float] = [1]
      let c = Guarded([Float](repeating: 4, count: 6))
      compute.gemm(0, 3, 2, a: one, lda: 2, b: one, ldb: 3, c: c.p, ldc: 3)
      compute.gemm(2, 0, 2, a: one, lda: 2, b: one, ldb: 1, c: c.p, ldc: 3)
      #expect(c.values.allSatisfy { $0 == 4 })
      // k = 0: C = beta C.
      compute.gemm(2, 3, 0, a: one, lda: 1, b: one, ldb: 3, c: c.p, ldc: 3, beta: 0.5)
      #expect(c.values.allSatisfy { $0 == 2 })
      let unread = Guarded(count: 6, of: .nan)
      compute.gemm(2, 3, 0, a: one, lda: 1, b: one, ldb: 3, c: unread.p, ldc: 3)
      #expect(unread.values.allSatisfy { $0 == 0 } && c.isIntact)
    }

    @Test func splitsCoverTheProductByItsShape() {
      for m in [1, 31, 128, 384, 1000, 4096] {
        for n in [1, 8, 384, 1536] {
          for k in [0, 8, 384, 4096] {
            let split = GemmSplit(m, n, k)
            let extent = split.overRows ? m : n
            #expect((split.chunks - 1) * split.size < extent)
            #expect(split.chunks * split.size >= extent)
            #expect(split.chunks <= GemmSplit.mostChunks)
          }
        }
      }
      #expect(GemmSplit(2048, 384, 384).chunks >= 4)
      #expect(GemmSplit(8, 8, 8).chunks == 1)
    }
  }

  @Suite struct Rows {
    @Test(arguments: [1, 2, 3])
    func everyRowOnce(threads: Int) throws {
      let compute = try Compute(threads: threads)
      for rows in [0, 1, 2, 63, 64, 65, 1000, 5001] {
        for cost in [0, 1, 100, 10_000, 1 << 20, Int.max] {
          let counts = Guarded(count: rows, of: 0)
          let p = UnsafeMutablePointer<Float>(counts.p)
          compute.forRows(rows, cost: cost) { start, end in
            for r in start..<end { p[r] += 1 }
          }
          #expect(counts.values.allSatisfy { $0 == 1 } && counts.isIntact)
        }
      }
    }

    @Test func rangesDoNotDependOnTheThreads() throws {
      func ranges(_ threads: Int) throws -> Set<[Int]> {
        let found = Mutex<Set<[Int]>>([])
        try Compute(threads: threads).forRows(1000, cost: 5000) { start, end in
          found.withLock { _ = $0.insert([start, end]) }
        }
        return found.withLock { $0 }
      }
      let one = try ranges(1)
      #expect(one.count > 4)
      for threads in [2, 4] {
        let many = try ranges(threads)
        #expect(many == one)
      }
    }
  }

  @Suite struct Levels {
    @Test func tablesCarryTheirNames() throws {
      for level in levels {
        let name = String(cString: try level.table().name)
        #expect(name == level.rawValue)
        let named = try KernelLevel(option: level.rawValue)
        #expect(named == level)
      }
      let auto = try KernelLevel(option: "auto")
      #expect(auto == .best)
      #expect(levels.contains(.baseline) && levels.contains(.best))
      let name = String(cString: try Compute(threads: 1).kernels.name)
      #expect(name == KernelLevel.best.rawValue)
    }

    @Test func whatIsMissingIsRefused() {
      for level in KernelLevel.allCases where !levels.contains(level) {
        let error = #expect(throws: LorascError.self) { try level.table() }
        #expect(error?.status == .unsupported)
        #expect(throws: LorascError.self) { try KernelLevel(option: level.rawValue) }
        #expect(throws: LorascError.self) { try Compute(threads: 1, level: level) }
      }
      let error = #expect(throws: LorascError.self) { try KernelLevel(option: "sse9") }
      #expect(error?.status == .option)
    }
  }

  /// In processes of their own: other suites of this one change the count meanwhile.
  @Suite struct BLAS {
    @Test func theHostsCountComesBack() async {
      await #expect(processExitsWith: .success) {
        openblas_set_num_threads(2)
        BLASThreads.withSingleThread {
          #expect(openblas_get_num_threads() == 1)
          BLASThreads.withSingleThread { #expect(openblas_get_num_threads() == 1) }
          #expect(openblas_get_num_threads() == 1)
          BLASThreads.outside {
            #expect(openblas_get_num_threads() == 2)
            BLASThreads.outside { #expect(openblas_get_num_threads() == 2) }
            BLASThreads.withSingleThread { #expect(openblas_get_num_threads() == 1) }
            #expect(openblas_get_num_threads() == 2)
          }
          #expect(openblas_get_num_threads() == 1)
        }
        #expect(openblas_get_num_threads() == 2)
        BLASThreads.leave()
        #expect(openblas_get_num_threads() == 2)
        BLASThreads.outside { #expect(openblas_get_num_threads() == 2) }
      }
    }

    @Test func aThrowRestoresToo() async {
      await #expect(processExitsWith: .success) {
        openblas_set_num_threads(2)
        #expect(throws: LorascError.self) {
          try BLASThreads.withSingleThread { throw LorascError(.state, "") }
        }
        #expect(openblas_get_num_threads() == 2)
      }
    }

    @Test func severalThreadsAtOnce() async {
      await #expect(processExitsWith: .success) {
        openblas_set_num_threads(2)
        let wrong = Atomic<Int>(0)
        try ThreadPool(threads: 4).run(chunks: 400) { chunk in
          BLASThreads.withSingleThread {
            if openblas_get_num_threads() != 1 { wrong.wrappingAdd(1, ordering: .relaxed) }
            if chunk % 7 == 0 { sched_yield() }
            if openblas_get_num_threads() != 1 { wrong.wrappingAdd(1, ordering: .relaxed) }
          }
        }
        #expect(wrong.load(ordering: .relaxed) == 0)
        #expect(openblas_get_num_threads() == 2)
      }
    }
  }
}
