/// How a tensor's values lie in its file.
enum StoredType: Equatable, Sendable {
  /// One after another. Of safetensors files all, of GGUF files the plain types.
  case plain(TensorType)
  /// In blocks with scales of their own; in GGUF files only.
  case quantized(GGMLType)

  init(_ type: GGMLType) {
    switch type {
    case .f32: self = .plain(.f32)
    case .f16: self = .plain(.f16)
    case .bf16: self = .plain(.bf16)
    case .f64: self = .plain(.f64)
    case .i8: self = .plain(.i8)
    case .i16: self = .plain(.i16)
    case .i32: self = .plain(.i32)
    case .i64: self = .plain(.i64)
    default: self = .quantized(type)
    }
  }

  /// As the file names it.
  var name: String {
    switch self {
    case .plain(let type): type.rawValue
    case .quantized(let type): type.name
    }
  }

  /// Numbers that a model computes with.
  var isFloat: Bool {
    switch self {
    case .plain(let type): [.f32, .f16, .bf16, .f64].contains(type)
    case .quantized: true
    }
  }
}

/// A tensor of a model where it lies in its file, under transformers' name and in its shape.
struct StoredTensor: @unchecked Sendable {
  let name: String
  let type: StoredType
  /// Outermost first.
  let shape: [Int]
  let elementCount: Int
  /// As the file has them; valid while `owner` lives.
  let bytes: UnsafeRawBufferPointer
  let owner: AnyObject
  var layout = TensorLayout.same

  /// The same bytes as what they are in the file.
  var asStored: StoredTensor {
    StoredTensor(
      name: name, type: type, shape: layout == .transposed ? shape.reversed() : shape,
      elementCount: elementCount, bytes: bytes, owner: owner)
  }

  /// The values in transformers' order, in place where they lie so (see `FloatView`).
  func float32() throws -> FloatView {
    switch layout {
    case .same: try FloatView(self)
    case .transposed: try FloatView(asStored).transposed()
    case .pairedRows: try FloatView(asStored).rows { layout.stored(row: $0) }
    }
  }
}
