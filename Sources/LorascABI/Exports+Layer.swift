public import CLorasc
import Lorasc

@_cdecl("lorasc_model_from_host") @implementation
public func lorasc_model_from_host(
  _ matrices: UnsafePointer<lorasc_matrix>!, _ count: Int, _ options: OpaquePointer!,
  _ model: UnsafeMutablePointer<OpaquePointer?>!
) -> lorasc_status {
  call {
    let out = try required(model, "model")
    let settings = try LorascABI.options(options)
    let matrices = try hostMatrices(matrices, count)
    out.pointee = try Handles.add(.model) { _ in try Model(host: matrices, options: settings) }
  }
}

private func hostMatrices(_ first: UnsafePointer<lorasc_matrix>?, _ count: Int) throws
  -> [HostMatrix]
{
  guard let first else {
    throw LorascError(.argument, "matrices is NULL", subject: "matrices")
  }
  guard (1...1 << 20).contains(count) else {
    throw LorascError(.argument, "\(count) matrices", subject: "count")
  }
  // An array of the caller's structs: as far apart as the first says.
  let raw = UnsafeRawPointer(first)
  let size = Int(try structSize(raw, "matrices"))
  guard size % 8 == 0 else {
    throw LorascError(.argument, "struct_size of matrices is \(size)", subject: "struct_size")
  }
  return try (0..<count).map { index in
    var given = lorasc_matrix()
    try read(
      raw + index * size, "matrices", into: &given,
      atLeast: MemoryLayout<lorasc_matrix>.offset(of: \.row_stride) ?? 0)
    guard let values = given.values else {
      throw LorascError(.argument, "the values of a matrix are NULL", subject: "values")
    }
    guard let type = HostMatrix.ElementType(given.type) else {
      throw LorascError(.argument, "a matrix has type \(given.type)", subject: "type")
    }
    return HostMatrix(
      name: try string(given.name, "name"), type: type, values: values,
      outFeatures: given.out_features, inFeatures: given.in_features,
      rowStride: given.row_stride == 0 ? nil : given.row_stride,
      isTransposed: given.transposed != 0, bias: given.bias)
  }
}

extension HostMatrix.ElementType {
  fileprivate init?(_ type: UInt32) {
    switch type {
    case LORASC_FLOAT32.rawValue: self = .float32
    case LORASC_BFLOAT16.rawValue: self = .bfloat16
    case LORASC_FLOAT16.rawValue: self = .float16
    default: return nil
    }
  }
}

@_cdecl("lorasc_adapter_tensor_data") @implementation
public func lorasc_adapter_tensor_data(
  _ adapter: OpaquePointer!, _ name: UnsafePointer<CChar>!,
  _ values: UnsafeMutablePointer<UnsafeMutablePointer<Float>?>!
) -> lorasc_status {
  call {
    let out = try required(values, "values")
    let adapter: Adapter = try Handles.object(adapter, .adapter)
    out.pointee = try adapter.memory(of: try string(name, "name"))
  }
}

@_cdecl("lorasc_adapter_merge_into_host") @implementation
public func lorasc_adapter_merge_into_host(_ model: OpaquePointer!, _ adapter: OpaquePointer!)
  -> lorasc_status
{
  call {
    let model: Model = try Handles.object(model, .model)
    let adapter: Adapter = try Handles.object(adapter, .adapter)
    guard adapter.model === model else {
      throw LorascError(.mismatch, "the adapter was made for another model", subject: "adapter")
    }
    try adapter.mergeIntoHost()
  }
}

@_cdecl("lorasc_layer_create") @implementation
public func lorasc_layer_create(
  _ trainer: OpaquePointer!, _ module: UnsafePointer<CChar>!,
  _ layer: UnsafeMutablePointer<OpaquePointer?>!
) -> lorasc_status {
  call {
    let out = try required(layer, "layer")
    let trainer: Trainer = try Handles.object(trainer, .trainer)
    let module = try string(module, "module")
    out.pointee = try Handles.add(.layer) { _ in try Layer(trainer, module: module) }
  }
}

@_cdecl("lorasc_layer_free") @implementation
public func lorasc_layer_free(_ layer: OpaquePointer!) { free(layer, .layer) }

