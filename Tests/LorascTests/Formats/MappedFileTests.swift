import Glibc
import Testing

@testable import Lorasc

@Suite struct FormatsMappedFileTests {
  private static let readers: [@Sendable (String) throws -> [UInt8]] = [
    { path in
      let file = try MappedFile(path: path)
      return withExtendedLifetime(file) { Array(file.bytes) }
    },
    { path in
      let file = try OwnedFile(path: path)
      return withExtendedLifetime(file) { Array(file.bytes) }
    },
    { try MappedFile.readAll(path: $0) },
  ]

  @Test(arguments: 0..<3) func reads(_ reader: Int) throws {
    let read = Self.readers[reader]
    let scratch = try ScratchFolder()
    for size in [0, 1, 7, 4095, 4096, 4097, 3_000_000] {
      let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
      try scratch.put("file", bytes)
      #expect(try read(scratch["file"]) == bytes)
    }
    symlink("file", scratch["link"])
    #expect(try read(scratch["link"]).count == 3_000_000)
  }

  @Test(arguments: 0..<3) func refuses(_ reader: Int) throws {
    let read = Self.readers[reader]
    let scratch = try ScratchFolder()
    try scratch.put("file", "x")
    expectFailure(.notFound, "absent") { _ = try read(scratch["absent"]) }
    expectFailure(.notFound, "file/below") { _ = try read(scratch["file/below"]) }
    expectFailure(.io, "is a folder") { _ = try read(scratch.path) }
    expectFailure(.argument) { _ = try read("") }
    expectFailure(.argument, "NUL") { _ = try read(scratch["fi\u{0}le"]) }
    expectFailure(.io, "longer") { _ = try read("/" + String(repeating: "a/", count: 4000)) }
    expectFailure(.io) { _ = try read("/" + String(repeating: "a", count: 300)) }
    mkfifo(scratch["pipe"], 0o600)
    expectFailure(.io, "not a regular file") { _ = try read(scratch["pipe"]) }
    expectFailure(.io, "not a regular file") { _ = try read("/dev/null") }
    symlink("loop", scratch["loop"])
    expectFailure(.io) { _ = try read(scratch["loop"]) }
    do { _ = try read(scratch["absent"]) } catch let error as LorascError {
      #expect(error.errno == ENOENT && error.subject == scratch["absent"])
    }
  }

  @Test func limit() throws {
    let scratch = try ScratchFolder()
    try scratch.put("file", "12345")
    #expect(try MappedFile.readAll(path: scratch["file"], limit: 5).count == 5)
    expectFailure(.limit, "file") { _ = try MappedFile.readAll(path: scratch["file"], limit: 4) }
    // Its size is announced as 0.
    #expect(try !MappedFile.readAll(path: "/proc/self/status").isEmpty)
    expectFailure(.limit) { _ = try MappedFile.readAll(path: "/proc/self/status", limit: 10) }
  }
}
