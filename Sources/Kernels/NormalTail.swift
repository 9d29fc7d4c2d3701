// The normal distribution, for GELU. Polynomials were fitted like those of exp.

/// Where exp(-a^2 / 2) comes to 0.
var tailBound: Float {
  @_transparent get { 13.2687 }
}

/// The normal distribution's lower tail Phi(-a), and exp(-a^2 / 2), of 0 <= a <= `tailBound`. The tail
/// keeps its relative accuracy where 1 - erf(a / sqrt 2) would cancel.
@_transparent
func normalTail(_ a: Lanes) -> (tail: Lanes, exponential: Lanes) {
  let square = a * a
  let e = exponentialBelow(square * Lanes(repeating: -0.5))
  #if LORASC_TABLES
    return (scaledTail(a) * e, e)
  #else
    let inner = multiplyAdd(negated(a), innerSlope(square), Lanes(repeating: 0.5))
    return ((scaledTail(a) * e).replacing(with: inner, where: a .< Lanes(repeating: 1)), e)
  #endif
}

#if LORASC_TABLES
  /// exp(a^2 / 2) Phi(-a), 0 <= a < 15: around the centre of each of 32 segments, the eighths of the
  /// octaves of 1 + a, a polynomial of degree 4; relative error 2e-8, 6e-8 from a = 3 on. A
  /// segment's number is the last two bits of the exponent of 1 + a and the first three of its
  /// mantissa: 24 to 31 for a < 1, then 0 to 23.
  @_transparent
  private func scaledTail(_ a: Lanes) -> Lanes {
    let segment = bits(a + Lanes(repeating: 1)) &>> IntLanes(repeating: 20)
    let centre = chosen(
      Lanes(
        1.125, 1.375, 1.625, 1.875, 2.125, 2.375, 2.625, 2.875, 3.25, 3.75, 4.25, 4.75, 5.25,
        5.75, 6.25, 6.75),
      Lanes(
        7.5, 8.5, 9.5, 10.5, 11.5, 12.5, 13.5, 14.5, 0.0625, 0.1875, 0.3125, 0.4375, 0.5625,
        0.6875, 0.8125, 0.9375),
      segment)
    let c4 = chosen(
      Lanes(
        0.0075065298, 0.00500285532, 0.0034033414, 0.00235990342, 0.00166576332,
        0.00119544368, 0.000871253491, 0.000644165964, 0.000420849276, 0.000247826421,
        0.000152206543, 9.69807734e-05, 6.38195634e-05, 4.32096094e-05, 3.00022239e-05,
        2.13043004e-05),
      Lanes(
        1.3271645e-05, 7.451692e-06, 4.42624105e-06, 2.75503044e-06, 1.78368543e-06,
        1.19420702e-06, 8.22974528e-07, 5.81564848e-07, 0.0547941253, 0.0423040502,
        0.0328922048, 0.0257496778, 0.0202919729, 0.0160937775, 0.0128434617, 0.0103111621),
      segment)
    let c3 = chosen(
      Lanes(
        -0.0209642705, -0.0147962123, -0.010646062, -0.00779749127, -0.00580570661,
        -0.00438876357, -0.00336443936, -0.00261279219, -0.00183362525, -0.00118127093,
        -0.000789598678, -0.000544901588, -0.00038661639, -0.000281050015, -0.000208717975,
        -0.000157956805),
      Lanes(
        -0.000107637643, -6.74233743e-05, -4.42479359e-05, -3.01781001e-05, -2.12570267e-05,
        -1.53889687e-05, -1.14059521e-05, -8.62804882e-06, -0.118458025, -0.0943158641,
        -0.0756143853, -0.0610263534, -0.0495700762, -0.0405143574, -0.033310879,
        -0.0275457073),
      segment)
    let c2 = chosen(
      Lanes(
        0.0535094291, 0.0402847342, 0.0308623966, 0.0240233857, 0.0189736299, 0.0151855629,
        0.0123021416, 0.0100775147, 0.00761351408, 0.00540351355, 0.00395365525,
        0.00296912785, 0.00228030933, 0.00178566435, 0.00142225157, 0.00114982307),
      Lanes(
        0.000856350176, 0.00060063455, 0.000436705217, 0.00032704373, 0.000251041056,
        0.000196770285, 0.00015701777, 0.00012725289, 0.226468354, 0.186804861, 0.155117482,
        0.129629791, 0.108994171, 0.0921811983, 0.078399241, 0.0670355931),
      segment)
    let c1 = chosen(
      Lanes(
        -0.122944281, -0.0996874049, -0.0820296481, -0.0683968067, -0.0577095337,
        -0.0492138453, -0.0423738174, -0.0368023142, -0.0302229654, -0.0237951837,
        -0.0191651415, -0.0157341138, -0.0131290555, -0.0111091919, -0.00951423217,
        -0.00823451299),
      Lanes(
        -0.00674402062, -0.00530689815, -0.00428103097, -0.00352425897, -0.00295060361,
        -0.00250570895, -0.00215390231, -0.00187101436, -0.369191468, -0.317720503,
        -0.27512601, -0.239646345, -0.209907681, -0.184831381, -0.16356501, -0.145430624),
      segment)
    let c0 = chosen(
      Lanes(
        0.245331392, 0.217639819, 0.195023105, 0.176290885, 0.160580099, 0.147254065,
        0.135835603, 0.125961721, 0.113452062, 0.100039206, 0.0893593207, 0.0806754008,
        0.073488228, 0.0674492344, 0.0623084866, 0.0578826331),
      Lanes(
        0.0522930957, 0.0463100448, 0.04154329, 0.037658859, 0.0344340578, 0.0317149274,
        0.0293917321, 0.0273842253, 0.476011127, 0.433182299, 0.396211833, 0.364104867,
        0.336061448, 0.311434001, 0.289695084, 0.270412415),
      segment)
    let d = a - centre
    let q = multiplyAdd(multiplyAdd(c4, d, c3), d, c2)
    return multiplyAdd(multiplyAdd(q, d, c1), d, c0)
  }
