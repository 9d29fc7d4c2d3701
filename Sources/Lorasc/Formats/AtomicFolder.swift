import Glibc

/// A folder that changes from its old content to the new in one step.
///
/// Files are staged in a hidden sibling folder. `commit` synchronizes the stage, gives
/// it everything the old folder has and the stage hasn't (a user's own files stay),
/// swaps the two names atomically and removes the old folder. Until the swap, and after
/// any error, the destination is what it was; without a commit the stage goes with the
/// object. A process that is killed may leave `.NAME.PID.RANDOM.tmp` beside the folder:
/// it holds nothing that the destination lacks and may be deleted.
///
/// The parent folder must exist. A destination that is a symbolic link to a folder is
/// followed. A mount point can't be swapped: `.io`, save into a folder below it. On a
/// file system without atomic exchange (RENAME_EXCHANGE) two renames stand in, between
/// which a killed process leaves the old folder under its temporary name. Files that
/// somebody adds to the old folder during the commit are carried over too; two writers
/// at once each leave a whole set, the later one stays. Not for use by two threads.
final class AtomicFolder {
  /// The destination, absolute, links resolved.
  let path: String
  /// Where the old content is, when it could not be removed after a commit.
  private(set) var leftover: String?
  private let stage: String
  private let parent: String
  private let calls: FileCalls
  private var isStageOurs = true
  private var isDone = false

  init(path: String, calls: FileCalls = .system) throws {
    try Files.check(path: path)
    let resolved = try Self.resolve(path)
    let (parent, name) = Files.split(resolved)
    guard !name.isEmpty, name != ".", name != ".." else {
      throw LorascError(.argument, "\(path): is no name of a folder to write", subject: path)
    }
    var stage = ""
    var made: Int32 = -1
    for _ in 0..<16 {
      stage = Files.join(parent, Files.temporaryName(for: name))
      made = mkdir(stage, 0o777)
      if made == 0 || errno != EEXIST { break }
    }
    guard made == 0 else { throw Files.failure("cannot be created", path) }
    self.path = resolved
    self.parent = parent
    self.stage = stage
    self.calls = calls
  }

  deinit {
    // Nothing can be reported from here; what can't be removed is hidden and harmless.
    if isStageOurs { try? FolderTree.remove(path: stage) }
  }

  /// The path to write a file of the new folder to, such as "1_Pooling/config.json";
  /// folders on the way are made.
  func path(of relative: String) throws -> String {
    guard !isDone else { throw LorascError(.state, "\(path): is committed", subject: path) }
    let parts = relative.split(separator: "/", omittingEmptySubsequences: false)
    guard !relative.utf8.contains(0), parts.allSatisfy({ !["", ".", ".."].contains($0) }) else {
      throw LorascError(
        .argument, "\(path): \(quoted(relative)) is no path below the folder", subject: relative)
    }
    var folder = stage
    for part in parts.dropLast() {
      folder = Files.join(folder, String(part))
      guard mkdir(folder, 0o777) == 0 || errno == EEXIST else {
        throw Files.failure("cannot be created", folder)
      }
    }
    return Files.join(stage, relative)
  }

  func write(_ text: String, to relative: String) throws {
    try AtomicFile.write(text, to: path(of: relative), calls: calls)
  }

  func copyFile(from source: String, to relative: String) throws {
    let (descriptor, size) = try Files.openForReading(source)
    defer { close(descriptor) }
    let file = try AtomicFile(path: path(of: relative), reserve: size, calls: calls)
    try FolderTree.copyBytes(from: descriptor, path: source) { try file.write($0) }
    try file.commit()
  }

  /// Puts the folder in place.
  /// - Parameter isStale: answers true for a file of the old folder (given by its path
  ///   below the folder) that must not survive; see `isOldWeights`.
  func commit(dropping isStale: (String) -> Bool = { _ in false }) throws {
    guard !isDone else { throw LorascError(.state, "\(path): is committed", subject: path) }
    // The descriptor follows the folder through the renames.
    let new = try OpenFolder(path: stage)
    try FolderTree.sync(new, files: true, calls: calls)
    guard let status = Files.status(of: path) else {
      try putInPlace()
      return
    }
    guard Files.isFolder(status) else { throw Self.notFolder(path) }
    let old = try OpenFolder(path: path)
    try FolderTree.carryOver(from: old, to: new, calls: calls, isStale: isStale)
    try FolderTree.sync(new, files: false, calls: calls)
    guard fchmod(new.descriptor, status.st_mode & 0o7777) == 0 else {
      throw Files.failure("cannot get its permissions", path)
    }
    try exchange(old: old, new: new, isStale: isStale)
  }

