/// A JSON document. Numbers written without fraction and exponent are integers and
/// exact; all others are finite doubles.
enum JSONValue: Equatable, Sendable {
  case null
  case bool(Bool)
  case integer(Int64)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)

  /// What this is, for messages.
  var kind: String {
    switch self {
    case .null: "null"
    case .bool: "a boolean"
    case .integer: "an integer"
    case .number: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }
}

/// A JSON object that keeps the order of its keys, so that a file that is loaded and
/// saved keeps its unknown keys where they were.
///
/// Keys are compared as Swift strings: two spellings of one character (é as one or
/// two scalars) are one key. Two objects are equal when keys, values and order are.
struct JSONObject: Sendable {
  struct Member: Equatable, Sendable {
    let key: String
    var value: JSONValue
  }

  private(set) var members: [Member] = []
  /// Position of each key; only kept above a few members, where searching costs more.
  private var positions: [String: Int]?
  private static let searched = 8

  init() {}

  var count: Int { members.count }
  var isEmpty: Bool { members.isEmpty }
  var keys: [String] { members.map(\.key) }

  func position(of key: String) -> Int? {
    if let positions { return positions[key] }
    return members.firstIndex { $0.key == key }
  }

  /// Adds a member at the end; false and no change when the key is there already.
  mutating func append(_ key: String, _ value: JSONValue) -> Bool {
    guard position(of: key) == nil else { return false }
    members.append(Member(key: key, value: value))
    if positions != nil {
      positions?[key] = members.count - 1
    } else if members.count > Self.searched {
      indexAgain()
    }
    return true
  }

  /// Setting a present key keeps its place, a new one goes to the end, nil removes it.
  subscript(key: String) -> JSONValue? {
    get { position(of: key).map { members[$0].value } }
    set {
      guard let newValue else {
        remove(key)
        return
      }
      if let position = position(of: key) {
        members[position].value = newValue
      } else {
        _ = append(key, newValue)
      }
    }
  }

  mutating func remove(_ key: String) {
    guard let position = position(of: key) else { return }
    members.remove(at: position)
    if positions != nil { indexAgain() }
  }

  private mutating func indexAgain() {
    guard members.count > Self.searched else {
      positions = nil
      return
    }
    var positions: [String: Int] = [:]
    positions.reserveCapacity(members.count)
    for (position, member) in members.enumerated() { positions[member.key] = position }
    self.positions = positions
  }
}

extension JSONObject: Equatable {
  static func == (a: JSONObject, b: JSONObject) -> Bool { a.members == b.members }
}

extension JSONObject: ExpressibleByDictionaryLiteral {
  /// Of a key given twice the last value counts.
  init(dictionaryLiteral elements: (String, JSONValue)...) {
    for (key, value) in elements { self[key] = value }
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral, ExpressibleByArrayLiteral,
  ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
  init(stringLiteral value: String) { self = .string(value) }
  init(booleanLiteral value: Bool) { self = .bool(value) }
  init(integerLiteral value: Int64) { self = .integer(value) }
  init(floatLiteral value: Double) { self = .number(value) }
  init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  init(dictionaryLiteral elements: (String, JSONValue)...) {
    var object = JSONObject()
    for (key, value) in elements { object[key] = value }
    self = .object(object)
  }
  init(nilLiteral: ()) { self = .null }
}
