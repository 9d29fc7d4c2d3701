/// Adds something to rows of a product Y = X W before they are rounded or used, on the thread that
/// made them.
/// - Parameters:
///   - x: the first of these rows of X, `ldx` apart, in the product's type
///   - y: the first of them of Y, `ldy` apart
typealias TileBody = (
  _ rows: Range<Int>, _ x: Values, _ ldx: Int, _ y: UnsafeMutablePointer<Float>, _ ldy: Int
) -> Void

func noTileBody(
  _: Range<Int>, _: Values, _: Int, _: UnsafeMutablePointer<Float>, _: Int
) {}
