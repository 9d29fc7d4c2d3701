import Glibc
import Synchronization
import Testing

@testable import Lorasc

/// A folder of the test's own, removed with the object.
final class ScratchFolder {
  let path: String

  init() throws {
    var template = Array("/tmp/lorasc-formats-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw Files.failure("cannot be made", "/tmp") }
    path = OpenFolder.text(template)
  }

  deinit { try? FolderTree.remove(path: path) }

  subscript(name: String) -> String { path + "/" + name }

  func put(_ name: String, _ text: String) throws {
    try put(name, Array(text.utf8))
  }

  func put(_ name: String, _ bytes: [UInt8]) throws {
    let descriptor = open(self[name], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    try #require(descriptor >= 0, "\(self[name])")
    defer { close(descriptor) }
    let put = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
    try #require(put == bytes.count)
  }

  func text(_ name: String) throws -> String {
    String(decoding: try MappedFile.readAll(path: self[name]), as: UTF8.self)
  }

  /// Every path below the folder with its content, links as "-> target".
  func tree(_ name: String = "") throws -> [String: String] {
    var found: [String: String] = [:]
    let root = try OpenFolder(path: self[name])
    for child in try root.names() {
      let childName = OpenFolder.text(child)
      let relative = name.isEmpty ? childName : name + "/" + childName
      let status = try #require(try root.status(child))
      switch status.st_mode & S_IFMT {
      case S_IFDIR:
        found[relative] = "(folder)"
        try found.merge(tree(relative)) { _, new in new }
      case S_IFLNK:
        var target = [CChar](repeating: 0, count: 4097)
        _ = readlink(self[relative], &target, 4096)
        found[relative] = "-> " + OpenFolder.text(Array(target.prefix { $0 != 0 }) + [0])
      default: found[relative] = try text(relative)
      }
    }
    return found
  }
}

/// The body must throw this status; its message must contain all of `words`.
func expectFailure(
  _ status: Status, _ words: String..., location: SourceLocation = #_sourceLocation,
  _ body: () throws -> Void
) {
  do {
    try body()
    Issue.record("no error where \(status) is due", sourceLocation: location)
  } catch let error as LorascError {
    #expect(error.status == status, "\(error)", sourceLocation: location)
    for word in words {
      #expect(error.message.contains(word), "\(error) names no \(word)", sourceLocation: location)
    }
  } catch {
    Issue.record("\(error)", sourceLocation: location)
  }
}

/// splitmix64: the same inputs in each run.
struct FixedRandom: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }
}

/// Changes a few bytes: flips, overwrites with syntax, cuts, repeats, inserts.
func mutate(_ bytes: [UInt8], _ random: inout FixedRandom) -> [UInt8] {
  var bytes = bytes
  let syntax = Array("{}[]\",:\\0123456789-+.eEu\u{0}/tfn ".utf8) + [0xFF, 0xC3, 0xED, 0x80]
  for _ in 0..<Int.random(in: 1...4, using: &random) {
    guard !bytes.isEmpty else { break }
    let place = Int.random(in: 0..<bytes.count, using: &random)
    switch Int.random(in: 0..<7, using: &random) {
    case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    case 1: bytes[place] = UInt8.random(in: 0...255, using: &random)
    case 2: bytes[place] = syntax.randomElement(using: &random) ?? 0
    case 3: bytes.removeSubrange(place..<min(bytes.count, place + 3))
    case 4: bytes.insert(syntax.randomElement(using: &random) ?? 0, at: place)
    case 5:
      let end = min(bytes.count, place + Int.random(in: 1...12, using: &random))
      bytes.insert(contentsOf: bytes[place..<end], at: place)
    default: bytes.swapAt(place, Int.random(in: 0..<bytes.count, using: &random))
    }
  }
  return bytes
}

/// System calls of which the N-th fails; counts them all.
final class FaultyCalls: Sendable {
  private let count = Mutex(0)
  let failing: Int
  let code: Int32

  init(failing: Int, code: Int32 = EIO) {
    self.failing = failing
    self.code = code
  }

  var made: Int { count.withLock { $0 } }

  private func fails() -> Bool {
    let fails = count.withLock { count in
      count += 1
      return count == failing
    }
    if fails { errno = code }
    return fails
  }

  /// Writes go a few bytes at a time, so that each file takes several.
  var calls: FileCalls {
    let system = FileCalls.system
    return FileCalls(
      write: { self.fails() ? -1 : system.write($0, $1, min($2, 7)) },
      reserve: { self.fails() ? self.code : system.reserve($0, $1) },
      fsync: { self.fails() ? -1 : system.fsync($0) },
      rename: { self.fails() ? -1 : system.rename($0, $1) },
      exchange: { self.fails() ? -1 : system.exchange($0, $1) },
      link: { self.fails() ? -1 : system.link($0, $1, $2, $3) })
  }
}

/// A safetensors file put together by hand: no help from the writer under test.
func safetensors(header: String, data: Int = 0) -> [UInt8] {
  let length = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) }
  return length + Array(header.utf8) + (0..<data).map { UInt8(truncatingIfNeeded: $0 * 7 + 1) }
}

/// A copy of an entry's bytes.
func content(_ file: SafetensorsFile, _ entry: TensorEntry) -> [UInt8] {
  withExtendedLifetime(file) { Array(file.bytes(of: entry)) }
}
