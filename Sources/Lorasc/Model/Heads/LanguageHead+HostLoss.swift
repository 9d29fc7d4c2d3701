extension LanguageHead {
  /// A chunk of next tokens as a loss of the host's sees it.
  final class HostItems {
    private let columns: Int
    /// (rows): of the tokens that are predicted
    private let labels: AlignedBuffer<Int32>
    private let weights: FloatBuffer
    private let numbers: AlignedBuffer<Int>
    private let places: AlignedBuffer<Int>
    /// (rows, columns)
    let gradient: FloatBuffer

    init(rows: Int, columns: Int) throws {
      self.columns = columns
      labels = try AlignedBuffer(count: rows, what: "the loss's labels")
      weights = try FloatBuffer(count: rows, what: "the loss's weights")
      numbers = try AlignedBuffer(count: rows, what: "the loss's rows")
      places = try AlignedBuffer(count: rows, what: "the loss's places")
      gradient = try FloatBuffer(count: rows * columns, what: "the loss's gradient")
    }

    /// - Parameter tokens: those before the predicted ones
    func losses(
      _ host: HostLoss, _ logits: UnsafePointer<Float>, _ tokens: UnsafePointer<Int32>,
      _ rows: Int, _ items: LossItems, isTraining: Bool
    ) throws -> LossSums {
      var sums = LossSums()
      for row in 0..<rows {
        let token = Int(tokens[row]) + 1
        labels.pointer[row] = items.labels[token]
        weights.pointer[row] = items.weights[token]
        numbers.pointer[row] = items.rows[token]
        places.pointer[row] = items.places?[token] ?? 0
        sums += LossSums(
          weight: Double(items.weights[token]), rows: 1,
          correct: isTraining ? 0 : hit(logits + row * columns, Int(items.labels[token])))
      }
      return try host(
        logits: logits, gradient: isTraining ? gradient.pointer : nil, width: columns,
        LossItems(
          count: rows, labels: labels.pointer, weights: weights.pointer, targets: nil,
          rows: numbers.pointer, places: places.pointer), sums)
    }

    private func hit(_ logits: UnsafePointer<Float>, _ label: Int) -> Int {
      (0..<columns).contains { logits[$0] > logits[label] } ? 0 : 1
    }
  }
}
