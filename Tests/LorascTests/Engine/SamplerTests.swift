import Foundation
import Testing

@testable import Lorasc

/// What is drawn, against the definitions: softmax, top k, top p, repetition penalty.
@Suite struct SamplerTests {
  private static func settings(_ change: (inout GenerationSettings) -> Void) -> GenerationSettings {
    var settings = GenerationSettings()
    settings.temperature = 1
    change(&settings)
    return settings
  }

  /// The tokens that `draws` samplers of seeds 0, 1, … choose first.
  private func counts(
    _ logits: [Float], _ draws: Int, prompt: [Int32] = [], _ settings: GenerationSettings
  ) throws -> [Int] {
    let kernels = try KernelLevel.best.table()
    var counts = [Int](repeating: 0, count: logits.count)
    for seed in 0..<draws {
      var own = settings
      own.seed = UInt64(seed)
      var sampler = prompt.withUnsafeBufferPointer { Sampler(own, prompt: $0, kernels) }
      var copy = logits
      let token = copy.withUnsafeMutableBufferPointer { sampler.choose($0) }
      counts[Int(token)] += 1
    }
    return counts
  }

  private func softmax(_ logits: [Float], temperature: Double = 1) -> [Double] {
    let largest = Double(logits.max() ?? 0)
    let weights = logits.map { exp((Double($0) - largest) / temperature) }
    let total = weights.reduce(0, +)
    return weights.map { $0 / total }
  }

  /// Chi squared over the tokens with a probability, and how many those are.
  private func chiSquared(_ counts: [Int], _ probabilities: [Double]) -> (value: Double, cells: Int)
  {
    let draws = Double(counts.reduce(0, +))
    var sum = 0.0
    for (count, probability) in zip(counts, probabilities) where probability > 0 {
      let expected = draws * probability
      sum += (Double(count) - expected) * (Double(count) - expected) / expected
    }
    return (sum, probabilities.filter { $0 > 0 }.count)
  }

  private let logits: [Float] = [0.3, -1.2, 2.0, 1.1, 0.3, -0.4, 1.7, -2.0, 0.9, 0]

  /// The 99.9 % point of chi squared with 9 degrees of freedom is 27.9.
  @Test(arguments: [0.5, 1, 2.5]) func drawsFollowTheSoftmax(temperature: Double) throws {
    let drawn = try counts(logits, 20_000, Self.settings { $0.temperature = temperature })
    let (value, cells) = chiSquared(drawn, softmax(logits, temperature: temperature))
    #expect(cells == 10 && value < 27.9)
  }

  /// Each draw of one generation has its own numbers.
  @Test func laterDrawsAreIndependent() throws {
    let kernels = try KernelLevel.best.table()
    var sampler = [Int32]().withUnsafeBufferPointer {
      Sampler(Self.settings { _ in }, prompt: $0, kernels)
    }
    var pairs = [Int](repeating: 0, count: 16)
    var before = 0
    for draw in 0..<32_001 {
      var copy: [Float] = [0, 0, 0, 0]
      let token = Int(copy.withUnsafeMutableBufferPointer { sampler.choose($0) })
      if draw > 0 { pairs[4 * before + token] += 1 }
      before = token
    }
    // 15 degrees of freedom: 99.9 % are below 37.7.
    #expect(chiSquared(pairs, [Double](repeating: 1 / 16, count: 16)).value < 37.7)
  }

  /// As transformers' TopKLogitsWarper: ties with the k-th stay.
  @Test func topKKeepsTies() throws {
    let drawn = try counts(logits, 20_000, Self.settings { $0.topK = 5 })
    let kept = [0, 2, 3, 4, 6, 8]
    #expect(drawn.indices.filter { drawn[$0] > 0 } == kept)
    var masked = logits
    for index in masked.indices where !kept.contains(index) { masked[index] = -.infinity }
    #expect(chiSquared(drawn, softmax(masked)).value < 20.5)
    #expect(try counts(logits, 100, Self.settings { $0.topK = 1 })[2] == 100)
  }

  /// The k-th largest is found among many by blocks.
  @Test(arguments: [1, 2, 50, 63, 64, 500, 2999, 3000]) func topKAmongMany(k: Int) throws {
    var random = TestRandom(seed: 5)
    let many = (0..<3000).map { _ in 8 * random.uniform() }
    let least = many.sorted(by: >)[k - 1]
    let drawn = try counts(many, 400, Self.settings { $0.topK = k })
    #expect(drawn.indices.allSatisfy { drawn[$0] == 0 || many[$0] >= least })
    #expect(k < 50 || drawn.filter { $0 > 0 }.count > 10)
  }

