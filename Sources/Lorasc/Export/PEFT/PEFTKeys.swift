/// Names of tensors in PEFT's `adapter_model.safetensors`.
enum PEFTKeys {
  static let file = "adapter_model.safetensors"
  /// Holds the head that PEFT has no name for.
  static let headFile = "lorasc_head.safetensors"

  private static let root = "base_model.model."

  /// - Parameters:
  ///   - name: of a trainable tensor
  ///   - prefix: of the model's class, "bert." or ""
  ///   - isAdapted: the tensor belongs to a module that has an adapter
  static func key(_ name: String, prefix: String, isAdapted: Bool) -> String {
    if name == Adapter.headWeight || name == Adapter.headBias { return root + name }
    if isAdapted, name.hasSuffix(".bias") {
      return root + prefix + name.dropLast("bias".count) + "base_layer.bias"
    }
    return root + prefix + name
  }

  /// The trainable tensor's name that a key stands for; nil for copies that PEFT writes beside:
  /// what a module that is trained in full was before, and its values under a second name.
  static func name(_ key: String) -> String? {
    if key.contains(".original_module.") || key.contains(".modules_to_save.") { return nil }
    var name = key[...]
    for start in [root, "bert."] where name.hasPrefix(start) { name = name.dropFirst(start.count) }
    var text = String(name)
    if text.hasSuffix(".base_layer.bias") { text = text.dropLast("base_layer.bias".count) + "bias" }
    if text.hasSuffix(".lora_magnitude_vector.weight") { text.removeLast(".weight".count) }
    return text
  }
}
