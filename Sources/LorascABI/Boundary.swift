import CLorasc
import CSupport
import Glibc
import Lorasc

/// The one way from C into the engine: no error and no trap leaves it.
func call(_ body: () throws -> Void) -> lorasc_status {
  do {
    if lorasc_is_forked_child() {
      throw LorascError(.state, "the library cannot be used in a forked child")
    }
    try body()
    return LORASC_OK
  } catch let error as LorascError {
    return report(error)
  } catch {
    return report(LorascError(.internal, "an unexpected error: \(error)"))
  }
}

/// Records the thread's last error.
func report(_ error: LorascError) -> lorasc_status {
  guard let slot = lorasc_thread_error_get() else { return LORASC_E_INTERNAL }
  slot.pointee.status = error.status.rawValue
  slot.pointee.system_error = error.errno
  copy(
    error.message, to: UnsafeMutableRawPointer(mutating: slot.pointee.message),
    MemoryLayout.size(ofValue: slot.pointee.message_text))
  copy(
    error.subject, to: UnsafeMutableRawPointer(mutating: slot.pointee.subject),
    MemoryLayout.size(ofValue: slot.pointee.subject_text))
  return lorasc_status(UInt32(error.status.rawValue))
}

/// Text into a fixed buffer with its NUL, cut between characters where it is too long.
func copy(_ text: String, to buffer: UnsafeMutableRawPointer?, _ capacity: Int) {
  guard let buffer, capacity > 0 else { return }
  var text = text
  text.withUTF8 { bytes in
    var count = min(bytes.count, capacity - 1)
    if count < bytes.count {
      while count > 0, bytes[count] & 0xC0 == 0x80 { count -= 1 }
    }
    if let start = bytes.baseAddress { buffer.copyMemory(from: start, byteCount: count) }
    buffer.storeBytes(of: 0, toByteOffset: count, as: UInt8.self)
  }
}

/// A C string the caller gave.
func string(_ pointer: UnsafePointer<CChar>?, _ what: String) throws -> String {
  guard let pointer else {
    throw LorascError(.argument, "\(what) is NULL", subject: what)
  }
  guard let text = String(validatingCString: pointer) else {
    throw LorascError(.argument, "\(what) is not UTF-8", subject: what)
  }
  return text
}

func required<Value>(_ pointer: UnsafeMutablePointer<Value>?, _ what: String) throws
  -> UnsafeMutablePointer<Value>
{
  guard let pointer else { throw LorascError(.argument, "\(what) is NULL", subject: what) }
  return pointer
}

/// Sizes and capacities as C has them: SIZE_MAX arrives as −1.
func checkedCount(_ count: Int) -> Int { count < 0 ? Int.max : count }

/// The buffer protocol of the header: `*need`, then the values if they fit.
func fill(
  _ buffer: UnsafeMutablePointer<Float>?, _ capacity: Int, _ need: UnsafeMutablePointer<Int>?,
  count: Int, _ write: (UnsafeMutableBufferPointer<Float>) throws -> Void
) throws {
  need?.pointee = count
  if buffer == nil, capacity == 0 {
    _ = try required(need, "need")
    return
  }
  guard let buffer, checkedCount(capacity) >= count else {
    throw LorascError(.buffer, "the buffer holds \(capacity) elements, \(count) are needed")
  }
  try write(UnsafeMutableBufferPointer(start: buffer, count: count))
}

func fill(
  _ buffer: UnsafeMutablePointer<CChar>?, _ capacity: Int, _ need: UnsafeMutablePointer<Int>?,
  text: String
) throws {
  let count = text.utf8.count + 1
  need?.pointee = count
  if buffer == nil, capacity == 0 {
    _ = try required(need, "need")
    return
  }
  guard let buffer, checkedCount(capacity) >= count else {
    throw LorascError(.buffer, "the buffer holds \(capacity) bytes, \(count) are needed")
  }
  copy(text, to: buffer, count)
}

/// Largest plausible `struct_size`: anything beyond is an uninitialised struct.
private let largestStruct: UInt32 = 4096

/// Writes a struct that begins with `struct_size`, no more of it than the caller has.
func put<Struct>(_ value: Struct, to pointer: UnsafeMutablePointer<Struct>?, _ what: String) throws
{
  let raw = UnsafeMutableRawPointer(try required(pointer, what))
  let size = try structSize(raw, what)
  withUnsafeBytes(of: value) { bytes in
    let count = min(Int(size), bytes.count)
    guard count > 4 else { return }
    UnsafeMutableRawBufferPointer(start: raw + 4, count: count - 4).copyBytes(
      from: bytes[4..<count])
  }
}

/// As `put`, where the struct may be NULL.
func putIfGiven<Struct>(
  _ value: Struct, to pointer: UnsafeMutablePointer<Struct>?, _ what: String
) throws {
  if pointer != nil { try put(value, to: pointer, what) }
}

/// Refuses a bad struct before the work is done.
func checkIfGiven<Struct>(_ pointer: UnsafeMutablePointer<Struct>?, _ what: String) throws {
  if let pointer { _ = try structSize(UnsafeRawPointer(pointer), what) }
}

