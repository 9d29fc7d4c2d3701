import Testing

@testable import Lorasc

/// Damaged GGUF files: refused, or read without harm.
@Suite struct GGUFDamageTests {
  static let sample = GGUFTests.sample.bytes
  static let headerEnd = GGUFTests.sample.header.count

  /// What a file says: all it holds, as text that can be compared.
  private func everything(_ file: GGUFFile) -> String {
    let values = file.metadata.members.map { member in
      if case .array(let array) = member.value {
        return "\(member.key) \(array.type) \(array.count) \(Array(array.bytes))"
      }
      return "\(member.key) \(member.value)"
    }
    let tensors = file.tensors.map { "\($0) \(file.content($0))" }
    return (values + tensors).joined(separator: "\n")
  }

  @Test func truncatedAtEachByte() throws {
    // The last tensor has 6 bytes of its 32: the file may end with it or within its padding.
    let enough = Self.sample.count - 26
    let whole = everything(try GGUFFile(Self.sample))
    for length in 0..<Self.sample.count {
      let bytes = Array(Self.sample.prefix(length))
      if length < enough {
        expectFailure(.format, "(memory)") { _ = try GGUFFile(bytes) }
      } else {
        #expect(everything(try GGUFFile(bytes)) == whole)
      }
    }
    expectFailure(.format) { _ = try GGUFFile(Self.sample + [0]) }
  }

  /// Each byte of the header in each of its 255 other values: refused, or the tensors that are
  /// left whole hold the same bytes.
  @Test func eachHeaderByteChanged() throws {
    let whole = try GGUFFile(Self.sample)
    let contents = whole.tensors.map(whole.content)
    var accepted = 0
    for place in 0..<Self.headerEnd {
      for value in UInt8.min...UInt8.max where value != Self.sample[place] {
        var bytes = Self.sample
        bytes[place] = value
        let outcome = Result { try GGUFFile(bytes) }
        switch outcome {
        case .success(let file):
          accepted += 1
          // Another type or shape of a size that takes the same span, up to padding.
          let now = file.tensors.map(file.content)
          let agree = zip(now, contents).allSatisfy { new, old in
            zip(new, old).allSatisfy { $0 == $1 }
          }
          if !agree || now.count != contents.count { Issue.record("\(place) \(value)") }
        case .failure(let error as LorascError):
          if ![.format, .unsupported, .limit].contains(error.status) {
            Issue.record("\(place) \(value): \(error)")
          }
        case .failure(let error): Issue.record("\(error)")
        }
      }
    }
    // Values of the metadata, names, and types of one size are all that can get through.
    #expect(accepted > 0 && accepted < Self.headerEnd * 255 / 2)
  }

  @Test func fuzz() throws {
    var random = FixedRandom(state: 11)
    let header = Array(Self.sample.prefix(Self.headerEnd))
    let data = Array(Self.sample.dropFirst(Self.headerEnd))
    let numbers: [[UInt8]] = [
      GGUFBytes.number(UInt64.max), GGUFBytes.number(UInt64(1) << 63),
      GGUFBytes.number(UInt64(1) << 62), GGUFBytes.number(UInt64(Int.max)),
      GGUFBytes.number(UInt64(1) << 32), GGUFBytes.number(UInt64(0)),
      GGUFBytes.number(UInt32(9)) + GGUFBytes.number(UInt64(1)),
    ]
    var accepted = 0
    for round in 0..<60_000 {
      var bytes: [UInt8]
      if round % 4 == 0 {
        bytes = mutate(Self.sample, &random)
      } else {
        var changed = header
        if round % 4 == 1, let number = numbers.randomElement(using: &random) {
          let place = Int.random(in: 4..<changed.count - number.count, using: &random)
          changed.replaceSubrange(place..<place + number.count, with: number)
        } else {
          changed = mutate(changed, &random)
        }
        while changed.count % 32 != 0 { changed.append(0) }
        bytes = changed + data
      }
      guard let file = try? GGUFFile(bytes) else { continue }
      accepted += 1
      for case .array(let array) in file.metadata.members.map(\.value) { _ = try? array.values() }
      let held = file.tensors.reduce(0) { $0 + file.content($1).count }
      if held > bytes.count { Issue.record("round \(round)") }
    }
    #expect(accepted > 300)
  }
}
