/// How the fast expert enters the slow one, and the slow one the backbone
/// (design: W_t from W_{t-1}, Δ_t = s B A and μ, option `slow_rate`).
public enum SlowRule: String, Sendable {
  /// W_t = W_{t-1} + μ Δ_t
  case interpolate
  /// S_t = (1 − μ) S_{t-1} + μ Δ_t; W_t = W_{t-1} + S_t
  case ema
  /// The same average of A and of B apart; W_t = W_{t-1} + s Bˢ Aˢ
  case emaFactors = "ema_factors"

  init(_ options: Options) throws {
    self = SlowRule(rawValue: try options.text("slow_rule")) ?? .interpolate
  }

  /// What the boundary after cascade t = `rates.count` adds to W: weights of the terms of
  /// cascades 1 … t, in that order, zero weights left out. `rates` holds μ_1 … μ_t.
  ///
  /// For `ema` the weight of Δ_k is μ_k Π_{j=k+1…t} (1 − μ_j); over all boundaries they add up
  /// to 1 − (1 − μ)^{T−k+1} where μ is constant. The terms of `emaFactors` are the averaged
  /// factors themselves.
  func mergeWeights(rates: [Double]) -> [(cascade: Int, weight: Double)] {
    guard let last = rates.last else { return [] }
    switch self {
    case .interpolate:
      return [(rates.count, last)]
    case .emaFactors:
      return [(rates.count, 1)]
    case .ema:
      return rates.indices.compactMap { k in
        let weight = rates[(k + 1)...].reduce(rates[k]) { $0 * (1 - $1) }
        return weight == 0 ? nil : (k + 1, weight)
      }
    }
  }
}

extension SlowRule {
  /// The weights of each cascade's term in all that the boundaries with these rates add.
  func totalWeights(rates: [Double]) -> [Double] {
    var totals = [Double](repeating: 0, count: rates.count)
    for number in rates.indices {
      for (cascade, weight) in mergeWeights(rates: Array(rates[...number])) {
        totals[cascade - 1] += weight
      }
    }
    return totals
  }
}

/// μ of each cascade: `slow_rates`, else `slow_rate`; `final_slow_rate` for a run's last one.
struct SlowRates: Sendable {
  private let rates: [Double]
  private let final: Double?

  init(_ options: Options) throws {
    let listed = try options.numbers("slow_rates")
    let single = try options.number("slow_rate")
    let last = try options.number("final_slow_rate")
    rates = listed.isEmpty ? [single] : listed
    final = last < 0 ? nil : last
    for (key, values) in [("slow_rate", [single]), ("slow_rates", listed)] {
      for value in values where !(value > 0 && value <= 1) {
        throw Options.bad(key, value.shortText, "is not in (0, 1]")
      }
    }
    if final == 0 { throw Options.bad("final_slow_rate", "0", "is not in (0, 1]") }
  }

  /// - Parameter total: cascades of the run, nil while unknown.
  func rate(cascade: Int, of total: Int?) -> Double {
    if let final, let total, cascade >= total { return final }
    return rates[min(max(cascade, 1), rates.count) - 1]
  }
}
