/// One trainable tensor's place in the contiguous buffers of parameters, gradients and
/// optimizer state.
struct Parameter: Sendable {
  enum Kind: Sendable {
    case factorA
    case factorB
    /// Of the head and of modules trained in full.
    case weight
    case bias

    var isFactor: Bool { self == .factorA || self == .factorB }
  }
  let name: String
  let kind: Kind
  let shape: [Int]
  /// In elements; a multiple of 16, so that every tensor starts on a cache line.
  let offset: Int

  var count: Int { shape.reduce(1, *) }
}

/// All trainable tensors in one buffer: gradients and optimizer state use the same layout,
/// so that whatever works on all of them (clipping, an exchange between machines) sees one
/// array. Gaps between tensors stay zero.
final class ParameterSet {
  let list: [Parameter]
  let values: FloatBuffer
  private let positions: [String: Int]

  /// Elements of the buffers, gaps included.
  var bufferCount: Int { values.count }
  var trainableCount: Int { list.reduce(0) { $0 + $1.count } }

  struct Builder {
    private(set) var list: [Parameter] = []
    private(set) var end = 0

    /// - Returns: the parameter's index.
    mutating func add(_ name: String, _ kind: Parameter.Kind, shape: [Int]) -> Int {
      let parameter = Parameter(name: name, kind: kind, shape: shape, offset: end)
      list.append(parameter)
      end += (parameter.count + 15) / 16 * 16
      return list.count - 1
    }
  }

  init(_ builder: Builder) throws {
    list = builder.list
    values = try FloatBuffer(count: builder.end, what: "parameters")
    positions = Dictionary(uniqueKeysWithValues: builder.list.enumerated().map { ($1.name, $0) })
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
