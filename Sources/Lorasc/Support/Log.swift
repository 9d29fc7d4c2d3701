import Synchronization

/// Messages for the host's logger; nothing is kept or printed here.
public enum Log {
  public enum Level: Int32, Sendable {
    case debug = 10
    case info = 20
    case warning = 30
  }
  public typealias Sink = @Sendable (Level, String) -> Void

  private static let sink = Mutex<(minimum: Int32, sink: Sink)?>(nil)

  /// Sends messages of at least `minimum` to `newSink`; nil turns logging off.
  public static func set(minimum: Int32, _ newSink: Sink?) {
    sink.withLock { $0 = newSink.map { (minimum, $0) } }
  }

  static func send(_ level: Level, _ message: @autoclosure () -> String) {
    let current = sink.withLock { $0 }
    if let current, level.rawValue >= current.minimum { current.sink(level, message()) }
  }
}
