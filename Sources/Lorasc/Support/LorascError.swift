/// What went wrong, as a value: the same codes as `lorasc_status` in `lorasc.h`,
/// pinned for good, new ones only appended.
public enum Status: Int32, Sendable, CaseIterable {
  case ok = 0
  case argument = 1
  case handle = 2
  case option = 3
  case state = 4
  case busy = 5
  case limit = 6
  case buffer = 7
  case outOfMemory = 8
  case io = 20
  case notFound = 21
  case format = 22
  case unsupported = 23
  case architecture = 24
  case mismatch = 25
  case shape = 40
  case token = 41
  case label = 42
  case noMatch = 43
  case noLoss = 44
  case nonFinite = 45
  case interrupted = 60
  case cancelled = 61
  case `internal` = 90

  /// The constant's name in the C header.
  public var name: String {
    switch self {
    case .ok: "LORASC_OK"
    case .argument: "LORASC_E_ARGUMENT"
    case .handle: "LORASC_E_HANDLE"
    case .option: "LORASC_E_OPTION"
    case .state: "LORASC_E_STATE"
    case .busy: "LORASC_E_BUSY"
    case .limit: "LORASC_E_LIMIT"
    case .buffer: "LORASC_E_BUFFER"
    case .outOfMemory: "LORASC_E_MEMORY"
    case .io: "LORASC_E_IO"
    case .notFound: "LORASC_E_NOT_FOUND"
    case .format: "LORASC_E_FORMAT"
    case .unsupported: "LORASC_E_UNSUPPORTED"
    case .architecture: "LORASC_E_ARCHITECTURE"
    case .mismatch: "LORASC_E_MISMATCH"
    case .shape: "LORASC_E_SHAPE"
    case .token: "LORASC_E_TOKEN"
    case .label: "LORASC_E_LABEL"
    case .noMatch: "LORASC_E_NO_MATCH"
    case .noLoss: "LORASC_E_NO_LOSS"
    case .nonFinite: "LORASC_E_NONFINITE"
    case .interrupted: "LORASC_E_INTERRUPTED"
    case .cancelled: "LORASC_E_CANCELLED"
    case .internal: "LORASC_E_INTERNAL"
    }
  }
}

/// Every error the engine throws.
public struct LorascError: Error, CustomStringConvertible, Sendable, Equatable {
  public let status: Status
  /// One sentence for a person, naming the offender.
  public let message: String
  /// The offender alone: a tensor, key, option or path; empty when there is none.
  public let subject: String
  /// The system's error number, 0 when no system call failed.
  public let errno: Int32

  public init(_ status: Status, _ message: String, subject: String = "", errno: Int32 = 0) {
    self.status = status
    self.message = message
    self.subject = subject
    self.errno = errno
  }

  public var description: String { "\(status.name): \(message)" }
}
