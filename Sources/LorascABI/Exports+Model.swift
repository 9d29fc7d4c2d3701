public import CLorasc
import CSupport
import Lorasc

private func model(_ pointer: OpaquePointer?) throws -> Model {
  try Handles.object(pointer, .model)
}

@_cdecl("lorasc_model_open") @implementation
public func lorasc_model_open(
  _ path: UnsafePointer<CChar>!, _ options: OpaquePointer!,
  _ model: UnsafeMutablePointer<OpaquePointer?>!
) -> lorasc_status {
  call {
    let out = try required(model, "model")
    let path = try string(path, "path")
    let settings = try LorascABI.options(options)
    out.pointee = try Handles.add(.model) { _ in try Model(path: path, options: settings) }
  }
}

@_cdecl("lorasc_model_info") @implementation
public func lorasc_model_info(
  _ model: OpaquePointer!, _ info: UnsafeMutablePointer<lorasc_model_description>!
) -> lorasc_status {
  call {
    let model: Model = try Handles.object(model, .model)
    var description = lorasc_model_description()
    description.layers = UInt32(clamping: model.layerCount)
    description.parameters = UInt64(model.parameterCount)
    description.hidden_size = UInt32(clamping: model.hiddenSize)
    description.intermediate_size = UInt32(clamping: model.intermediateSize)
    description.heads = UInt32(clamping: model.attentionHeads)
    description.vocabulary_size = UInt32(clamping: model.vocabularySize)
    description.maximum_positions = UInt32(clamping: model.maximumPositions)
    description.num_labels = UInt32(clamping: model.headDescription?.labels ?? 0)
    withUnsafeMutableBytes(of: &description.architecture) {
      copy(model.architecture, to: $0.baseAddress, $0.count)
    }
    withUnsafeMutableBytes(of: &description.head) {
      copy(model.headDescription?.kind.rawValue ?? "none", to: $0.baseAddress, $0.count)
    }
    withUnsafeMutableBytes(of: &description.kernels) {
      copy(model.kernels, to: $0.baseAddress, $0.count)
    }
    withUnsafeMutableBytes(of: &description.products) {
      copy(model.productsLibrary, to: $0.baseAddress, $0.count)
    }
    try put(description, to: info, "info")
  }
}

@_cdecl("lorasc_model_tensor_count") @implementation
public func lorasc_model_tensor_count(_ model: OpaquePointer!) -> Int {
  var count = 0
  _ = call { count = try LorascABI.model(model).tensorNames.count }
  return count
}

@_cdecl("lorasc_model_tensor_info") @implementation
public func lorasc_model_tensor_info(
  _ model: OpaquePointer!, _ index: Int, _ info: UnsafeMutablePointer<lorasc_tensor_info>!
) -> lorasc_status {
  call {
    let model = try LorascABI.model(model)
    let names = model.tensorNames
    guard names.indices.contains(index) else {
      throw LorascError(.argument, "there is no tensor \(index)", subject: "index")
    }
    try put(tensorInfo(names[index], try model.shape(of: names[index])), to: info, "info")
  }
}

@_cdecl("lorasc_model_tensor") @implementation
public func lorasc_model_tensor(
  _ model: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ buffer: UnsafeMutablePointer<Float>!,
  _ capacity: Int, _ need: UnsafeMutablePointer<Int>!
) -> lorasc_status {
  call {
    let model = try LorascABI.model(model)
    let name = try string(name, "name")
    let count = try model.shape(of: name).reduce(1, *)
    try fill(buffer, capacity, need, count: count) { try model.copyTensor(name, to: $0) }
  }
}

@_cdecl("lorasc_model_file") @implementation
public func lorasc_model_file(
  _ model: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ buffer: UnsafeMutablePointer<CChar>!,
  _ capacity: Int, _ need: UnsafeMutablePointer<Int>!
) -> lorasc_status {
  call {
    let model = try LorascABI.model(model)
    try fill(buffer, capacity, need, text: try model.file(try string(name, "name")))
  }
}

@_cdecl("lorasc_model_retain") @implementation
public func lorasc_model_retain(_ model: OpaquePointer!) -> lorasc_status {
  call { try Handles.retain(model, .model) }
}

@_cdecl("lorasc_model_free") @implementation
public func lorasc_model_free(_ model: OpaquePointer!) { free(model, .model) }

// MARK: Datasets

@_cdecl("lorasc_dataset_create") @implementation
public func lorasc_dataset_create(
  _ rows: UnsafePointer<lorasc_batch>!, _ dataset: UnsafeMutablePointer<OpaquePointer?>!
) -> lorasc_status {
  call {
    let out = try required(dataset, "dataset")
    let batch = try batch(rows)
    out.pointee = try Handles.add(.dataset) { _ in try Dataset(borrowing: batch) }
  }
}

@_cdecl("lorasc_dataset_rows") @implementation
public func lorasc_dataset_rows(_ dataset: OpaquePointer!) -> Int {
  var rows = 0
  _ = call { rows = try Handles.object(dataset, .dataset, as: Dataset.self).rows }
  return rows
}

@_cdecl("lorasc_dataset_free") @implementation
public func lorasc_dataset_free(_ dataset: OpaquePointer!) { free(dataset, .dataset) }

// MARK: Prediction

@_cdecl("lorasc_predict") @implementation
public func lorasc_predict(
  _ model: OpaquePointer!, _ adapter: OpaquePointer!, _ batch: UnsafePointer<lorasc_batch>!,
  _ what: UInt32, _ buffer: UnsafeMutablePointer<Float>!, _ capacity: Int,
  _ need: UnsafeMutablePointer<Int>!
) -> lorasc_status {
  call {
    let model = try LorascABI.model(model)
    let adapter: Adapter? = try adapter.map { try Handles.object($0, .adapter) }
    let rows = try LorascABI.batch(batch)
    let view: View = what & LORASC_PREDICT_FAST.rawValue != 0 ? .fast : .merged
    let kind: Prediction
    switch what & ~LORASC_PREDICT_FAST.rawValue {
    case LORASC_PREDICT_LOGITS.rawValue: kind = .logits
    case LORASC_PREDICT_EMBEDDING.rawValue: kind = .embedding
    case LORASC_PREDICT_TOKEN_EMBEDDING.rawValue: kind = .tokenEmbedding
    case LORASC_PREDICT_TOKEN_LOGITS.rawValue: kind = .tokenLogits
    default: throw LorascError(.argument, "what is \(what)", subject: "what")
    }
    let count = try Predictor.outputCount(model: model, adapter: adapter, batch: rows, kind)
    try fill(buffer, capacity, need, count: count) {
      try Predictor.predict(
        model: model, adapter: adapter, batch: rows, kind, view: view, into: $0)
    }
  }
}
