extension Architecture {
  /// The vision transformer (Dosovitskiy et al. 2021) as transformers' ViTModel, and DeiT
  /// (Touvron et al. 2021), which has a second class token. Names are those of the files;
  /// transformers 5 calls the modules otherwise in memory.
  static let vit = visionTransformer("vit", "ViT", classTokens: ["cls_token"])
  static let deit = visionTransformer(
    "deit", "DeiT", classTokens: ["cls_token", "distillation_token"])

  private static func visionTransformer(_ modelType: String, _ name: String, classTokens: [String])
    -> Architecture
  {
    Architecture(
      modelType: modelType, prefix: modelType + ".", baseClass: name + "Model",
      headClasses: [.classifier: name + "ForImageClassification"], defaultTargets: "q_proj,v_proj",
      renaming: namesInMemory, classifier: { _ in ClassifierForm(hasDropout: false) },
      tokenClassifier: nil,
      backbone: { config, tensors in try visionBackbone(config, tensors, classTokens: classTokens) }
    )
  }
}

private let namesInMemory = ModuleRenaming(
  layers: (file: "encoder.layer", memory: "layers"),
  modules: [
    (file: "attention.attention.query", memory: "attention.q_proj"),
    (file: "attention.attention.key", memory: "attention.k_proj"),
    (file: "attention.attention.value", memory: "attention.v_proj"),
    (file: "attention.output.dense", memory: "attention.o_proj"),
    (file: "intermediate.dense", memory: "mlp.fc1"),
    (file: "output.dense", memory: "mlp.fc2"),
  ])

private func visionBackbone(_ config: ConfigReader, _ tensors: NamedTensors, classTokens: [String])
  throws -> Backbone
{
  let hidden = try config.size("hidden_size", 768)
  let heads = try config.size("num_attention_heads", 12)
  let inner = try config.size("intermediate_size", 3072)
  let epsilon = try config.epsilon("layer_norm_eps", 1e-12)
  let bias = try config.flag("qkv_bias", true)
  try config.requireMultiple(("hidden_size", hidden), of: ("num_attention_heads", heads))
  let patches = try patchInputs(config, tensors, hidden: hidden, classTokens: classTokens)

  var build = BackboneBuilder(tensors)
  var blocks: [Backbone.Block] = []
  for index in 0..<(try config.layers("num_hidden_layers", 12, named: "encoder.layer", in: tensors))
  {
    let layer = "encoder.layer.\(index)"
    let attention = layer + ".attention.attention"
    blocks.append(
      Backbone.Block(
        projections: [
          try build.linear(attention + ".query", hidden, hidden, bias: bias),
          try build.linear(attention + ".key", hidden, hidden, bias: bias),
          try build.linear(attention + ".value", hidden, hidden, bias: bias),
        ],
        attentionOutput: try build.linear(layer + ".attention.output.dense", hidden, hidden),
        attentionNorm: try build.layerNorm(layer + ".layernorm_before", hidden, epsilon),
        up: try build.linear(layer + ".intermediate.dense", inner, hidden),
        down: try build.linear(layer + ".output.dense", hidden, inner),
        feedForwardNorm: try build.layerNorm(layer + ".layernorm_after", hidden, epsilon)))
  }
  var backbone = Backbone(
    sizes: .init(
      hidden: hidden, intermediate: inner, heads: heads, keyValueHeads: heads,
      headSize: hidden / heads, positions: patches.tokens),
    inputs: .pixels(patches), blocks: blocks,
    finalNorm: try build.layerNorm("layernorm", hidden, epsilon), placement: .pre,
    activation: try config.activation("hidden_act", "gelu"),
    dropout: .init(
      hidden: try config.probability("hidden_dropout_prob", 0),
      attention: try config.probability("attention_probs_dropout_prob", 0)))
  build.finish(&backbone)
  return backbone
}

private func patchInputs(
  _ config: ConfigReader, _ tensors: NamedTensors, hidden: Int, classTokens: [String]
) throws -> Backbone.PatchInputs {
  /// One number for both sides, or [height, width].
  func sides(_ key: String, _ fallback: Int) throws -> (Int, Int) {
    guard case .array? = config.json[key] else {
      let side = try config.size(key, fallback, atMost: 1 << 14)
      return (side, side)
    }
    let both = try config.json.ints(key)
    guard both.count == 2, both.allSatisfy({ 1...(1 << 14) ~= $0 }) else {
      throw config.bad(key, "\(both)")
    }
    return (both[0], both[1])
  }
  let (height, width) = try sides("image_size", 224)
  let (patch, other) = try sides("patch_size", 16)
  let channels = try config.size("num_channels", 3, atMost: 1 << 10)
  guard patch == other, height % patch == 0, width % patch == 0 else {
    throw LorascError(
      .format,
      "image_size \(height) x \(width) is no multiple of patch_size \(patch) x \(other)",
      subject: "patch_size")
  }
  let projection = Backbone.PatchInputs.projectionName
  let count = classTokens.count + (height / patch) * (width / patch)
  return Backbone.PatchInputs(
    channels: channels, height: height, width: width, patch: patch,
    projection: MatrixModule(
      name: projection, kind: .linear, inFeatures: channels * patch * patch, outFeatures: hidden,
      weight: try tensors.float32Matrix(
        projection + ".weight", shape: [hidden, channels, patch, patch]),
      bias: try tensors.float32(projection + ".bias", shape: [hidden])),
    classTokens: try classTokens.map {
      try tensors.float32("embeddings." + $0, shape: [1, 1, hidden])
    },
    positions: try tensors.float32("embeddings.position_embeddings", shape: [1, count, hidden]))
}
