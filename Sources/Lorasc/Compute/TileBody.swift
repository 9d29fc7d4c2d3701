/// Some rows of a product Y = X W before they are rounded or used.
struct TileSums {
  let rows: Range<Int>
  /// The first of these rows of X, `ldx` apart, in the product's type
  let x: Values
  let ldx: Int
  /// The first of them of Y, `ld` apart
  let values: UnsafeMutablePointer<Float>
  let ld: Int
  /// Where they go in bfloat16; nil: as float32
  var rounded: UnsafeMutablePointer<UInt16>?
  var ldRounded = 0
}

/// Adds something to rows of a product, on the thread that made them.
/// - Returns: the sums are in `rounded` already
typealias TileBody = (TileSums) -> Bool

func noTileBody(_: TileSums) -> Bool { false }
