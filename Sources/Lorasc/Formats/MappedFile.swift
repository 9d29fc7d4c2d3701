import Glibc

/// A regular file mapped read-only. An empty file is an empty region.
///
/// `bytes` is valid while the object is alive, and Swift may release it after its last
/// use: whoever keeps the bytes stores the object beside them.
///
/// Limit: when another process cuts the file short while it is mapped, touching the
/// lost pages ends the process (SIGBUS). So only backbone weights are mapped; small
/// files go through `readAll` or `OwnedFile`.
final class MappedFile: @unchecked Sendable {
  let path: String
  let bytes: UnsafeRawBufferPointer

  init(path: String) throws {
    let (descriptor, size) = try Files.openForReading(path)
    defer { close(descriptor) }
    self.path = path
    guard size > 0 else {
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    guard let start = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), start != MAP_FAILED
    else { throw Files.failure("cannot be mapped", path) }
    bytes = UnsafeRawBufferPointer(start: start, count: size)
  }

  deinit {
    if let start = bytes.baseAddress {
      // Safe: because the region was mapped by init with this size and is mapped once.
      munmap(UnsafeMutableRawPointer(mutating: start), bytes.count)
    }
  }

  /// Lets the system take the whole pages of a part from this process: they are read again where
  /// they are touched again.
  func releasePages(_ part: UnsafeRawBufferPointer) {
    guard let start = part.baseAddress else { return }
    let page = Int(getpagesize())
    let first = (Int(bitPattern: start) + page - 1) / page * page
    let end = (Int(bitPattern: start) + part.count) / page * page
    guard first < end, let from = UnsafeMutableRawPointer(bitPattern: first) else { return }
    // Safe: because the pages are the file's own, and nobody can write to them.
    madvise(from, end - first, MADV_DONTNEED)
  }

  /// Reads a small file whole.
  /// - Throws: `.limit` when it is longer than `limit` bytes.
  static func readAll(path: String, limit: Int = 100_000_000) throws -> [UInt8] {
    let (descriptor, size) = try Files.openForReading(path)
    defer { close(descriptor) }
    func tooLong() -> LorascError {
      LorascError(.limit, "\(path): is longer than \(limit) bytes", subject: path)
    }
    guard size <= limit else { throw tooLong() }
    // The size is a hint only: /proc says 0, and a file may grow meanwhile.
    var content: [UInt8] = []
    content.reserveCapacity(size + 1)
    var chunk = [UInt8](repeating: 0, count: min(max(size + 1, 4096), 1 << 20))
    while true {
      let got = try chunk.withUnsafeMutableBytes { chunk in
        guard let start = chunk.baseAddress else { return 0 }
        return try Files.read(descriptor, into: start, count: chunk.count, path: path)
      }
      guard got <= limit - content.count else { throw tooLong() }
      content.append(contentsOf: chunk[..<got])
      if got < chunk.count { return content }
    }
  }
}

/// A file read into memory of its own, 64-byte aligned: for what must stay readable
/// whatever happens to the file, such as adapters and checkpoints. `bytes` is valid while
/// the object is alive.
final class OwnedFile: @unchecked Sendable {
  let path: String
  let bytes: UnsafeRawBufferPointer
  private let buffer: AlignedBuffer<UInt8>

  /// - Throws: `.io` when the file shrinks while it is read.
  init(path: String) throws {
    let (descriptor, size) = try Files.openForReading(path)
    defer { close(descriptor) }
    let buffer = try AlignedBuffer<UInt8>(count: size, what: path)
    let got = try Files.read(descriptor, into: buffer.pointer, count: size, path: path)
    guard got == size else {
      throw LorascError(.io, "\(path): became shorter while it was read", subject: path)
    }
    self.path = path
    self.buffer = buffer
    bytes = buffer.raw
  }
}

/// A file's bytes, mapped or in memory, and what keeps them.
struct OpenedFile {
  let bytes: UnsafeRawBufferPointer
  let owner: AnyObject

  init(path: String, mapped: Bool) throws {
    if mapped {
      let file = try MappedFile(path: path)
      (bytes, owner) = (file.bytes, file)
    } else {
      let file = try OwnedFile(path: path)
      (bytes, owner) = (file.bytes, file)
    }
  }
}
