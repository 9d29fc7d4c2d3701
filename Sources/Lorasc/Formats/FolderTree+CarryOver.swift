import Glibc

extension FolderTree {
  /// Gives `new` everything of `old` that it doesn't have: files and symbolic links as
  /// hard links (the very same file, no bytes move), folders by recursion. Where the
  /// file system refuses a hard link, files are copied and symbolic links made again.
  ///
  /// - Parameter isStale: told the path below the outermost folder; what it answers
  ///   true for is left behind. Not asked for folders.
  /// - Throws: `.io` when one has a folder where the other has none: neither may be
  ///   lost.
  static func carryOver(
    from old: OpenFolder, to new: OpenFolder, below prefix: String = "", calls: FileCalls,
    depth: Int = 0, isStale: (String) -> Bool
  ) throws {
    try checkDepth(depth, old)
    for name in try old.names() {
      // Gone meanwhile: another writer's temporary.
      guard let status = try old.status(name) else { continue }
      let path = prefix + OpenFolder.text(name)
      if !Files.isFolder(status), isStale(path) { continue }
      if let present = try new.status(name) {
        let isFolder = Files.isFolder(present)
        guard isFolder == Files.isFolder(status) else {
          throw LorascError(
            .io, "\(old.path): \(quoted(path)) would \(isFolder ? "become" : "replace") a folder",
            subject: path, errno: isFolder ? ENOTDIR : EISDIR)
        }
        guard isFolder else { continue }
      } else if Files.isFolder(status) {
        // Before the folder is made, or the stage would be too deep to be removed.
        try checkDepth(depth + 1, old)
        guard mkdirat(new.descriptor, name, 0o777) == 0 else {
          throw new.failure("cannot be created", name)
        }
      } else {
        try carry(name, status, from: old, to: new, calls: calls)
        continue
      }
      let (oldChild, newChild) = (try old.child(name), try new.child(name))
      try carryOver(
        from: oldChild, to: newChild, below: path + "/", calls: calls, depth: depth + 1,
        isStale: isStale)
      // Last, because a read-only folder takes no files.
      guard fchmod(newChild.descriptor, status.st_mode & 0o7777) == 0 else {
        throw new.failure("cannot get its permissions", name)
      }
    }
  }

  private static func carry(
    _ name: OpenFolder.Name, _ status: stat, from old: OpenFolder, to new: OpenFolder,
    calls: FileCalls
  ) throws {
    if calls.link(old.descriptor, name, new.descriptor, name) == 0 { return }
    let code = errno
    if code == ENOENT { return }
    switch status.st_mode & S_IFMT {
    case S_IFREG: try copy(name, status, from: old, to: new, calls: calls)
    case S_IFLNK: try copyLink(name, from: old, to: new)
    default: throw old.failure("cannot be linked", name, code)
    }
  }

  private static func copyLink(
    _ name: OpenFolder.Name, from old: OpenFolder, to new: OpenFolder
  ) throws {
    var target = OpenFolder.Name(repeating: 0, count: Int(PATH_MAX) + 1)
    let length = readlinkat(old.descriptor, name, &target, Int(PATH_MAX))
    // The last byte stays 0, so the target ends with NUL.
    guard length >= 0 else { throw old.failure("cannot be read", name) }
    guard symlinkat(target, new.descriptor, name) == 0 else {
      throw new.failure("cannot be created", name)
    }
  }

  private static func copy(
    _ name: OpenFolder.Name, _ status: stat, from old: OpenFolder, to new: OpenFolder,
    calls: FileCalls
  ) throws {
    let reading = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
    let source = Files.retry { openat(old.descriptor, name, reading) }
    guard source >= 0 else { throw old.failure("cannot be opened", name) }
    defer { close(source) }
    let writing = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
    let target = Files.retry { openat(new.descriptor, name, writing, 0o600) }
    guard target >= 0 else { throw new.failure("cannot be created", name) }
    defer { close(target) }
    let path = Files.join(new.path, OpenFolder.text(name))
    try copyBytes(from: source, path: path) { bytes in
      try Files.write(bytes, to: target, path: path, calls: calls)
    }
    guard fchmod(target, status.st_mode & 0o7777) == 0 else {
      throw new.failure("cannot get its permissions", name)
    }
    guard Files.retry({ calls.fsync(target) }) == 0 else {
      throw new.failure("cannot be synchronized", name)
    }
  }

  /// Hands a file's bytes to `write`, a block at a time.
  static func copyBytes(
    from source: Int32, path: String, write: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    let block = try AlignedBuffer<UInt8>(count: 1 << 20, what: path)
    try withExtendedLifetime(block) {
      while true {
        let got = try Files.read(source, into: block.pointer, count: block.count, path: path)
        // Safe: because got <= block.count.
        try write(UnsafeRawBufferPointer(start: block.pointer, count: got))
        if got < block.count { return }
      }
    }
  }
}
