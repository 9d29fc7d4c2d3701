/// Keys and values of the tokens that one row has shown a stack so far, for each block: causal
/// attention never changes them, so the row can go on token by token.
final class KeyValueCache {
  let capacity: Int
  /// Tokens that all blocks have seen.
  private(set) var count = 0
  private let width: Int
  /// (blocks, 2, capacity, width): keys, then values. One buffer, so that a cache which doesn't
  /// fit is refused before any of it is written.
  private let memory: UnsafeMutablePointer<Float>

  init(_ backbone: Backbone, capacity: Int, _ arena: Arena) throws {
    self.capacity = capacity
    width = backbone.sizes.keyValueHeads * backbone.sizes.headSize
    memory = try arena.matrix(
      capacity, 2 * backbone.blocks.count * width, "plan.key_value_cache")
  }

  /// Takes the keys and values of the row's next tokens, (tokens, width) with rows `ld` apart.
  /// - Returns: all of the block so far, these included
  func append(
    _ block: Int, keys: UnsafePointer<Float>, values: UnsafePointer<Float>, ld: Int, tokens: Int
  ) -> Attention.Context {
    let ownKeys = memory + 2 * block * capacity * width
    let ownValues = ownKeys + capacity * width
    for token in 0..<tokens {
      let place = (count + token) * width
      (ownKeys + place).update(from: keys + token * ld, count: width)
      (ownValues + place).update(from: values + token * ld, count: width)
    }
    return Attention.Context(keys: ownKeys, values: ownValues, ld: width, past: count)
  }

  /// After the last block.
  func advance(_ tokens: Int) { count += tokens }
}