#else
  /// exp(a^2 / 2) Phi(-a), 1 <= a <= 15: R(u) / (a + 3), u = (a - 3) / (a + 3), R of degree 7 (error
  /// 1.4e-8).
  @_transparent
  private func scaledTail(_ a: Lanes) -> Lanes {
    let inverse = Lanes(repeating: 1) / (a + Lanes(repeating: 3))
    let u = (a - Lanes(repeating: 3)) * inverse
    var q = Lanes(repeating: -0.001022758660838008)
    q = multiplyAdd(q, u, Lanes(repeating: 0.0009093951666727662))
    q = multiplyAdd(q, u, Lanes(repeating: 0.006983574479818344))
    q = multiplyAdd(q, u, Lanes(repeating: -0.010444322600960732))
    q = multiplyAdd(q, u, Lanes(repeating: -0.047265198081731796))
    q = multiplyAdd(q, u, Lanes(repeating: 0.23001675307750702))
    q = multiplyAdd(q, u, Lanes(repeating: -0.5093318819999695))
    q = multiplyAdd(q, u, Lanes(repeating: 0.7290837168693542))
    return q * inverse
  }

  /// (1/2 - Phi(-a)) / a of a^2, a <= 1.
  @_transparent
  private func innerSlope(_ square: Lanes) -> Lanes {
    var p = Lanes(repeating: -7.496672878914978e-06)
    p = multiplyAdd(p, square, Lanes(repeating: 0.00011305885709589347))
    p = multiplyAdd(p, square, Lanes(repeating: -0.0011859077494591475))
    p = multiplyAdd(p, square, Lanes(repeating: 0.009973140433430672))
    p = multiplyAdd(p, square, Lanes(repeating: -0.06649032980203629))
    p = multiplyAdd(p, square, Lanes(repeating: 0.3989422917366028))
    return p
  }
#endif