@_cdecl("lorasc_layer_forward") @implementation
public func lorasc_layer_forward(
  _ layer: OpaquePointer!, _ x: UnsafePointer<lorasc_activations>!,
  _ y: UnsafePointer<lorasc_activations>!, _ how: UnsafePointer<lorasc_layer_call>!
) -> lorasc_status {
  call {
    let layer: Layer = try Handles.object(layer, .layer)
    try layer.forward(
      try activations(x, "x", layer.inFeatures), into: try activations(y, "y", layer.outFeatures),
      try layerCall(how))
  }
}

@_cdecl("lorasc_layer_backward") @implementation
public func lorasc_layer_backward(
  _ layer: OpaquePointer!, _ x: UnsafePointer<lorasc_activations>!,
  _ dy: UnsafePointer<lorasc_activations>!, _ dx: UnsafePointer<lorasc_activations>!,
  _ how: UnsafePointer<lorasc_layer_call>!, _ gradients: UnsafePointer<lorasc_layer_gradients>!
) -> lorasc_status {
  call {
    let layer: Layer = try Handles.object(layer, .layer)
    var own: Layer.Gradients?
    if let gradients {
      var given = lorasc_layer_gradients()
      try read(
        gradients, "gradients", into: &given,
        atLeast: MemoryLayout<lorasc_layer_gradients>.offset(of: \.magnitude) ?? 0)
      own = Layer.Gradients(a: given.a, b: given.b, magnitude: given.magnitude)
    }
    try layer.backward(
      try activations(x, "x", layer.inFeatures),
      gradient: try activations(dy, "dy", layer.outFeatures),
      into: dx == nil ? nil : try activations(dx, "dx", layer.inFeatures), try layerCall(how),
      gradients: own)
  }
}

@_cdecl("lorasc_layer_weight") @implementation
public func lorasc_layer_weight(
  _ layer: OpaquePointer!, _ buffer: UnsafeMutablePointer<Float>!, _ capacity: Int,
  _ need: UnsafeMutablePointer<Int>!
) -> lorasc_status {
  call {
    let layer: Layer = try Handles.object(layer, .layer)
    try fill(buffer, capacity, need, count: layer.outFeatures * layer.inFeatures) {
      guard let start = $0.baseAddress else { return }
      try layer.weight(into: start)
    }
  }
}

@_cdecl("lorasc_trainer_count_step") @implementation
public func lorasc_trainer_count_step(_ trainer: OpaquePointer!) -> lorasc_status {
  call { try Handles.object(trainer, .trainer, as: Trainer.self).countStep() }
}

private func activations(
  _ pointer: UnsafePointer<lorasc_activations>?, _ what: String, _ features: Int
) throws -> Activations {
  guard let pointer else { throw LorascError(.argument, "\(what) is NULL", subject: what) }
  var given = lorasc_activations()
  try read(
    pointer, what, into: &given,
    atLeast: MemoryLayout<lorasc_activations>.offset(of: \.token_stride) ?? 0)
  guard let values = given.values else {
    throw LorascError(.argument, "the values of \(what) are NULL", subject: what)
  }
  return Activations(
    values, batch: given.batch == 0 ? 1 : given.batch, tokens: given.tokens, features: features,
    tokenStride: given.token_stride == 0 ? nil : given.token_stride,
    batchStride: given.batch_stride == 0 ? nil : given.batch_stride)
}

private func layerCall(_ pointer: UnsafePointer<lorasc_layer_call>?) throws -> Layer.Call {
  guard let pointer else { return Layer.Call() }
  var given = lorasc_layer_call()
  try read(pointer, "call", into: &given, atLeast: 8)
  let weights: Layer.Weights
  switch given.weights {
  case LORASC_WEIGHTS_TRAINING.rawValue: weights = .training
  case LORASC_WEIGHTS_MERGED.rawValue: weights = .view(.merged)
  case LORASC_WEIGHTS_FAST.rawValue: weights = .view(.fast)
  default:
    throw LorascError(.argument, "weights of the call is \(given.weights)", subject: "weights")
  }
  return Layer.Call(weights: weights, isShare: given.share != 0, key: given.key)
}
