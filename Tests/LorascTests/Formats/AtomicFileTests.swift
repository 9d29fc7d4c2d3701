import Glibc
import Testing

@testable import Lorasc

@Suite struct FormatsAtomicFileTests {
  @Test func replaces() throws {
    let scratch = try ScratchFolder()
    try AtomicFile.write("one", to: scratch["file"])
    #expect(try scratch.tree() == ["file": "one"])
    let file = try AtomicFile(path: scratch["file"], reserve: 100_000)
    try file.write("tw")
    try file.write("")
    try file.write("o")
    #expect(file.written == 3)
    #expect(try scratch.text("file") == "one")
    try file.commit()
    #expect(try scratch.tree() == ["file": "two"])
    expectFailure(.state) { try file.commit() }
    let mode = umask(0)
    umask(mode)
    #expect(Files.status(of: scratch["file"]).map { $0.st_mode & 0o7777 } == 0o666 & ~mode)
  }

  @Test func abandoned() throws {
    let scratch = try ScratchFolder()
    try scratch.put("file", "old")
    do {
      let file = try AtomicFile(path: scratch["file"])
      try file.write("new")
      #expect(try scratch.tree().count == 2)
    }
    #expect(try scratch.tree() == ["file": "old"])
  }

  @Test func twoWriters() throws {
    let scratch = try ScratchFolder()
    let first = try AtomicFile(path: scratch["file"])
    let second = try AtomicFile(path: scratch["file"])
    try first.write("first")
    try second.write("second, longer")
    try first.commit()
    try second.commit()
    #expect(try scratch.tree() == ["file": "second, longer"])
  }

  @Test func names() throws {
    let scratch = try ScratchFolder()
    let longest = String(repeating: "é", count: 127) + "x"
    try AtomicFile.write("x", to: scratch[longest])
    #expect(try scratch.text(longest) == "x")
    symlink("target", scratch["link"])
    try scratch.put("target", "kept")
    try AtomicFile.write("new", to: scratch["link"])
    #expect(try scratch.text("target") == "kept" && scratch.text("link") == "new")
    #expect(Files.split("a/b/") == ("a", "b") && Files.split("/a") == ("/", "a"))
    #expect(Files.split("a") == (".", "a") && Files.split("/") == ("/", ""))
  }

  @Test func refuses() throws {
    let scratch = try ScratchFolder()
    try scratch.put("file", "x")
    expectFailure(.argument) { _ = try AtomicFile(path: "") }
    expectFailure(.argument, "NUL") { _ = try AtomicFile(path: scratch["a\u{0}b"]) }
    expectFailure(.argument) { _ = try AtomicFile(path: scratch["new/"]) }
    expectFailure(.argument) { _ = try AtomicFile(path: scratch["absent/.."]) }
    expectFailure(.io, "is a folder") { _ = try AtomicFile(path: scratch.path) }
    expectFailure(.io) { _ = try AtomicFile(path: "/" + String(repeating: "x/", count: 3000)) }
    expectFailure(.io) {
      _ = try AtomicFile(path: scratch[String(repeating: "n", count: 256)])
        .commit()
    }
    expectFailure(.notFound, "absent/x") { _ = try AtomicFile(path: scratch["absent/x"]) }
    expectFailure(.notFound, "file/x") { _ = try AtomicFile(path: scratch["file/x"]) }
    // Nobody, root included, makes files there.
    expectFailure(.notFound) { _ = try AtomicFile(path: "/proc/lorasc") }
    #expect(try scratch.tree() == ["file": "x"])
  }

  /// A real full disk: the write fails, the old file stays, nothing is left.
  @Test func reserveBeyondTheDisk() throws {
    let scratch = try ScratchFolder()
    try scratch.put("file", "old")
    expectFailure(.io, "file", "reserved") {
      _ = try AtomicFile(path: scratch["file"], reserve: 1 << 60)
    }
    #expect(try scratch.tree() == ["file": "old"])
  }

  @Test(arguments: [EIO, ENOSPC, EDQUOT])
  func eachCallFails(_ code: Int32) throws {
    let text = String(repeating: "0123456789", count: 5)
    var sawSuccess = false
    for failing in 1..<100 where !sawSuccess {
      let scratch = try ScratchFolder()
      try scratch.put("file", "old")
      let faulty = FaultyCalls(failing: failing, code: code)
      do {
        try AtomicFile.write(text, to: scratch["file"], calls: faulty.calls)
        sawSuccess = true
        #expect(faulty.made == failing - 1 && failing > 10)
      } catch let error as LorascError {
        #expect(error.status == .io && error.errno == code && !error.message.isEmpty)
      }
      let tree = try scratch.tree()
      // Only the very last call, the folder's fsync, comes after the rename.
      #expect(tree == ["file": "old"] || tree == ["file": text])
      #expect(sawSuccess || tree == ["file": "old"] || faulty.made == 12)
    }
    #expect(sawSuccess)
  }

  @Test func interruptedCallsGoOn() throws {
    let scratch = try ScratchFolder()
    for failing in 1...10 {
      let faulty = FaultyCalls(failing: failing, code: EINTR)
      let rename = 11 - 1
      if failing == rename { continue }
      try AtomicFile.write(
        String(repeating: "x", count: 49), to: scratch["file"], calls: faulty.calls)
      #expect(try scratch.text("file").utf8.count == 49)
    }
  }

  @Test func writerWithFaults() throws {
    let tensor = SafetensorsWriter.Tensor(name: "t", type: .f32, shape: [4])
    for failing in 1..<200 {
      let scratch = try ScratchFolder()
      try scratch.put("x", "old")
      let faulty = FaultyCalls(failing: failing)
      do {
        try SafetensorsWriter.write(
          path: scratch["x"], tensors: [(tensor, [UInt8](repeating: 1, count: 16))],
          calls: faulty.calls)
        #expect(try SafetensorsFile(path: scratch["x"]).entries.count == 1)
        return
      } catch let error as LorascError {
        let tree = try scratch.tree()
        #expect(error.status == .io && tree.count == 1)
        if tree["x"] != "old" { _ = try SafetensorsFile(path: scratch["x"]) }
      }
    }
    Issue.record("never succeeded")
  }
}
