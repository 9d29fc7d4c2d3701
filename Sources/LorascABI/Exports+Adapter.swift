public import CLorasc
import Lorasc

func adapter(_ pointer: OpaquePointer?) throws -> Adapter {
  try Handles.object(pointer, .adapter)
}

/// An adapter that must be this model's.
func adapter(_ pointer: OpaquePointer?, of model: OpaquePointer?) throws -> Adapter {
  let model: Model = try Handles.object(model, .model)
  let adapter = try LorascABI.adapter(pointer)
  try adapter.require(model)
  return adapter
}

/// Of a list that the caller enumerates.
func element<Element>(_ list: [Element], _ index: Int, _ what: String) throws -> Element {
  guard list.indices.contains(index) else {
    throw LorascError(.argument, "there is no \(what) \(index)", subject: "index")
  }
  return list[index]
}

@_cdecl("lorasc_adapter_create") @implementation
public func lorasc_adapter_create(
  _ model: OpaquePointer!, _ options: OpaquePointer!,
  _ report: UnsafeMutablePointer<lorasc_match_report>!,
  _ adapter: UnsafeMutablePointer<OpaquePointer?>!
) -> lorasc_status {
  call {
    let out = try required(adapter, "adapter")
    try checkIfGiven(report, "report")
    let model: Model = try Handles.object(model, .model)
    let made = try Adapter(model: model, options: try LorascABI.options(options))
    try putIfGiven(matchReport(made), to: report, "report")
    out.pointee = try Handles.add(.adapter) { _ in made }
  }
}

private func matchReport(_ adapter: Adapter) -> lorasc_match_report {
  var match = lorasc_match_report()
  match.matched = UInt32(clamping: adapter.matchedModules.count)
  match.trainable_parameters = UInt64(adapter.trainableParameters)
  match.backbone_parameters = UInt64(adapter.model.parameterCount)
  return match
}

@_cdecl("lorasc_adapter_load") @implementation
public func lorasc_adapter_load(
  _ model: OpaquePointer!, _ directory: UnsafePointer<CChar>!, _ options: OpaquePointer!,
  _ report: UnsafeMutablePointer<lorasc_match_report>!,
  _ adapter: UnsafeMutablePointer<OpaquePointer?>!
) -> lorasc_status {
  call {
    let out = try required(adapter, "adapter")
    try checkIfGiven(report, "report")
    let model: Model = try Handles.object(model, .model)
    let loaded = try Adapter.load(
      model: model, from: try string(directory, "directory"),
      options: try LorascABI.options(options))
    try putIfGiven(matchReport(loaded), to: report, "report")
    out.pointee = try Handles.add(.adapter) { _ in loaded }
  }
}

@_cdecl("lorasc_adapter_save") @implementation
public func lorasc_adapter_save(
  _ model: OpaquePointer!, _ adapter: OpaquePointer!, _ directory: UnsafePointer<CChar>!,
  _ rank: UInt32, _ report: UnsafeMutablePointer<lorasc_save_report>!
) -> lorasc_status {
  call {
    try checkIfGiven(report, "report")
    let adapter = try LorascABI.adapter(adapter, of: model)
    let saved = try adapter.save(
      to: try string(directory, "directory"), rank: rank == 0 ? nil : Int(rank))
    var out = lorasc_save_report()
    out.rank = UInt32(clamping: saved.rank)
    out.error = saved.error
    try putIfGiven(out, to: report, "report")
  }
}

@_cdecl("lorasc_adapter_module_count") @implementation
public func lorasc_adapter_module_count(_ adapter: OpaquePointer!) -> Int {
  var count = 0
  _ = call { count = try LorascABI.adapter(adapter).matchedModules.count }
  return count
}

@_cdecl("lorasc_adapter_module_info") @implementation
public func lorasc_adapter_module_info(
  _ adapter: OpaquePointer!, _ index: Int, _ info: UnsafeMutablePointer<lorasc_module_info>!
) -> lorasc_status {
  call {
    let match = try element(try LorascABI.adapter(adapter).matches(), index, "module")
    var out = lorasc_module_info()
    out.rank = UInt32(clamping: match.rank)
    out.scale = match.scale
    out.in_features = UInt64(match.inFeatures)
    out.out_features = UInt64(match.outFeatures)
    withUnsafeMutableBytes(of: &out.module) { copy(match.module, to: $0.baseAddress, $0.count) }
    withUnsafeMutableBytes(of: &out.rule) { copy(match.rule, to: $0.baseAddress, $0.count) }
    try put(out, to: info, "info")
  }
}

@_cdecl("lorasc_adapter_set_scale") @implementation
public func lorasc_adapter_set_scale(_ adapter: OpaquePointer!, _ scale: Double) -> lorasc_status {
  call { try LorascABI.adapter(adapter).setScale(scale) }
}

@_cdecl("lorasc_adapter_get_scale") @implementation
public func lorasc_adapter_get_scale(
  _ adapter: OpaquePointer!, _ scale: UnsafeMutablePointer<Double>!
) -> lorasc_status {
  call {
    let out = try required(scale, "scale")
    out.pointee = try LorascABI.adapter(adapter).scale
  }
}

