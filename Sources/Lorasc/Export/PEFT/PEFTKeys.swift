/// Names of tensors in PEFT's `adapter_model.safetensors`.
enum PEFTKeys {
  static let file = "adapter_model.safetensors"
  /// Holds the head that PEFT has no name for.
  static let headFile = "lorasc_head.safetensors"

  private static let root = "base_model.model."

  /// - Parameters:
  ///   - name: of a trainable tensor
  ///   - prefix: of the model's class, "bert." or ""; of a head's tensors and of the output layer
  ///     "", which stand beside the backbone
  ///   - isAdapted: the tensor belongs to a module that has an adapter
  static func key(_ name: String, prefix: String, isAdapted: Bool) -> String {
    if isAdapted, name.hasSuffix(".bias") {
      return root + prefix + name.dropLast("bias".count) + "base_layer.bias"
    }
    return root + prefix + name
  }

  /// The name of the adapter's or model's tensor that a key stands for; nil for copies that PEFT
  /// writes beside: what a module that is trained in full was before, and its values under a second
  /// name.
  static func name(_ key: String, _ form: Architecture) -> String? {
    if key.contains(".original_module.") || key.contains(".modules_to_save.") { return nil }
    var name = key[...]
    for start in [root, form.prefix] where name.hasPrefix(start) {
      name = name.dropFirst(start.count)
    }
    var text = String(name)
    for end in ["weight", "bias"] where text.hasSuffix(".base_layer." + end) {
      text = text.dropLast("base_layer.\(end)".count) + end
    }
    if text.hasSuffix(".lora_magnitude_vector.weight") { text.removeLast(".weight".count) }
    return form.inFile(text)
  }
}

extension Model {
  /// What stands before a backbone tensor's name in the model with this head.
  func prefix(of head: HeadKind) -> String {
    switch head {
    case .classifier, .token, .language: form.prefix
    case .meanLinear, .embedding, .host: ""
    }
  }

  /// The same for a module or tensor: the output layer stands beside the backbone.
  func prefix(of name: String, _ head: HeadKind) -> String {
    let isBeside = matrices.contains {
      $0.isOutputLayer && (name + ".").hasPrefix($0.name + ".")
    }
    return isBeside ? "" : prefix(of: head)
  }
}
