public import CLorasc
import Lorasc

private func adapter(_ pointer: OpaquePointer?) throws -> Adapter {
  try Handles.object(pointer, .adapter)
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
    let settings = try LorascABI.options(options)
    let made = try Adapter(model: model, options: settings)
    var match = lorasc_match_report()
    match.matched = UInt32(clamping: made.matchedModules.count)
    match.trainable_parameters = UInt64(made.trainableParameters)
    match.backbone_parameters = UInt64(model.parameterCount)
    try putIfGiven(match, to: report, "report")
    out.pointee = try Handles.add(.adapter) { _ in made }
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
    let names = adapter.parameterNames
    guard names.indices.contains(index) else {
      throw LorascError(.argument, "there is no tensor \(index)", subject: "index")
    }
    try put(tensorInfo(names[index], try adapter.shape(of: names[index])), to: info, "info")
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
  call {
    try checkIfGiven(report, "report")
    let model: Model = try Handles.object(model, .model)
    let adapter = try LorascABI.adapter(adapter)
    guard adapter.model === model else {
      throw LorascError(.mismatch, "the adapter was made for another model", subject: "adapter")
    }
    let merged = try adapter.merge(to: try string(directory, "directory"))
    var out = lorasc_merge_report()
    out.tensors = UInt32(clamping: merged.tensors)
    out.changed = UInt32(clamping: merged.changed)
    out.max_change = merged.maxChange
    out.rounded_away = merged.roundedAway
    try putIfGiven(out, to: report, "report")
  }
}

@_cdecl("lorasc_adapter_free") @implementation
public func lorasc_adapter_free(_ adapter: OpaquePointer!) { free(adapter, .adapter) }