  private func putInPlace() throws {
    guard calls.rename(stage, path) == 0 else {
      throw Files.failure("cannot be put in place", path)
    }
    do { try Files.syncFolder(parent, calls: calls) } catch {
      isStageOurs = calls.rename(path, stage) == 0
      isDone = true
      throw error
    }
    isStageOurs = false
    isDone = true
  }

  private func exchange(
    old: OpenFolder, new: OpenFolder, isStale: (String) -> Bool
  ) throws {
    var swap = { [calls, stage, path] in calls.exchange(stage, path) }
    if swap() != 0 {
      guard errno == EINVAL || errno == ENOSYS else {
        throw Files.failure("cannot be put in place", path)
      }
      swap = { [calls, stage, path] in Self.swapByRenames(stage, path, calls) }
      guard swap() == 0 else { throw Files.failure("cannot be put in place", path) }
    }
    // From here on the stage's name leads to the old content.
    isStageOurs = false
    isDone = true
    do {
      try Files.syncFolder(parent, calls: calls)
      try FolderTree.carryOver(from: old, to: new, calls: calls, isStale: isStale)
    } catch {
      // Back to the old content, so that an error means that nothing has changed.
      isStageOurs = swap() == 0
      if !isStageOurs { leftover = stage }
      throw error
    }
    do { try FolderTree.remove(path: stage) } catch { leftover = stage }
  }

  /// 0, or -1 with errno and both names as they were.
  private static func swapByRenames(_ a: String, _ b: String, _ calls: FileCalls) -> Int32 {
    let between = a + ".old"
    guard calls.rename(b, between) == 0 else { return -1 }
    guard calls.rename(a, b) == 0 else {
      let code = errno
      _ = calls.rename(between, b)
      errno = code
      return -1
    }
    // The new content is in place; the old one only lacks the name it is removed by.
    guard calls.rename(between, a) == 0 else {
      let code = errno
      if calls.rename(b, a) == 0 { _ = calls.rename(between, b) }
      errno = code
      return -1
    }
    return 0
  }

  /// Weights as transformers names them, at the top of a model's folder: one file or
  /// shards, and their indices. Left beside new weights they would be loaded instead.
  static func isOldWeights(_ relative: String) -> Bool {
    for (stem, suffix) in [("model", ".safetensors"), ("pytorch_model", ".bin")] {
      if relative == stem + suffix || relative == stem + suffix + ".index.json" { return true }
      guard relative.hasPrefix(stem + "-"), relative.hasSuffix(suffix) else { continue }
      let number = relative.dropFirst(stem.count + 1).dropLast(suffix.count)
      let parts = number.split(separator: "-", omittingEmptySubsequences: false)
      let isDigits = { (part: Substring) in
        part.utf8.count == 5 && part.utf8.allSatisfy { 0x30...0x39 ~= $0 }
      }
      if parts.count == 3, parts[1] == "of", isDigits(parts[0]), isDigits(parts[2]) { return true }
    }
    return false
  }

  /// Absolute, so that a host that changes its working folder does no harm.
  private static func resolve(_ path: String) throws -> String {
    func real(_ path: String) throws -> String {
      guard let resolved = realpath(path, nil) else {
        throw Files.failure("cannot be resolved", path)
      }
      defer { free(resolved) }
      return String(cString: resolved)
    }
    if let status = Files.status(of: path) {
      guard Files.isFolder(status) else { throw notFolder(path) }
      return try real(path)
    }
    guard errno == ENOENT else { throw Files.failure("cannot be examined", path) }
    var status = stat()
    let (folder, name) = Files.split(path)
    guard lstat(Files.join(folder, name), &status) != 0 else {
      throw LorascError(.io, "\(path): is a symbolic link to nothing", subject: path)
    }
    return Files.join(try real(folder), name)
  }

  private static func notFolder(_ path: String) -> LorascError {
    LorascError(.io, "\(path): is not a folder", subject: path, errno: ENOTDIR)
  }
}
