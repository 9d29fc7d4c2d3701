import CSupport
import Lorasc
import Synchronization

/// Handles are numbers in a pointer's clothes, never dereferenced: a mark that no address
/// carries, the kind, a generation and a slot. A freed, foreign or wrong-kind handle does
/// not fit its slot and is refused.
enum HandleKind: UInt64 {
  case options = 1
  case model = 2
  case dataset = 3
  case adapter = 4
  case trainer = 5
  case layer = 6

  var name: String {
    switch self {
    case .options: "lorasc_options"
    case .model: "lorasc_model"
    case .dataset: "lorasc_dataset"
    case .adapter: "lorasc_adapter"
    case .trainer: "lorasc_trainer"
    case .layer: "lorasc_layer"
    }
  }
}

struct Handle {
  private static let mark: UInt64 = 0xA
  static let generationLimit: UInt64 = 1 << 36

  let kind: UInt64
  let generation: UInt64
  let slot: Int

  init(kind: HandleKind, generation: UInt64, slot: Int) {
    self.kind = kind.rawValue
    self.generation = generation
    self.slot = slot
  }

  /// nil for what is no handle of this library.
  init?(_ pointer: OpaquePointer?) {
    let bits = UInt64(UInt(bitPattern: pointer))
    guard bits >> 60 == Self.mark else { return nil }
    kind = bits >> 56 & 0xF
    generation = bits >> 20 & (Self.generationLimit - 1)
    slot = Int(bits & 0xF_FFFF)
  }

  var pointer: OpaquePointer? {
    let bits = Self.mark << 60 | kind << 56 | generation << 20 | UInt64(slot)
    return OpaquePointer(bitPattern: UInt(bits))
  }

  /// What the slot's interrupt word holds while the handle lives: at rest, and interrupted.
  var armed: UInt64 { generation << 1 }
  var fired: UInt64 { generation << 1 | 1 }
}

/// All living handles of the process.
enum Handles {
  private struct Slot {
    var generation: UInt64 = 0
    var kind: UInt64 = 0
    var references = 0
    var object: AnyObject?
  }
  private struct Table {
    var slots: [Slot] = []
    var free: [Int] = []
  }
  // Safe: because every access holds the lock.
  private struct Box: @unchecked Sendable { var table = Table() }
  private static let table = Mutex(Box())

  /// Takes a slot and makes the object for it: `make` gets the handle to be.
  /// - Throws: `.limit` when all slots are taken, and what `make` throws.
  static func add(_ kind: HandleKind, _ make: (Handle) throws -> AnyObject) throws -> OpaquePointer?
  {
    let handle: Handle = try table.withLock { box in
      let slot: Int
      if let free = box.table.free.popLast() {
        slot = free
      } else {
        slot = box.table.slots.count
        guard slot < Int(LORASC_SLOT_COUNT) else {
          throw LorascError(.limit, "more than \(LORASC_SLOT_COUNT) handles are in use")
        }
        box.table.slots.append(Slot())
      }
      box.table.slots[slot].generation =
        (box.table.slots[slot].generation + 1) % Handle.generationLimit
      return Handle(kind: kind, generation: box.table.slots[slot].generation, slot: slot)
    }
    do {
      let object = try make(handle)
      table.withLock { box in
        box.table.slots[handle.slot].kind = kind.rawValue
        box.table.slots[handle.slot].references = 1
        box.table.slots[handle.slot].object = object
      }
      return handle.pointer
    } catch {
      table.withLock { $0.table.free.append(handle.slot) }
      throw error
    }
  }

  /// - Throws: `.handle` for anything but a living handle of the kind.
  static func object<Object: AnyObject>(
    _ pointer: OpaquePointer?, _ kind: HandleKind, as type: Object.Type = Object.self
  ) throws -> Object {
    guard let pointer else {
      throw LorascError(.handle, "the \(kind.name) handle is NULL", subject: kind.name)
    }
    let found: AnyObject? = table.withLock { box in
      guard let handle = Handle(pointer), fits(handle, kind, box.table) else { return nil }
      return box.table.slots[handle.slot].object
    }
    guard let object = found as? Object else {
      throw LorascError(
        .handle, "this is no living \(kind.name) handle: freed, of another kind, or foreign",
        subject: kind.name)
    }
    return object
  }

  static func retain(_ pointer: OpaquePointer?, _ kind: HandleKind) throws {
    let isRetained = table.withLock { box in
      guard let handle = Handle(pointer), fits(handle, kind, box.table) else { return false }
      box.table.slots[handle.slot].references += 1
      return true
    }
    guard isRetained else {
      throw LorascError(.handle, "this is no living \(kind.name) handle", subject: kind.name)
    }
  }

  /// Gives one reference back; anything but a living handle of the kind is left alone.
  static func release(_ pointer: OpaquePointer?, _ kind: HandleKind) {
    let last: AnyObject? = table.withLock { box in
      guard let handle = Handle(pointer), fits(handle, kind, box.table) else { return nil }
      box.table.slots[handle.slot].references -= 1
      guard box.table.slots[handle.slot].references == 0 else { return nil }
      let object = box.table.slots[handle.slot].object
      box.table.slots[handle.slot].object = nil
      box.table.slots[handle.slot].kind = 0
      if let word = lorasc_slot_word(handle.slot) { lorasc_atomic_store(word, 0) }
      box.table.free.append(handle.slot)
      return object
    }
    // Destroyed outside the lock: that may take long, and may release other handles' objects.
    withExtendedLifetime(last) {}
  }

  private static func fits(_ handle: Handle, _ kind: HandleKind, _ table: Table) -> Bool {
    guard handle.kind == kind.rawValue, handle.slot < table.slots.count else { return false }
    let slot = table.slots[handle.slot]
    return slot.kind == handle.kind && slot.generation == handle.generation
  }
}
