import CSupport
import Glibc

/// A file that appears whole or not at all.
///
/// Bytes go to a temporary sibling; `commit` synchronizes it, renames it over the
/// destination and synchronizes the folder. Until then, and after any error, the
/// destination is what it was; without a commit the temporary goes with the object.
/// A process that is killed may leave the temporary `.NAME.PID.RANDOM.tmp` behind.
///
/// A destination that is a symbolic link is replaced, not followed. Two writers at
/// once: each file is whole, the later commit stays. Not for use by two threads.
final class AtomicFile {
  let path: String
  private let temporary: String
  private let calls: FileCalls
  private var descriptor: Int32
  private var isCommitted = false
  private var reserved: Int
  private(set) var written = 0
  /// Bytes that are on their way to the disk.
  private var started = 0
  private static let startedAtOnce = 8 << 20

  /// - Parameter reserve: bytes to claim on the disk now, so that a full disk is known
  ///   before the work is done; 0 claims none.
  init(path: String, reserve: Int = 0, calls: FileCalls = .system) throws {
    try Files.check(path: path)
    let (folder, name) = Files.split(path)
    guard path.utf8.last != UInt8(ascii: "/"), name != ".", name != ".." else {
      throw LorascError(.argument, "\(path): names a folder, not a file", subject: path)
    }
    if let status = Files.status(of: path), Files.isFolder(status) {
      throw LorascError(.io, "\(path): is a folder", subject: path, errno: EISDIR)
    }
    let (temporary, descriptor) = try Self.openTemporary(folder: folder, name: name, path: path)
    self.path = path
    self.calls = calls
    self.temporary = temporary
    self.descriptor = descriptor
    self.reserved = 0
    guard reserve > 0 else { return }
    var code = calls.reserve(descriptor, reserve)
    while code == EINTR { code = calls.reserve(descriptor, reserve) }
    if code == 0 {
      reserved = reserve
    } else if code != EINVAL && code != EOPNOTSUPP && code != ENODEV {
      // The object exists: deinit removes the temporary.
      throw Files.failure("\(reserve) bytes cannot be reserved", path, code)
    }
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
    if !isCommitted { unlink(temporary) }
  }

  func write(_ bytes: UnsafeRawBufferPointer) throws {
    try Files.write(bytes, to: descriptor, path: path, calls: calls)
    written += bytes.count
    // The disk works while the next bytes are made, and the commit has less to wait for.
    if written - started >= Self.startedAtOnce {
      lorasc_start_writing(descriptor, started, written - started)
      started = written
    }
  }

  func write(_ text: String) throws {
    var text = text
    try text.withUTF8 { try write(UnsafeRawBufferPointer($0)) }
  }

  /// Puts the file in place. An error of the last step (the folder's fsync) leaves the
  /// new file in place, whole, though a power failure could still bring the old back.
  func commit() throws {
    guard !isCommitted, descriptor >= 0 else {
      throw LorascError(.state, "\(path): was committed or has failed", subject: path)
    }
    if written < reserved, Files.retry({ ftruncate(descriptor, off_t(written)) }) != 0 {
      throw Files.failure("cannot be cut to its length", path)
    }
    guard Files.retry({ calls.fsync(descriptor) }) == 0 else {
      throw Files.failure("cannot be synchronized", path)
    }
    let closed = close(descriptor)
    let code = errno
    descriptor = -1
    // Linux closes the descriptor also when a signal came in between.
    guard closed == 0 || code == EINTR else { throw Files.failure("cannot be closed", path, code) }
    guard calls.rename(temporary, path) == 0 else {
      throw Files.failure("cannot be put in place", path)
    }
    isCommitted = true
    try Files.syncFolder(Files.split(path).folder, calls: calls)
  }

  /// Writes a small file in one go.
  static func write(
    _ text: String, to path: String, calls: FileCalls = .system
  ) throws {
    let file = try AtomicFile(path: path, reserve: text.utf8.count, calls: calls)
    try file.write(text)
    try file.commit()
  }

  static func write(
    _ bytes: UnsafeRawBufferPointer, to path: String, calls: FileCalls = .system
  ) throws {
    let file = try AtomicFile(path: path, reserve: bytes.count, calls: calls)
    try file.write(bytes)
    try file.commit()
  }

  private static func openTemporary(
    folder: String, name: String, path: String
  ) throws -> (String, Int32) {
    for _ in 0..<16 {
      let temporary = Files.join(folder, Files.temporaryName(for: name))
      let flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW
      let descriptor = Files.retry { open(temporary, flags, 0o666) }
      if descriptor >= 0 { return (temporary, descriptor) }
      guard errno == EEXIST else { break }
    }
    throw Files.failure("cannot be created", path)
  }
}
