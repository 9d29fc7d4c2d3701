public import CLorasc
import Lorasc

@_cdecl("lorasc_adapter_combine") @implementation
public func lorasc_adapter_combine(
  _ model: OpaquePointer!, _ adapters: UnsafePointer<OpaquePointer?>!,
  _ weights: UnsafePointer<Double>!, _ count: Int, _ rank: UInt32,
  _ error: UnsafeMutablePointer<Double>!, _ adapter: UnsafeMutablePointer<OpaquePointer?>!
) -> lorasc_status {
  call {
    let out = try required(adapter, "adapter")
    guard let adapters, let weights, count > 0, count <= 1 << 20 else {
      throw LorascError(
        .argument, "adapters or weights is NULL, or count is \(count)", subject: "adapters")
    }
    let parts = try (0..<count).map { index in
      (try LorascABI.adapter(adapters[index], of: model), weights[index])
    }
    let combined = try Adapter.combine(parts, rank: rank == 0 ? nil : Int(rank))
    out.pointee = try Handles.add(.adapter) { _ in combined.adapter }
    error?.pointee = combined.error
  }
}

@_cdecl("lorasc_adapter_export") @implementation
public func lorasc_adapter_export(
  _ model: OpaquePointer!, _ adapter: OpaquePointer!, _ path: UnsafePointer<CChar>!,
  _ format: UnsafePointer<CChar>!
) -> lorasc_status {
  call {
    let adapter = try LorascABI.adapter(adapter, of: model)
    let path = try string(path, "path")
    switch try string(format, "format") {
    case "gguf": try adapter.exportGGUF(to: path)
    case "mlx": try adapter.exportMLX(to: path)
    case let other:
      throw LorascError(
        .argument, "the format '\(other)' is neither gguf nor mlx", subject: "format")
    }
  }
}
