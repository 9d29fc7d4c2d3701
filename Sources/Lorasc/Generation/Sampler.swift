import CSupport

/// Chooses each next token by its logits as transformers does, in this order: repetition penalty,
/// temperature, top k, top p, a draw.
struct Sampler {
  private let settings: GenerationSettings
  private let kernels: lorasc_kernels
  private var seen: Set<Int32>
  private var chosen = 0

  init(
    _ settings: GenerationSettings, prompt: UnsafeBufferPointer<Int32>, _ kernels: lorasc_kernels
  ) {
    self.settings = settings
    seen = settings.repetitionPenalty == 1 ? [] : Set(prompt)
    self.kernels = kernels
  }

  /// - Parameter logits: finite; used up
  mutating func choose(_ logits: UnsafeMutableBufferPointer<Float>) -> Int32 {
    penalize(logits)
    let token = Int32(settings.temperature == 0 ? likeliest(logits) : draw(logits))
    if settings.repetitionPenalty != 1 { seen.insert(token) }
    chosen += 1
    return token
  }

  private func penalize(_ logits: UnsafeMutableBufferPointer<Float>) {
    let penalty = Self.factor(settings.repetitionPenalty)
    let limit = Float.greatestFiniteMagnitude
    for token in seen {
      let logit = logits[Int(token)]
      logits[Int(token)] = max(-limit, min(limit, logit < 0 ? logit * penalty : logit / penalty))
    }
  }

  /// A positive number as a float that is neither 0 nor infinite.
  private static func factor(_ value: Double) -> Float {
    Float(
      max(Double(Float.leastNormalMagnitude), min(Double(Float.greatestFiniteMagnitude), value)))
  }

  /// The first of the largest.
  private func likeliest(_ logits: UnsafeMutableBufferPointer<Float>) -> Int {
    logits.indices.reduce(0) { logits[$1] > logits[$0] ? $1 : $0 }
  }

  // MARK: Drawing

  private func draw(_ logits: UnsafeMutableBufferPointer<Float>) -> Int {
    guard let start = logits.baseAddress else { return 0 }
    if settings.topK > 0, settings.topK < logits.count {
      let least = Self.largest(settings.topK, of: logits)
      for index in logits.indices where logits[index] < least { logits[index] = -.infinity }
    }
    // The largest becomes 0 first, so that no temperature, however low, makes infinity of it.
    let largest = logits[likeliest(logits)]
    for index in logits.indices { logits[index] -= largest }
    let factor = Self.factor(1 / settings.temperature)
    kernels.softmax_forward(start, 1, logits.count, logits.count, factor, nil, nil)
    guard settings.topP < 1 else { return draw(logits, among: logits.indices) }
    return draw(logits, among: nucleus(logits))
  }

  /// The k-th largest value, k in 1 … count.
  private static func largest(_ k: Int, of values: UnsafeMutableBufferPointer<Float>) -> Float {
    // Where k blocks reach a value, so do k values: few of them are left to be sorted.
    let size = 64
    let tops = stride(from: 0, to: values.count, by: size).map { first in
      values[first..<min(values.count, first + size)].reduce(-.infinity) { max($0, $1) }
    }.sorted(by: >)
    let bound = k <= tops.count ? tops[k - 1] : -.infinity
    return values.filter { $0 >= bound }.sorted(by: >)[k - 1]
  }

  /// The likeliest tokens, likeliest first, until their sum reaches top p.
  private func nucleus(_ probabilities: UnsafeMutableBufferPointer<Float>) -> ArraySlice<Int> {
    // Tokens below (1 − p) / n have less than 1 − p together: none of them is needed. Half of it
    // leaves room for rounding.
    let least = Float(0.5 * (1 - settings.topP) / Double(probabilities.count))
    var order = probabilities.indices.filter { probabilities[$0] >= least }
    order.sort { (-probabilities[$0], $0) < (-probabilities[$1], $1) }
    var (kept, sum) = (0, 0.0)
    while kept < order.count, sum < settings.topP {
      sum += Double(probabilities[order[kept]])
      kept += 1
    }
    return order[..<kept]
  }

  /// One of these, with a probability that is its share of their sum.
  private func draw(
    _ probabilities: UnsafeMutableBufferPointer<Float>, among order: some Collection<Int>
  ) -> Int {
    let total = order.reduce(0.0) { $0 + Double(probabilities[$1]) }
    let target = uniform() * total
    var sum = 0.0
    var last = 0
    for index in order where probabilities[index] > 0 {
      last = index
      sum += Double(probabilities[index])
      if sum > target { break }
    }
    return last
  }

  /// In [0, 1), of this token's own stream.
  private func uniform() -> Double {
    let words = RandomStream(
      seed: settings.seed, purpose: .sampling, cascade: 0, step: chosen, name: ""
    ).words(block: 0)
    return Double((UInt64(words[1]) << 32 | UInt64(words[0])) >> 11) * 0x1p-53
  }
}
