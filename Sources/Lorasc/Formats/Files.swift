import CSupport
import Glibc

/// The system calls that can fail while something is saved, as values, so that the
/// tests can make the N-th of them fail. Each returns what the call returns and
/// leaves `errno` behind.
struct FileCalls: Sendable {
  var write: @Sendable (Int32, UnsafeRawPointer, Int) -> Int = { Glibc.write($0, $1, $2) }
  var reserve: @Sendable (Int32, Int) -> Int32 = { posix_fallocate($0, 0, $1) }
  var fsync: @Sendable (Int32) -> Int32 = { Glibc.fsync($0) }
  var rename: @Sendable (String, String) -> Int32 = { Glibc.rename($0, $1) }
  var exchange: @Sendable (String, String) -> Int32 = { lorasc_rename_exchange($0, $1) }
  var link: @Sendable (Int32, UnsafePointer<CChar>, Int32, UnsafePointer<CChar>) -> Int32 = {
    linkat($0, $1, $2, $3, 0)
  }

  static let system = FileCalls()
}

/// What reading and writing share: path checks, error values, loops around
/// interrupted calls.
enum Files {
  /// Refuses what the kernel would cut short (NUL) or refuse with less words.
  static func check(path: String) throws {
    guard !path.isEmpty else { throw LorascError(.argument, "the path is empty") }
    guard !path.utf8.contains(0) else {
      throw LorascError(.argument, "a path may not contain NUL", subject: path)
    }
    guard path.utf8.count < Int(PATH_MAX) else {
      throw LorascError(
        .io, "the path is longer than \(PATH_MAX - 1) bytes", subject: path, errno: ENAMETOOLONG)
    }
  }

  /// The error of a system call on `path`; a missing file is `.notFound`.
  static func failure(
    _ action: String, _ path: String, _ code: Int32 = Glibc.errno
  ) -> LorascError {
    let missing = code == ENOENT || code == ENOTDIR
    let reason = String(cString: strerror(code))
    return LorascError(
      missing ? .notFound : .io, "\(path): \(action): \(reason)", subject: path, errno: code)
  }

  /// Repeats a call that a signal interrupted.
  static func retry<Result: BinaryInteger>(_ call: () -> Result) -> Result {
    while true {
      let result = call()
      if result >= 0 || Glibc.errno != EINTR { return result }
    }
  }

  /// The last component, and the folder it is in ("." when the path names none).
  static func split(_ path: String) -> (folder: String, name: String) {
    var bytes = Array(path.utf8)
    while bytes.count > 1, bytes.last == UInt8(ascii: "/") { bytes.removeLast() }
    guard let slash = bytes.lastIndex(of: UInt8(ascii: "/")) else {
      return (".", String(decoding: bytes, as: UTF8.self))
    }
    let folder = slash == 0 ? "/" : String(decoding: bytes[..<slash], as: UTF8.self)
    return (folder, String(decoding: bytes[(slash + 1)...], as: UTF8.self))
  }

  static func join(_ folder: String, _ name: String) -> String {
    folder.utf8.last == UInt8(ascii: "/") ? folder + name : folder + "/" + name
  }

  /// A name for a temporary sibling of `name`: hidden, with the process, and
  /// random so that a leftover of a killed process is never in the way.
  static func temporaryName(for name: String) -> String {
    var stem = ""
    for scalar in name.unicodeScalars {
      // 255 bytes is the longest name; process, number and suffix need up to 35.
      if stem.utf8.count + 4 > 200 { break }
      stem.unicodeScalars.append(scalar)
    }
    let number = String(UInt64.random(in: 0...UInt64.max), radix: 16)
    return ".\(stem).\(getpid()).\(number).tmp"
  }

  static func status(of path: String) -> stat? {
    var status = stat()
    return stat(path, &status) == 0 ? status : nil
  }

  static func isFolder(_ status: stat) -> Bool { status.st_mode & S_IFMT == S_IFDIR }
  static func isRegular(_ status: stat) -> Bool { status.st_mode & S_IFMT == S_IFREG }

  /// Opens a regular file for reading. Non-blocking, so that a pipe of that name
  /// is refused instead of waited for.
  static func openForReading(_ path: String) throws -> (descriptor: Int32, size: Int) {
    try check(path: path)
    let descriptor = retry { open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) }
    guard descriptor >= 0 else { throw failure("cannot be opened", path) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      let error = failure("cannot be examined", path)
      close(descriptor)
      throw error
    }
    guard isRegular(status) else {
      close(descriptor)
      let what = isFolder(status) ? "a folder" : "not a regular file"
      throw LorascError(
        .io, "\(path): is \(what)", subject: path, errno: isFolder(status) ? EISDIR : 0)
    }
    return (descriptor, Int(status.st_size))
  }

  /// Reads until `count` bytes are there or the file ends; returns how many.
  static func read(
    _ descriptor: Int32, into start: UnsafeMutableRawPointer, count: Int, path: String
  ) throws -> Int {
    var done = 0
    while done < count {
      // Safe: because done < count and the caller owns `count` bytes at `start`.
      let got = retry { Glibc.read(descriptor, start + done, min(count - done, 1 << 30)) }
      guard got >= 0 else { throw failure("cannot be read", path) }
      if got == 0 { break }
      done += got
    }
    return done
  }

  /// Writes everything, in as many calls as the system wants.
  static func write(
    _ bytes: UnsafeRawBufferPointer, to descriptor: Int32, path: String, calls: FileCalls
  ) throws {
    guard let start = bytes.baseAddress else { return }
    var done = 0
    while done < bytes.count {
      // Safe: because done < bytes.count.
      let put = retry { calls.write(descriptor, start + done, min(bytes.count - done, 1 << 30)) }
      guard put >= 0 else { throw failure("cannot be written", path) }
      guard put > 0 else { throw failure("cannot be written", path, ENOSPC) }
      done += put
    }
  }

  /// Makes a finished rename last: the names live in the folder's own blocks.
  static func syncFolder(_ path: String, calls: FileCalls) throws {
    let descriptor = retry { open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    guard descriptor >= 0 else { throw failure("cannot be opened", path) }
    defer { close(descriptor) }
    // Some network file systems have no fsync for folders and say EINVAL.
    guard retry({ calls.fsync(descriptor) }) == 0 || Glibc.errno == EINVAL else {
      throw failure("cannot be synchronized", path)
    }
  }
}

extension LorascError {
  /// The same error with the file it came from in front of the message, unless it is there.
  func inFile(_ path: String) -> LorascError {
    if message.hasPrefix(path + ":") { return self }
    return LorascError(
      status, "\(path): \(message)", subject: subject.isEmpty ? path : subject, errno: errno)
  }
}

/// Runs `body`; an error of this engine gets the file's name in front.
func namingFile<Result>(_ path: String, _ body: () throws -> Result) throws -> Result {
  do { return try body() } catch let error as LorascError { throw error.inFile(path) }
}

/// A name from a file as it may stand in a message: quoted and of bounded length.
func quoted(_ name: String) -> String {
  var shown = ""
  for scalar in name.unicodeScalars {
    if shown.utf8.count > 160 { return "\"\(shown)…\"" }
    shown.unicodeScalars.append(scalar.value < 0x20 || scalar.value == 0x7f ? "?" : scalar)
  }
  return "\"\(shown)\""
}
