import Glibc

/// A block of memory of one trivial type, 64-byte aligned and zeroed. Every
/// allocation that grows with the input comes from here, so that running out of
/// memory is an error and never a trap.
final class AlignedBuffer<Element>: @unchecked Sendable {
  let count: Int
  private let byteCount: Int
  private let isMapped: Bool
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
    let rounded = max(64, (bytes + 63) / 64 * 64)
    isMapped = rounded >= Self.mapped
    byteCount = rounded
    let (raw, code) = isMapped ? Self.map(rounded) : Self.allocate(rounded)
    guard let raw else {
      throw LorascError(
        .outOfMemory, "\(what): \(bytes) bytes could not be allocated", subject: what, errno: code)
    }
    self.count = count
    // Safe: because the block is at least `count` strides long and aligned to 64.
    pointer = raw.bindMemory(to: Element.self, capacity: count)
  }

  deinit {
    if isMapped { munmap(pointer, byteCount) } else { free(pointer) }
  }

  private static func allocate(_ bytes: Int) -> (UnsafeMutableRawPointer?, Int32) {
    var raw: UnsafeMutableRawPointer?
    let code = posix_memalign(&raw, 64, bytes)
    guard code == 0, let raw else { return (nil, code) }
    memset(raw, 0, bytes)
    return (raw, 0)
  }

  /// From this size on pages come from the kernel, which hands them out zeroed when they are first
  /// used, and large ones in huge pages where the system has them on request.
  private static var mapped: Int { 128 << 10 }
  private static var huge: Int { 2 << 20 }

  private static func map(_ bytes: Int) -> (UnsafeMutableRawPointer?, Int32) {
    guard bytes >= huge else { return pages(bytes) }
    let (whole, overflow) = bytes.addingReportingOverflow(huge)
    guard !overflow else { return (nil, ENOMEM) }
    let (found, code) = pages(whole)
    guard let start = found else { return (nil, code) }
    // Huge pages start at multiples of their size; what is left on both sides goes back.
    let page = Int(getpagesize())
    let before = (huge - Int(bitPattern: start) % huge) % huge
    let used = (bytes + page - 1) / page * page
    if before > 0 { munmap(start, before) }
    if whole > before + used { munmap(start + before + used, whole - before - used) }
    madvise(start + before, used, MADV_HUGEPAGE)
    return (start + before, 0)
  }

  private static func pages(_ bytes: Int) -> (UnsafeMutableRawPointer?, Int32) {
    let start = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let start, start != MAP_FAILED else { return (nil, errno) }
    return (start, 0)
  }

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
