// A vision transformer from Swift: images as bytes in memory, normalised by mean and deviation.
//
//   images <model folder> <train images> <test images> <output folder>
//
// An images file is the line "lorasc-images 1 <rows> <num_labels> <channels> <height> <width>",
// then for each row a byte, the label, and its channels · height · width bytes of pixels.
import Glibc
import Lorasc

struct Failure: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

struct ImageFile {
  let labelCount: Int
  let channels: Int
  let height: Int
  let width: Int
  private(set) var labels: [Int32] = []
  /// (rows, channels, height, width)
  private(set) var pixels: [UInt8] = []

  init(path: String) throws {
    guard let file = fopen(path, "rb") else { throw Failure("\(path) cannot be read") }
    defer { fclose(file) }
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    defer { free(line) }
    guard getline(&line, &capacity, file) > 0, let line else { throw Failure("\(path) is empty") }
    let words = String(cString: line).split(whereSeparator: \.isWhitespace)
    let numbers = words.dropFirst().compactMap { Int($0) }
    guard words.first == "lorasc-images", numbers.count == 6, numbers[0] == 1,
      numbers.dropFirst().allSatisfy({ 1...65_536 ~= $0 })
    else { throw Failure("\(path) is no images file") }
    (labelCount, channels, height, width) = (numbers[2], numbers[3], numbers[4], numbers[5])
    let (plane, isTooLarge) = (height * width).multipliedReportingOverflow(by: channels)
    guard !isTooLarge, plane < 1 << 30 else { throw Failure("\(path): images are too large") }
    var row = [UInt8](repeating: 0, count: 1 + plane)
    for index in 0..<numbers[1] {
      guard fread(&row, 1, row.count, file) == row.count else {
        throw Failure("\(path): row \(index) is cut off")
      }
      labels.append(Int32(row[0]))
      pixels += row.dropFirst()
    }
  }

  /// Runs `body` with the images as a batch over this memory.
  func withBatch<Result>(_ body: (Batch) throws -> Result) throws -> Result {
    try pixels.withUnsafeBufferPointer { pixels in
      try labels.withUnsafeBufferPointer { labels in
        guard let start = pixels.baseAddress else { throw Failure("there are no images") }
        let half = [Float](repeating: 0.5, count: channels)
        let images = Batch.Images(
          pixels: .uint8(start, mean: half, deviation: half), rows: labels.count,
          channels: channels, height: height, width: width)
        return try body(Batch(images: images, labels: labels.baseAddress))
      }
    }
  }
}

@main
enum Images {
  static func main() {
    let arguments = CommandLine.arguments
    guard arguments.count == 5 else {
      print("usage: images <model folder> <train images> <test images> <output folder>")
      exit(2)
    }
    do {
      try classify(arguments[1], arguments[2], arguments[3], output: arguments[4])
    } catch {
      print("images: \(error)")
      exit(1)
    }
  }

  static func classify(
    _ modelPath: String, _ trainPath: String, _ testPath: String, output: String
  ) throws {
    let train = try ImageFile(path: trainPath)
    let test = try ImageFile(path: testPath)
    var options = Options()
    try options.set("method", "lorasc")
    try options.set("head", "classifier")
    try options.set("num_labels", String(train.labelCount))
    try options.set("epochs", "4")
    try options.set("batch_size", "8")
    try options.set("learning_rate", "0.005")

    let model = try Model(path: modelPath, options: options)
    let adapter = try Adapter(model: model, options: options)
    let trainer = try Trainer(model: model, adapter: adapter, options: options)
    try train.withBatch { trainBatch in
      try test.withBatch { testBatch in
        let testSet = try Dataset(borrowing: testBatch)
        let before = try trainer.evaluate(testSet)
        try trainer.run(try Dataset(borrowing: trainBatch)) { _ in .goOn }
        let after = try trainer.evaluate(testSet)
        print("test accuracy before \(before.accuracy), after \(after.accuracy)")
        guard after.loss < before.loss else { throw Failure("nothing was learned") }
      }
    }
    try adapter.merge(to: output)
    print("\(output): \(try Model(path: output).headDescription?.labels ?? 0) classes")
  }
}
