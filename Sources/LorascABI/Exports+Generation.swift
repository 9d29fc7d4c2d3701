public import CLorasc
import Lorasc

@_cdecl("lorasc_generate") @implementation
public func lorasc_generate(
  _ model: OpaquePointer!, _ adapter: OpaquePointer!, _ prompt: UnsafePointer<Int32>!,
  _ promptTokens: Int, _ settings: UnsafePointer<lorasc_generation>!,
  _ callback: lorasc_token_fn?, _ user: UnsafeMutableRawPointer!,
  _ tokens: UnsafeMutablePointer<Int32>!, _ capacity: Int, _ count: UnsafeMutablePointer<Int>!
) -> lorasc_status {
  call {
    let model: Model = try Handles.object(model, .model)
    let adapter: Adapter? = try adapter.map { try Handles.object($0, .adapter) }
    let settings = try generationSettings(settings)
    guard let prompt else { throw LorascError(.argument, "prompt is NULL", subject: "prompt") }
    let ids = UnsafeBufferPointer(start: prompt, count: checkedCount(promptTokens))
    try Generator.check(model: model, adapter: adapter, prompt: ids, settings)
    if callback == nil { _ = try required(count, "count") }
    if tokens != nil || capacity != 0 || callback == nil {
      guard tokens != nil, checkedCount(capacity) >= settings.maxNewTokens else {
        count?.pointee = settings.maxNewTokens
        if tokens == nil, capacity == 0 { return }
        throw LorascError(
          .buffer,
          "the buffer holds \(capacity) tokens, \(settings.maxNewTokens) may be generated")
      }
    }
    var made = 0
    _ = try Generator.generate(model: model, adapter: adapter, prompt: ids, settings) { token in
      tokens?[made] = token
      made += 1
      count?.pointee = made
      return (callback?(token, user) ?? 0) == 0 ? .goOn : .cancel
    }
    count?.pointee = made
  }
}

/// The caller's settings, members beyond their `struct_size` the defaults.
private func generationSettings(_ pointer: UnsafePointer<lorasc_generation>?) throws
  -> GenerationSettings
{
  var settings = GenerationSettings()
  guard let pointer else { return settings }
  var given = lorasc_generation()
  given.max_new_tokens = Int32(settings.maxNewTokens)
  given.temperature = settings.temperature
  given.top_p = settings.topP
  given.repetition_penalty = settings.repetitionPenalty
  try read(pointer, "settings", into: &given, atLeast: 8)
  settings.maxNewTokens = Int(given.max_new_tokens)
  settings.temperature = given.temperature
  settings.topP = given.top_p
  settings.repetitionPenalty = given.repetition_penalty
  settings.topK = Int(given.top_k)
  settings.seed = given.seed
  if let stops = given.stop_tokens {
    guard given.stop_count >= 0, given.stop_count <= 1 << 20 else {
      throw LorascError(
        .argument, "stop_count is \(given.stop_count)", subject: "stop_count")
    }
    settings.stopTokens = Array(UnsafeBufferPointer(start: stops, count: given.stop_count))
  }
  return settings
}
