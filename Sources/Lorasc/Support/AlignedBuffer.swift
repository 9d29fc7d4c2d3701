import Glibc

/// A block of memory of one trivial type, 64-byte aligned and zeroed. Every
/// allocation that grows with the input comes from here, so that running out of
/// memory is an error and never a trap.
final class AlignedBuffer<Element>: @unchecked Sendable {
  let count: Int
  let pointer: UnsafeMutablePointer<Element>

  /// - Throws: `.outOfMemory` when `count` elements do not fit the address space
  ///   or the allocator refuses.
  init(count: Int, what: String) throws {
    precondition(_isPOD(Element.self))
    let (bytes, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<Element>.stride)
    guard count >= 0, !overflow, bytes <= Int.max - 64 else {
      throw LorascError(
        .outOfMemory, "\(what): \(count) elements do not fit in memory", subject: what)
    }
    var raw: UnsafeMutableRawPointer?
    let rounded = max(64, (bytes + 63) / 64 * 64)
    let code = posix_memalign(&raw, 64, rounded)
    guard code == 0, let raw else {
      throw LorascError(
        .outOfMemory, "\(what): \(bytes) bytes could not be allocated", subject: what, errno: code)
    }
    memset(raw, 0, rounded)
    self.count = count
    // Safe: because the block is at least `count` strides long and aligned to 64.
    pointer = raw.bindMemory(to: Element.self, capacity: count)
  }

  deinit { free(pointer) }

  subscript(index: Int) -> Element {
    get {
      precondition(index >= 0 && index < count)
      return pointer[index]
    }
    set {
      precondition(index >= 0 && index < count)
      pointer[index] = newValue
    }
  }

  /// A copy. `pointer`, `raw` and `buffer` are valid only while this object lives, which
  /// Swift may end after its last use.
  var values: [Element] { withExtendedLifetime(self) { Array(buffer) } }

  var raw: UnsafeRawBufferPointer { UnsafeRawBufferPointer(buffer) }
  var buffer: UnsafeMutableBufferPointer<Element> {
    UnsafeMutableBufferPointer(start: pointer, count: count)
  }
}

typealias FloatBuffer = AlignedBuffer<Float>
