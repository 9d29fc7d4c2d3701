/// The tensor types of GGUF files, by their tags: plain elements, and quantised ones, whose
/// values lie in blocks with scales of their own. Other tags are unknown, or were given up by
/// the format (4, 5, 31 to 33, 36 to 38).
enum GGMLType: UInt32, CaseIterable, Sendable {
  case f32 = 0
  case f16 = 1
  case q4_0 = 2
  case q4_1 = 3
  case q5_0 = 6
  case q5_1 = 7
  case q8_0 = 8
  case q8_1 = 9
  case q2_K = 10
  case q3_K = 11
  case q4_K = 12
  case q5_K = 13
  case q6_K = 14
  case q8_K = 15
  case iq2_XXS = 16
  case iq2_XS = 17
  case iq3_XXS = 18
  case iq1_S = 19
  case iq4_NL = 20
  case iq3_S = 21
  case iq2_S = 22
  case iq4_XS = 23
  case i8 = 24
  case i16 = 25
  case i32 = 26
  case i64 = 27
  case f64 = 28
  case iq1_M = 29
  case bf16 = 30
  case tq1_0 = 34
  case tq2_0 = 35
  case mxfp4 = 39
  case nvfp4 = 40
  case q1_0 = 41

  /// As llama.cpp writes it: "Q4_K".
  var name: String { "\(self)".uppercased() }

  /// Elements and bytes of a block; plain types have blocks of one element.
  var block: (elements: Int, bytes: Int) {
    switch self {
    case .i8: (1, 1)
    case .f16, .bf16, .i16: (1, 2)
    case .f32, .i32: (1, 4)
    case .f64, .i64: (1, 8)
    case .mxfp4: (32, 17)
    case .q4_0, .iq4_NL: (32, 18)
    case .q4_1: (32, 20)
    case .q5_0: (32, 22)
    case .q5_1: (32, 24)
    case .q8_0: (32, 34)
    case .q8_1: (32, 40)
    case .nvfp4: (64, 36)
    case .q1_0: (128, 18)
    case .iq1_S: (256, 50)
    case .tq1_0: (256, 54)
    case .iq1_M: (256, 56)
    case .iq2_XXS, .tq2_0: (256, 66)
    case .iq2_XS: (256, 74)
    case .iq2_S: (256, 82)
    case .q2_K: (256, 84)
    case .iq3_XXS: (256, 98)
    case .q3_K, .iq3_S: (256, 110)
    case .iq4_XS: (256, 136)
    case .q4_K: (256, 144)
    case .q5_K: (256, 176)
    case .q6_K: (256, 210)
    case .q8_K: (256, 292)
    }
  }

  /// Bytes of a tensor, nil when a product overflows or a row doesn't fill whole blocks.
  /// - Parameter shape: outermost first
  func byteCount(shape: [Int]) -> (elements: Int, bytes: Int)? {
    guard (shape.last ?? 1) % block.elements == 0,
      let elements = elementCount(of: shape)
    else { return nil }
    let (bytes, overflow) = (elements / block.elements).multipliedReportingOverflow(by: block.bytes)
    return overflow ? nil : (elements, bytes)
  }
}
