import CSupport

/// One site of dropout. The mask comes from the counter-based generator, keyed by the
/// draw and the site, so the backward makes it again instead of keeping it.
struct Dropout {
  let probability: Float
  let stream: lorasc_random_stream

  /// y = x ⊙ mask / (1 − p), in place too; `first` is the index of x[0] within the site.
  func apply(
    _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, rows: Int, columns: Int,
    _ compute: Compute
  ) {
    let kernel = compute.kernels.dropout
    compute.forRows(rows, cost: 4 * columns) { start, end in
      kernel(
        x + start * columns, y + start * columns, (end - start) * columns, stream,
        UInt64(start * columns), probability)
    }
  }

  /// The same for one row of the site, whose rows are `columns` long.
  func applyRow(
    _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ row: Int, _ columns: Int,
    _ compute: Compute
  ) {
    compute.kernels.dropout(x, y, columns, stream, UInt64(row * columns), probability)
  }
}

/// Probabilities of a trainer, and what keys the masks of one forward and backward.
struct DropoutPlan {
  var embeddings: Float = 0
  var hidden: Float = 0
  var attention: Float = 0
  var classifier: Float = 0
  /// Of the adapters' inputs.
  var expert: Float = 0
  var seed: UInt64 = 0
  /// Counts the forward passes of the trainer.
  var draw: Int = 0
  /// Tells parts of one forward apart that pass the same module.
  private var partOfForward = 0

  static let none = DropoutPlan()

  init(
    embeddings: Float = 0, hidden: Float = 0, attention: Float = 0, classifier: Float = 0,
    expert: Float = 0,
    seed: UInt64 = 0, draw: Int = 0
  ) {
    self.embeddings = embeddings
    self.hidden = hidden
    self.attention = attention
    self.classifier = classifier
    self.expert = expert
    self.seed = seed
    self.draw = draw
  }

  func part(_ number: Int) -> DropoutPlan {
    var plan = self
    plan.partOfForward = number
    return plan
  }

  func embeddings(_ site: String) -> Dropout? { make(embeddings, .hiddenDropout, site) }
  func hidden(_ site: String) -> Dropout? { make(hidden, .hiddenDropout, site) }
  func attention(_ site: String) -> Dropout? { make(attention, .attentionDropout, site) }
  func classifier(_ site: String) -> Dropout? { make(classifier, .classifierDropout, site) }

  func expert(_ site: String) -> Dropout? { make(expert, .loraDropout, site) }

  private func make(_ probability: Float, _ purpose: RandomStream.Purpose, _ site: String)
    -> Dropout?
  {
    guard probability > 0 else { return nil }
    // The generator's cascade is free here: it takes the part.
    let stream = RandomStream(
      seed: seed, purpose: purpose, cascade: partOfForward, step: draw, name: site)
    return Dropout(probability: probability, stream: stream.c)
  }
}