  /// The likeliest tokens until their sum reaches p, the one that reaches it included.
  @Test(arguments: [0.05, 0.37, 0.6, 0.95, 0.999]) func topPKeepsTheNucleus(p: Double) throws {
    let probabilities = softmax(logits)
    var kept = Set<Int>()
    var sum = 0.0
    for index in logits.indices.sorted(by: { probabilities[$0] > probabilities[$1] })
    where sum < p {
      kept.insert(index)
      sum += probabilities[index]
    }
    let drawn = try counts(logits, 20_000, Self.settings { $0.topP = p })
    #expect(drawn.indices.allSatisfy { (drawn[$0] > 0) == kept.contains($0) })
    let shares = probabilities.indices.map { kept.contains($0) ? probabilities[$0] / sum : 0 }
    #expect(chiSquared(drawn, shares).value < 27.9)
  }

  /// Top p counts the probabilities that top k leaves.
  @Test func topPComesAfterTopK() throws {
    // Of 4 equal ones top k leaves 2 by the others' being lower; 0.6 of those needs both.
    let drawn = try counts([2, 2, 1, 1], 200, Self.settings { ($0.topK, $0.topP) = (2, 0.6) })
    #expect(drawn[0] > 0 && drawn[1] > 0 && drawn[2] == 0 && drawn[3] == 0)
    let first = try counts([2, 2, 1, 1], 200, Self.settings { ($0.topK, $0.topP) = (2, 0.5) })
    #expect(first == [200, 0, 0, 0])
  }

  @Test func equalOnesInAnySmallNucleus() throws {
    let drawn = try counts(
      [Float](repeating: 7, count: 1000), 20, Self.settings { $0.topP = 1e-12 })
    #expect(drawn[0] == 20)
  }

  @Test(arguments: [1e-300, 1e-30, 1e-9, 1e-3]) func coldIsGreedy(temperature: Double) throws {
    let warm: [Float] = [3e30, -3e30, 1, 3.1e30]
    let drawn = try counts(warm, 50, Self.settings { $0.temperature = temperature })
    #expect(drawn[3] == 50)
  }

  @Test func hotIsUniform() throws {
    let drawn = try counts(logits, 20_000, Self.settings { $0.temperature = 1e30 })
    #expect(chiSquared(drawn, [Double](repeating: 0.1, count: 10)).value < 27.9)
  }

  /// Whatever is allowed draws something that may be drawn.
  @Test(arguments: [1e-307, 1e-40, 1, 1e40, 1e307], [1e-307, 1e-40, 1, 1e40, 1e307])
  func extremesStayDefined(temperature: Double, penalty: Double) throws {
    let many: [Float] = [3e38, -3e38, 0, 1, -1, 20, 19.5, -20]
    for (topK, topP) in [(0, 1.0), (3, 1.0), (0, 0.5), (3, 0.5), (1, 1e-300)] {
      let extreme = Self.settings {
        ($0.temperature, $0.repetitionPenalty) = (temperature, penalty)
        ($0.topK, $0.topP) = (topK, topP)
      }
      let drawn = try counts(many, 200, prompt: [0, 1, 2, 3, 4], extreme)
      #expect(drawn.reduce(0, +) == 200)
      if topK == 1 { #expect(drawn.filter { $0 > 0 }.count == 1) }
      if topK == 3, penalty == 1 { #expect(drawn[1] + drawn[2] + drawn[7] == 0) }
    }
  }

  /// Positive logits are divided, negative ones multiplied, each token once.
  @Test func repetitionPenalty() throws {
    let penalized = Self.settings { ($0.repetitionPenalty, $0.temperature) = (4, 0) }
    #expect(try counts([2, 1, -1], 1, prompt: [0, 0, 0], penalized) == [0, 1, 0])
    #expect(try counts([2, 0.4, -1], 1, prompt: [0], penalized) == [1, 0, 0])
    #expect(try counts([-1, -3, -3], 1, prompt: [0], penalized) == [0, 1, 0])
    let kernels = try KernelLevel.best.table()
    var sampler = [Int32]().withUnsafeBufferPointer { Sampler(penalized, prompt: $0, kernels) }
    // What was chosen counts too.
    let chosen = (0..<3).map { _ in
      var copy: [Float] = [4, 3, 2]
      return copy.withUnsafeMutableBufferPointer { sampler.choose($0) }
    }
    #expect(chosen == [0, 1, 2])
  }

  @Test func theFirstOfTheLargest() throws {
    let greedy = Self.settings { $0.temperature = 0 }
    #expect(try counts([1, 5, 5, 0], 1, greedy) == [0, 1, 0, 0])
    #expect(try counts([-5, -5], 1, greedy) == [1, 0])
  }
}
