import CSupport

/// A flag that stops a trainer: set from any thread or a signal handler, without a lock.
public final class Interruption: @unchecked Sendable {
  private let word: UnsafeMutablePointer<UInt64>
  private let armed: UInt64
  private let fired: UInt64
  private let owned: Bool

  public init() {
    word = .allocate(capacity: 1)
    word.initialize(to: 0)
    armed = 0
    fired = 1
    owned = true
  }

  /// Uses a word that outlives this object: it holds `armed`, and whoever interrupts
  /// exchanges that for `fired`.
  public init(word: UnsafeMutablePointer<UInt64>, armed: UInt64, fired: UInt64) {
    self.word = word
    self.armed = armed
    self.fired = fired
    owned = false
  }

  deinit { if owned { word.deallocate() } }

  func set() { _ = lorasc_atomic_compare_exchange(word, armed, fired) }

  /// True once for each interruption.
  func take() -> Bool { lorasc_atomic_compare_exchange(word, fired, armed) }
}
