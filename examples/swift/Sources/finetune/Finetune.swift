// The main job from Swift: fine-tune an encoder with LoRASC on token ids from files, merge,
// open the result again and predict.
//
//   finetune <model folder> <train tokens> <dev tokens> <output folder>
//
// A tokens file begins with "lorasc-tokens 1 <rows> <num_labels>", then for each row
// "<label> <n> <id> … <id>"; examples/python/write_tokens.py makes them.
import Glibc
import Lorasc

struct Tokens {
  var rows: [[Int32]] = []
  var labels: [Int32] = []
  var labelCount = 0

  init(path: String) throws {
    guard let file = fopen(path, "r") else { throw Failure("\(path) cannot be read") }
    defer { fclose(file) }
    var numbers: [Int32] = []
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    defer { free(line) }
    var isHeader = true
    while getline(&line, &capacity, file) > 0, let line {
      let words = String(cString: line).split(whereSeparator: \.isWhitespace)
      if isHeader {
        guard words.count == 4, words[0] == "lorasc-tokens", words[1] == "1",
          let labels = Int(words[3])
        else { throw Failure("\(path) is no tokens file") }
        labelCount = labels
        isHeader = false
        continue
      }
      numbers = words.compactMap { Int32($0) }
      guard numbers.count >= 3, numbers.count == Int(numbers[1]) + 2 else {
        throw Failure("\(path): row \(rows.count) is malformed")
      }
      labels.append(numbers[0])
      rows.append(Array(numbers[2...]))
    }
  }
}

struct Failure: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

@main
enum Finetune {
  static func main() {
    let arguments = CommandLine.arguments
    guard arguments.count == 5 else {
      print("usage: finetune <model folder> <train tokens> <dev tokens> <output folder>")
      exit(2)
    }
    do {
      try finetune(arguments[1], arguments[2], arguments[3], output: arguments[4])
    } catch {
      print("finetune: \(error)")
      exit(1)
    }
  }

  static func finetune(
    _ modelPath: String, _ trainPath: String, _ devPath: String, output: String
  ) throws {
    let train = try Tokens(path: trainPath)
    let dev = try Tokens(path: devPath)
    let trainSet = try Dataset(rows: train.rows, labels: train.labels)
    let devSet = try Dataset(rows: dev.rows, labels: dev.labels)

    var options = Options()
    try options.set("method", "lorasc")
    try options.set("num_labels", String(train.labelCount))
    try options.set("epochs", "6")
    try options.set("learning_rate", "0.003")

    let model = try Model(path: modelPath, options: options)
    let adapter = try Adapter(model: model, options: options)
    let trainer = try Trainer(model: model, adapter: adapter, options: options)
    print("before: accuracy \(try trainer.evaluate(devSet).accuracy)")
    try trainer.run(trainSet, evaluate: devSet) { progress in
      if progress.event == .cascade {
        print(
          "cascade \(progress.cascade) of \(progress.totalCascades): loss \(progress.loss), "
            + "dev accuracy \(progress.evaluation.accuracy)")
      }
      return .goOn
    }
    let after = try trainer.evaluate(devSet)
    print("after: accuracy \(after.accuracy), loss \(after.loss)")

    try adapter.merge(to: output)
    let merged = try Model(path: output)
    let checker = try Trainer(
      model: merged, adapter: try Adapter(model: merged, options: options), options: options)
    print("merged, opened again: accuracy \(try checker.evaluate(devSet).accuracy)")
  }
}
