/// One trainable tensor's place in the contiguous buffers of parameters, gradients and
/// optimizer state.
struct Parameter: Sendable {
  enum Kind: Sendable {
    case factorA
    case factorB
    case embeddingA
    case embeddingB
    /// DoRA's m
    case magnitude
    /// Of the head and of modules trained in full: a matrix, LayerNorm's γ or β, a bias.
    case matrix
    case norm
    case bias

    /// Of the current expert: started anew by a boundary.
    var isExpert: Bool {
      switch self {
      case .factorA, .factorB, .embeddingA, .embeddingB, .magnitude: true
      case .matrix, .norm, .bias: false
      }
    }
  }
  let name: String
  let kind: Kind
  var shape: [Int]
  /// In elements; a multiple of 16, so that every tensor starts on a cache line.
  let offset: Int
  /// Elements that the largest rank of the cascades needs.
  let capacity: Int

  var count: Int { shape.reduce(1, *) }
}

/// All trainable tensors in one buffer: gradients and optimizer state use the same layout,
/// so that whatever works on all of them (clipping, an exchange between machines) sees one
/// array. Gaps between tensors stay zero.
final class ParameterSet {
  private(set) var list: [Parameter]
  let values: FloatBuffer
  private let positions: [String: Int]

  /// Elements of the buffers, gaps included.
  var bufferCount: Int { values.count }

  struct Builder {
    private(set) var list: [Parameter] = []
    private(set) var end = 0

    /// - Parameter largest: the shape that the memory is for, where it is another one
    /// - Returns: the parameter's index.
    mutating func add(
      _ name: String, _ kind: Parameter.Kind, shape: [Int], largest: [Int]? = nil
    ) throws -> Int {
      var capacity = 1
      for size in largest ?? shape {
        let (product, overflow) = capacity.multipliedReportingOverflow(by: size)
        guard !overflow, product < Int.max / 64 else {
          throw LorascError(.outOfMemory, "\(name) does not fit into memory", subject: name)
        }
        capacity = product
      }
      list.append(
        Parameter(name: name, kind: kind, shape: shape, offset: end, capacity: capacity))
      let (next, overflow) = end.addingReportingOverflow((capacity + 15) / 16 * 16)
      guard !overflow else {
        throw LorascError(.outOfMemory, "\(name) does not fit into memory", subject: name)
      }
      end = next
      return list.count - 1
    }
  }

  init(_ builder: Builder) throws {
    list = builder.list
    values = try FloatBuffer(count: builder.end, what: "parameters")
    positions = Dictionary(uniqueKeysWithValues: builder.list.enumerated().map { ($1.name, $0) })
  }

  /// Gives a tensor another shape within its memory, and zeros.
  func reshape(_ index: Int, _ shape: [Int]) {
    list[index].shape = shape
    pointer(index).update(repeating: 0, count: list[index].capacity)
  }

  func pointer(_ index: Int) -> UnsafeMutablePointer<Float> { values.pointer + list[index].offset }

  /// - Throws: `.notFound`
  func index(of name: String) throws -> Int {
    guard let index = positions[name] else {
      throw LorascError(.notFound, "there is no trainable tensor '\(name)'", subject: name)
    }
    return index
  }

  func buffer(_ index: Int) -> UnsafeMutableBufferPointer<Float> {
    UnsafeMutableBufferPointer(start: pointer(index), count: list[index].count)
  }
}
