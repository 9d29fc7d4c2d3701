import Glibc

/// An open folder. Names below it are passed as the bytes the kernel gave, because a
/// user's file names need not be UTF-8, and relative to the descriptor, so that long
/// paths and folders renamed meanwhile do no harm.
final class OpenFolder {
  typealias Name = [CChar]

  let descriptor: Int32
  /// For messages.
  let path: String

  private init(descriptor: Int32, path: String) {
    self.descriptor = descriptor
    self.path = path
  }

  convenience init(path: String) throws {
    let descriptor = Files.retry { open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    guard descriptor >= 0 else { throw Files.failure("cannot be opened", path) }
    self.init(descriptor: descriptor, path: path)
  }

  deinit { close(descriptor) }

  func child(_ name: Name) throws -> OpenFolder {
    let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
    let descriptor = Files.retry { openat(self.descriptor, name, flags) }
    guard descriptor >= 0 else { throw failure("cannot be opened", name) }
    return OpenFolder(descriptor: descriptor, path: Files.join(path, Self.text(name)))
  }

  /// Everything in the folder but "." and "..".
  func names() throws -> [Name] {
    // The stream closes its descriptor, so it gets one of its own.
    let own = Files.retry { openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    guard own >= 0 else { throw Files.failure("cannot be read", path) }
    guard let stream = fdopendir(own) else {
      let error = Files.failure("cannot be read", path)
      close(own)
      throw error
    }
    defer { closedir(stream) }
    guard let nameOffset = MemoryLayout<dirent>.offset(of: \.d_name) else {
      throw LorascError(.internal, "\(path): struct dirent without a name")
    }
    var names: [Name] = []
    while true {
      errno = 0
      guard let entry = readdir(stream) else {
        guard errno == 0 else { throw Files.failure("cannot be read", path) }
        return names
      }
      // Safe: because readdir's names end with NUL; the record is shorter than the
      // struct, so the name is read in place.
      let start = UnsafeRawPointer(entry) + nameOffset
      let name = start.assumingMemoryBound(to: CChar.self)
      let bytes = Array(UnsafeBufferPointer(start: name, count: strlen(name) + 1))
      if bytes != [0x2E, 0] && bytes != [0x2E, 0x2E, 0] { names.append(bytes) }
    }
  }

  /// The entry itself, links not followed; nil when it is not there.
  func status(_ name: Name) throws -> stat? {
    var status = stat()
    if fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0 { return status }
    guard errno == ENOENT else { throw failure("cannot be examined", name) }
    return nil
  }

  func failure(_ action: String, _ name: Name, _ code: Int32 = Glibc.errno) -> LorascError {
    Files.failure(action, Files.join(path, Self.text(name)), code)
  }

  static func text(_ name: Name) -> String {
    String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

/// What `AtomicFolder` does with whole trees.
enum FolderTree {
  /// Bounds the recursion and the descriptors that are open at once.
  static let deepest = 100

  static func checkDepth(_ depth: Int, _ folder: OpenFolder) throws {
    guard depth <= deepest else {
      throw LorascError(
        .io, "\(folder.path): folders are nested deeper than \(deepest)", subject: folder.path)
    }
  }

  /// Makes every file's bytes last, then every folder's names, innermost first.
  static func sync(_ folder: OpenFolder, files: Bool, calls: FileCalls, depth: Int = 0) throws {
    try checkDepth(depth, folder)
    for name in try folder.names() {
      guard let status = try folder.status(name) else { continue }
      if Files.isFolder(status) {
        try sync(folder.child(name), files: files, calls: calls, depth: depth + 1)
      } else if files, Files.isRegular(status) {
        let flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
        let descriptor = Files.retry { openat(folder.descriptor, name, flags) }
        guard descriptor >= 0 else { throw folder.failure("cannot be opened", name) }
        defer { close(descriptor) }
        guard Files.retry({ calls.fsync(descriptor) }) == 0 else {
          throw folder.failure("cannot be synchronized", name)
        }
      }
    }
    guard Files.retry({ calls.fsync(folder.descriptor) }) == 0 || errno == EINVAL else {
      throw Files.failure("cannot be synchronized", folder.path)
    }
  }

  /// Removes everything below a folder that this library made.
  static func empty(_ folder: OpenFolder, depth: Int = 0) throws {
    try checkDepth(depth, folder)
    for name in try folder.names() {
      guard let status = try folder.status(name) else { continue }
      let isFolder = Files.isFolder(status)
      if isFolder { try empty(folder.child(name), depth: depth + 1) }
      guard unlinkat(folder.descriptor, name, isFolder ? AT_REMOVEDIR : 0) == 0 || errno == ENOENT
      else { throw folder.failure("cannot be removed", name) }
    }
  }

  static func remove(path: String) throws {
    try empty(OpenFolder(path: path))
    guard rmdir(path) == 0 else { throw Files.failure("cannot be removed", path) }
  }
}