@_cdecl("lorasc_adapter_info") @implementation
public func lorasc_adapter_info(
  _ adapter: OpaquePointer!, _ info: UnsafeMutablePointer<lorasc_adapter_description>!
) -> lorasc_status {
  call {
    let adapter = try LorascABI.adapter(adapter)
    var out = lorasc_adapter_description()
    out.num_labels = UInt32(clamping: adapter.head.labels)
    out.modules = UInt32(clamping: adapter.matchedModules.count)
    out.contrastive_rows = UInt32(clamping: adapter.head.rowsOfExample)
    withUnsafeMutableBytes(of: &out.head) {
      copy(adapter.head.kind.rawValue, to: $0.baseAddress, $0.count)
    }
    withUnsafeMutableBytes(of: &out.problem_type) {
      copy(adapter.head.problem.rawValue, to: $0.baseAddress, $0.count)
    }
    try put(out, to: info, "info")
  }
}

@_cdecl("lorasc_adapter_tensor_count") @implementation
public func lorasc_adapter_tensor_count(_ adapter: OpaquePointer!) -> Int {
  var count = 0
  _ = call { count = try LorascABI.adapter(adapter).parameterNames.count }
  return count
}

@_cdecl("lorasc_adapter_tensor_info") @implementation
public func lorasc_adapter_tensor_info(
  _ adapter: OpaquePointer!, _ index: Int, _ info: UnsafeMutablePointer<lorasc_tensor_info>!
) -> lorasc_status {
  call {
    let adapter = try LorascABI.adapter(adapter)
    let name = try element(adapter.parameterNames, index, "tensor")
    try put(tensorInfo(name, try adapter.shape(of: name)), to: info, "info")
  }
}

@_cdecl("lorasc_adapter_copy_out") @implementation
public func lorasc_adapter_copy_out(
  _ adapter: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ buffer: UnsafeMutablePointer<Float>!,
  _ capacity: Int, _ need: UnsafeMutablePointer<Int>!
) -> lorasc_status {
  call {
    let values = try LorascABI.adapter(adapter).values(of: try string(name, "name"))
    try fill(buffer, capacity, need, count: values.count) { _ = $0.update(fromContentsOf: values) }
  }
}

@_cdecl("lorasc_adapter_copy_in") @implementation
public func lorasc_adapter_copy_in(
  _ adapter: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ values: UnsafePointer<Float>!,
  _ count: Int
) -> lorasc_status {
  call {
    let adapter = try LorascABI.adapter(adapter)
    let name = try string(name, "name")
    guard let values else {
      throw LorascError(.argument, "values is NULL", subject: "values")
    }
    // The count is checked before the values are looked at: a wrong one must not be believed.
    let due = try adapter.shape(of: name).reduce(1, *)
    guard count == due else {
      throw LorascError(.shape, "\(name) has \(due) elements, not \(count)", subject: name)
    }
    try adapter.setValues(of: name, to: UnsafeBufferPointer(start: values, count: count))
  }
}

@_cdecl("lorasc_adapter_merge") @implementation
public func lorasc_adapter_merge(
  _ model: OpaquePointer!, _ adapter: OpaquePointer!, _ directory: UnsafePointer<CChar>!,
  _ report: UnsafeMutablePointer<lorasc_merge_report>!
) -> lorasc_status {
  call { try merge(model, adapter, directory, .auto, report) }
}

@_cdecl("lorasc_adapter_merge_as") @implementation
public func lorasc_adapter_merge_as(
  _ model: OpaquePointer!, _ adapter: OpaquePointer!, _ directory: UnsafePointer<CChar>!,
  _ type: UnsafePointer<CChar>!, _ report: UnsafeMutablePointer<lorasc_merge_report>!
) -> lorasc_status {
  call {
    let name = try string(type, "type")
    guard let type = MergeType(rawValue: name) else {
      throw LorascError(
        .argument, "the type '\(name)' is none of auto, f32, f16, bf16, q8_0", subject: "type")
    }
    try merge(model, adapter, directory, type, report)
  }
}

private func merge(
  _ model: OpaquePointer?, _ adapter: OpaquePointer?, _ directory: UnsafePointer<CChar>?,
  _ type: MergeType, _ report: UnsafeMutablePointer<lorasc_merge_report>?
) throws {
  try checkIfGiven(report, "report")
  let adapter = try LorascABI.adapter(adapter, of: model)
  let merged = try adapter.merge(to: try string(directory, "directory"), as: type)
  var out = lorasc_merge_report()
  out.tensors = UInt32(clamping: merged.tensors)
  out.changed = UInt32(clamping: merged.changed)
  out.max_change = merged.maxChange
  out.rounded_away = merged.roundedAway
  try putIfGiven(out, to: report, "report")
}

@_cdecl("lorasc_adapter_merge_tensor_count") @implementation
public func lorasc_adapter_merge_tensor_count(_ adapter: OpaquePointer!) -> Int {
  var count = 0
  _ = call { count = try LorascABI.adapter(adapter).mergedTensors().count }
  return count
}

@_cdecl("lorasc_adapter_merge_tensor_info") @implementation
public func lorasc_adapter_merge_tensor_info(
  _ adapter: OpaquePointer!, _ index: Int, _ info: UnsafeMutablePointer<lorasc_merge_tensor>!
) -> lorasc_status {
  call {
    let change = try element(try LorascABI.adapter(adapter).mergedTensors(), index, "tensor")
    var out = lorasc_merge_tensor()
    out.elements = UInt64(change.elements)
    out.changed = UInt64(change.changed)
    out.max_change = change.maxChange
    out.rounded_away = change.roundedAway
    withUnsafeMutableBytes(of: &out.name) { copy(change.name, to: $0.baseAddress, $0.count) }
    try put(out, to: info, "info")
  }
}

@_cdecl("lorasc_adapter_free") @implementation
public func lorasc_adapter_free(_ adapter: OpaquePointer!) { free(adapter, .adapter) }