func structSize(_ raw: UnsafeRawPointer, _ what: String) throws -> UInt32 {
  let size = raw.load(as: UInt32.self)
  guard size >= 8, size <= largestStruct else {
    throw LorascError(
      .argument, "struct_size of \(what) is \(size): set it to sizeof before the call",
      subject: "struct_size")
  }
  return size
}

/// Copies the caller's struct over the defaults in `value`, as far as its `struct_size` reaches.
/// - Parameter smallest: bytes without which it makes no sense
func read<Struct>(
  _ pointer: UnsafeRawPointer, _ what: String, into value: inout Struct, atLeast smallest: Int
) throws {
  let size = Int(try structSize(pointer, what))
  guard size >= smallest else {
    throw LorascError(
      .argument, "struct_size of \(what) is \(size), at least \(smallest) are due",
      subject: "struct_size")
  }
  withUnsafeMutableBytes(of: &value) { bytes in
    // Whole members only: half a pointer would be another one.
    let whole = min(size & ~7, bytes.count)
    bytes.copyMemory(from: UnsafeRawBufferPointer(start: pointer, count: whole))
  }
}

/// The caller's batch, members beyond its `struct_size` zero.
func batch(_ pointer: UnsafePointer<lorasc_batch>?) throws -> Batch {
  guard let pointer else { throw LorascError(.argument, "batch is NULL", subject: "batch") }
  var given = lorasc_batch()
  try read(
    pointer, "batch", into: &given,
    atLeast: MemoryLayout<lorasc_batch>.offset(of: \.token_types) ?? 0)
  guard given.rows > 0, given.rows <= 1 << 40 else {
    throw LorascError(.shape, "the batch has \(given.rows) rows", subject: "rows")
  }
  if given.pixels != nil { return try images(given) }
  guard let tokens = given.tokens, let offsets = given.offsets else {
    throw LorascError(
      .argument, "\(given.tokens == nil ? "tokens" : "offsets") of the batch is NULL",
      subject: given.tokens == nil ? "tokens" : "offsets")
  }
  let count = offsets[given.rows]
  guard count >= 0, count <= 1 << 48 else {
    throw LorascError(.shape, "the last offset is \(count)", subject: "offsets")
  }
  var batch = Batch(
    tokens: UnsafeBufferPointer(start: tokens, count: Int(count)),
    offsets: UnsafeBufferPointer(start: offsets, count: given.rows + 1),
    tokenTypes: given.token_types, labels: given.labels, targets: given.targets,
    rowWeights: given.row_weights)
  batch.tokenLabels = given.token_labels
  batch.tokenWeights = given.token_weights
  return batch
}

private func images(_ given: lorasc_batch) throws -> Batch {
  guard given.tokens == nil, given.offsets == nil else {
    throw LorascError(.argument, "the batch has tokens and pixels", subject: "pixels")
  }
  guard given.token_types == nil, given.token_labels == nil, given.token_weights == nil else {
    throw LorascError(
      .argument, "a batch of pixels has no token_types, token_labels, token_weights",
      subject: "pixels")
  }
  guard let values = given.pixels else {
    throw LorascError(.argument, "pixels is NULL", subject: "pixels")
  }
  let pixels: Batch.Images.Pixels
  switch given.pixel_type {
  case LORASC_PIXELS_FLOAT32.rawValue:
    guard given.pixel_mean == nil, given.pixel_std == nil else {
      throw LorascError(
        .argument, "float32 pixels are as the model takes them: no pixel_mean, no pixel_std",
        subject: "pixel_mean")
    }
    pixels = .float32(values.assumingMemoryBound(to: Float.self))
  case LORASC_PIXELS_UINT8.rawValue:
    guard let mean = given.pixel_mean, let deviation = given.pixel_std, given.channels <= 1 << 16
    else {
      throw LorascError(
        .argument, "uint8 pixels need pixel_mean and pixel_std, a number a channel",
        subject: "pixel_mean")
    }
    let channels = Int(given.channels)
    pixels = .uint8(
      values.assumingMemoryBound(to: UInt8.self),
      mean: Array(UnsafeBufferPointer(start: mean, count: channels)),
      deviation: Array(UnsafeBufferPointer(start: deviation, count: channels)))
  default:
    throw LorascError(
      .argument, "pixel_type of the batch is \(given.pixel_type)", subject: "pixel_type")
  }
  return Batch(
    images: .init(
      pixels: pixels, rows: given.rows, channels: Int(given.channels), height: Int(given.height),
      width: Int(given.width)),
    labels: given.labels, targets: given.targets, rowWeights: given.row_weights)
}

/// A tensor's name and shape for C.
func tensorInfo(_ name: String, _ shape: [Int]) -> lorasc_tensor_info {
  var info = lorasc_tensor_info()
  info.rank = UInt32(min(shape.count, 8))
  info.elements = UInt64(shape.reduce(1, *))
  withUnsafeMutableBytes(of: &info.shape) { bytes in
    for (index, size) in shape.prefix(8).enumerated() {
      bytes.storeBytes(of: UInt64(size), toByteOffset: index * 8, as: UInt64.self)
    }
  }
  withUnsafeMutableBytes(of: &info.name) { copy(name, to: $0.baseAddress, $0.count) }
  return info
}
