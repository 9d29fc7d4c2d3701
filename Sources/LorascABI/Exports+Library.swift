public import CLorasc
import CSupport
import Glibc
import Lorasc

/// Strings that live as long as the process, for functions that return `const char *`.
private final class StaticText: @unchecked Sendable {
  let pointer: UnsafePointer<CChar>

  init(_ text: String) {
    let size = text.utf8.count + 1
    let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 1)
    copy(text, to: memory, size)
    // Safe: because the memory is never freed and only read.
    pointer = UnsafePointer(memory.bindMemory(to: CChar.self, capacity: size))
  }
}

private let statusNames: [Int32: StaticText] = Dictionary(
  uniqueKeysWithValues: Status.allCases.map { ($0.rawValue, StaticText($0.name)) })
private let unknownStatus = StaticText("LORASC_E_?")
private let versionText = StaticText(LORASC_VERSION)
private let buildInfo = StaticText(
  "liblorasc \(LORASC_VERSION), ABI \(LORASC_ABI_VERSION), \(BuildInfo.description)")

@_cdecl("lorasc_status_name") @implementation
public func lorasc_status_name(_ status: Int32) -> UnsafePointer<CChar>! {
  (statusNames[status] ?? unknownStatus).pointer
}

@_cdecl("lorasc_last_error") @implementation
public func lorasc_last_error() -> UnsafePointer<lorasc_error>! {
  // Safe: because lorasc_thread_error begins with lorasc_error's members, and lives as long
  // as the thread.
  UnsafeRawPointer(lorasc_thread_error_get())?.assumingMemoryBound(to: lorasc_error.self)
}

@_cdecl("lorasc_abi_version") @implementation
public func lorasc_abi_version() -> UInt32 { UInt32(LORASC_ABI_VERSION) }

@_cdecl("lorasc_version") @implementation
public func lorasc_version() -> UnsafePointer<CChar>! { versionText.pointer }

@_cdecl("lorasc_build_info") @implementation
public func lorasc_build_info() -> UnsafePointer<CChar>! { buildInfo.pointer }

/// A host's pointer on its way into a closure that may run on any thread: the host said so.
private struct HostPointer: @unchecked Sendable {
  let pointer: UnsafeMutableRawPointer?
}

@_cdecl("lorasc_set_log") @implementation
public func lorasc_set_log(_ level: Int32, _ log: lorasc_log_fn?, _ user: UnsafeMutableRawPointer?)
  -> lorasc_status
{
  call {
    guard let log else { return Log.set(minimum: level, nil) }
    let host = HostPointer(pointer: user)
    Log.set(minimum: level) { level, message in
      message.withCString { log(level.rawValue, $0, host.pointer) }
    }
  }
}

// MARK: Options

/// An options handle's object.
final class OptionsBox: @unchecked Sendable {
  var options = Options()
  let use = ExclusiveUse("options")
}

/// A copy of the options a call was given; NULL: all defaults.
func options(_ pointer: OpaquePointer?) throws -> Options {
  guard let pointer else { return Options() }
  let box: OptionsBox = try Handles.object(pointer, .options)
  return try box.use { box.options }
}

@_cdecl("lorasc_options_create") @implementation
public func lorasc_options_create(_ options: UnsafeMutablePointer<OpaquePointer?>!) -> lorasc_status
{
  call {
    let out = try required(options, "options")
    out.pointee = try Handles.add(.options) { _ in OptionsBox() }
  }
}

@_cdecl("lorasc_options_set") @implementation
public func lorasc_options_set(
  _ options: OpaquePointer!, _ key: UnsafePointer<CChar>!, _ value: UnsafePointer<CChar>!
) -> lorasc_status {
  call {
    let box: OptionsBox = try Handles.object(options, .options)
    let (key, value) = (try string(key, "key"), try string(value, "value"))
    try box.use { try box.options.set(key, value) }
  }
}

@_cdecl("lorasc_options_get") @implementation
public func lorasc_options_get(
  _ options: OpaquePointer!, _ key: UnsafePointer<CChar>!, _ buffer: UnsafeMutablePointer<CChar>!,
  _ capacity: Int, _ need: UnsafeMutablePointer<Int>!
) -> lorasc_status {
  call {
    let box: OptionsBox = try Handles.object(options, .options)
    let key = try string(key, "key")
    try fill(buffer, capacity, need, text: try box.use { try box.options.text(key) })
  }
}

@_cdecl("lorasc_options_load_json") @implementation
public func lorasc_options_load_json(_ options: OpaquePointer!, _ json: UnsafePointer<CChar>!)
  -> lorasc_status
{
  call {
    let box: OptionsBox = try Handles.object(options, .options)
    let text = try string(json, "json")
    try box.use { try box.options.load(json: text) }
  }
}

@_cdecl("lorasc_options_free") @implementation
public func lorasc_options_free(_ options: OpaquePointer!) { free(options, .options) }

/// The free functions' one body.
func free(_ pointer: OpaquePointer?, _ kind: HandleKind) {
  guard !lorasc_is_forked_child() else { return }
  Handles.release(pointer, kind)
}

/// A table row's strings for C.
private struct StaticOption {
  let key, type, defaultValue, minimum, maximum, choices, scope, help: StaticText

  init(_ row: OptionDescription) {
    key = StaticText(row.key)
    type = StaticText(row.kind.rawValue)
    defaultValue = StaticText(row.defaultValue)
    minimum = StaticText(row.minimumText)
    maximum = StaticText(row.maximumText)
    choices = StaticText(row.choices.joined(separator: "|"))
    scope = StaticText(row.scope.rawValue)
    help = StaticText(row.help)
  }
}
private let staticOptions = OptionTable.all.map(StaticOption.init)

@_cdecl("lorasc_option_count") @implementation
public func lorasc_option_count() -> Int { staticOptions.count }

@_cdecl("lorasc_option_describe") @implementation
public func lorasc_option_describe(_ index: Int, _ info: UnsafeMutablePointer<lorasc_option_info>!)
  -> lorasc_status
{
  call {
    guard staticOptions.indices.contains(index) else {
      throw LorascError(.argument, "there is no option \(index)", subject: "index")
    }
    let row = staticOptions[index]
    var description = lorasc_option_info()
    description.key = row.key.pointer
    description.type = row.type.pointer
    description.default_value = row.defaultValue.pointer
    description.minimum = row.minimum.pointer
    description.maximum = row.maximum.pointer
    description.choices = row.choices.pointer
    description.scope = row.scope.pointer
    description.help = row.help.pointer
    try put(description, to: info, "info")
  }
}
