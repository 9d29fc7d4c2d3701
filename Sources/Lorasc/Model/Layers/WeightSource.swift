/// Where a layer's weight comes from, (rows, columns) in its module's layout.
enum WeightSource {
  case float32(UnsafePointer<Float>)
  case stored(StoredMatrix)
  case composed(ComposedMatrix)
  /// No weight: an expert's part alone.
  case zero

  init(_ matrix: StoredMatrix) {
    self = matrix.float32.map { .float32($0) } ?? .stored(matrix)
  }

  /// Of values that lie in memory: the same memory, the same identity.
  var identity: UnsafeRawPointer? {
    switch self {
    case .float32(let values): UnsafeRawPointer(values)
    case .stored(let matrix): UnsafeRawPointer(Unmanaged.passUnretained(matrix).toOpaque())
    case .composed, .zero: nil
    }
  }

  /// Writes some rows as float32.
  func copy(rows: Range<Int>, columns: Int, to out: UnsafeMutablePointer<Float>) {
    switch self {
    case .float32(let values):
      out.update(from: values + rows.lowerBound * columns, count: rows.count * columns)
    case .stored(let matrix):
      matrix.copy(rows.lowerBound * columns..<rows.upperBound * columns, to: out)
    case .composed(let matrix): matrix.copy(rows, to: out)
    case .zero: out.update(repeating: 0, count: rows.count * columns)
    }
  }

  /// - Parameter out: `count` floats, all there are
  func copy(_ count: Int, to out: UnsafeMutablePointer<Float>) {
    switch self {
    case .float32(let values): out.update(from: values, count: count)
    case .stored(let matrix): matrix.copy(to: out)
    case .composed(let matrix): matrix.copy(0..<matrix.rows, to: out)
    case .zero: out.update(repeating: 0, count: count)
    }
  }

  /// The values as float32, in place or in memory of their own.
  /// - Parameter count: how many there are
  func withFloats<Result>(_ count: Int, _ body: (UnsafePointer<Float>) throws -> Result) throws
    -> Result
  {
    if case .float32(let values) = self { return try body(values) }
    let floats = try FloatBuffer(count: count, what: "expanded weights")
    copy(count, to: floats.pointer)
    return try withExtendedLifetime(floats) { try body(floats.pointer) }
  }
}

/// One addend of a weight: weight · B A, with A (r, in) and B (out, r).
struct WeightedFactors {
  let a: UnsafePointer<Float>
  let b: UnsafePointer<Float>
  let rank: Int
  let weight: Float
  /// Keeps the memory of a and b.
  let owner: AnyObject?

  func scaled(by factor: Double) -> WeightedFactors {
    WeightedFactors(
      a: a, b: b, rank: rank, weight: Float(factor * Double(weight)), owner: owner)
  }
}

/// What lies on some rows of a weight, made again whenever they are asked for.
protocol RowNoise {
  /// out = clean + ε; `clean` and `out`, which may be the same, point to the first of the rows.
  func add(
    _ rows: Range<Int>, to clean: UnsafePointer<Float>, into out: UnsafeMutablePointer<Float>)
}

/// A weight that is never whole in memory: W0 as the model holds it, low-rank terms, noise.
///
/// W = W0 + Σ weight · B A + ε, the sums in that order, made by ranges of rows where it is used.
/// So a quantised backbone stays quantised through all cascades. The terms' memory must not
/// change while a plan uses the matrix.
final class ComposedMatrix {
  /// In the layout of W0: (out, in) of a linear module, (in, out) of an embedding.
  let rows: Int
  let columns: Int
  /// nil: zeros
  private let base: StoredMatrix?
  private let isLinear: Bool
  private let terms: [WeightedFactors]
  private let noise: (any RowNoise)?
  private let products: MatrixProducts

  /// - Parameter onZero: leave W0 out
  init(
    _ module: MatrixModule, _ terms: [WeightedFactors], noise: (any RowNoise)? = nil,
    onZero: Bool = false, _ products: MatrixProducts
  ) {
    rows = module.rows
    columns = module.columns
    base = onZero ? nil : module.weight
    isLinear = module.isLinear
    self.terms = terms
    self.noise = noise
    self.products = products
  }

  /// Writes some rows as float32, on this thread.
  func copy(_ range: Range<Int>, to out: UnsafeMutablePointer<Float>) {
    if let base {
      base.copy(range.lowerBound * columns..<range.upperBound * columns, to: out)
    } else {
      out.update(repeating: 0, count: range.count * columns)
    }
    for term in terms {
      withExtendedLifetime(term.owner) {
        if isLinear {
          products.gemm(
            range.count, columns, term.rank, a: term.b + range.lowerBound * term.rank,
            lda: term.rank, b: term.a, ldb: columns, c: out, ldc: columns, alpha: term.weight,
            beta: 1)
        } else {
          products.gemm(
            range.count, columns, term.rank, a: term.a + range.lowerBound, lda: rows,
            transposeA: true, b: term.b, ldb: term.rank, transposeB: true, c: out, ldc: columns,
            alpha: term.weight, beta: 1)
        }
      }
    }
    noise?.add(range, to: out, into: out)
  }
}
