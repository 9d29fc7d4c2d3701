// swift-tools-version: 6.1
import PackageDescription

// LORASC_SHIP=1 is set by `make lib`: the dynamic library then carries Swift's
// standard library, a SONAME and nothing exported but lorasc_*. Tests and Swift
// hosts build without it.
let ship = Context.environment["LORASC_SHIP"] == "1"

let shipLinkerSettings: [LinkerSetting] =
  ship
  ? [
    .unsafeFlags([
      "-static-stdlib", "-use-ld=lld",
      "-Xlinker", "-soname=liblorasc.so.1",
      "-Xlinker", "--version-script=\(Context.packageDirectory)/Sources/LorascABI/exports.map",
      "-Xlinker", "-z", "-Xlinker", "defs",
      "-Xlinker", "-z", "-Xlinker", "nodelete",
      "-Xlinker", "-s",
    ])
  ] : []

// LORASC_BENCH=1 is set by `make bench-operations`: the benchmark of single operations is built
// too. It sees the engine's inside: -enable-testing, as for the tests.
let benchmarks: [Target] =
  Context.environment["LORASC_BENCH"] == "1"
  ? [
    .executableTarget(
      name: "operations", dependencies: ["Lorasc", "CSupport"], path: "Benchmarks/operations")
  ] : []

/// One folder of kernel sources, compiled once a CPU level (see Sources/Kernels/README.md).
func kernels(
  _ name: String, level: String, cpu: [String] = [], exclude: [String] = ["README.md"]
) -> Target {
  .target(
    name: name, dependencies: ["CSupport"], exclude: exclude,
    swiftSettings: [
      .define(level),
      .unsafeFlags(["-Xcc", "-fno-math-errno"] + cpu, .when(configuration: .release)),
    ])
}

#if arch(x86_64)
  let avx2 = ["-Xcc", "-mavx2", "-target-cpu", "haswell", "-D", "LORASC_FMA"]
  let avx512 = [
    "-target-cpu", "skylake-avx512", "-Xcc", "-mprefer-vector-width=512", "-D", "LORASC_FMA",
    "-D", "LORASC_TABLES",
  ]
  let bf16 = [
    "-target-cpu", "cooperlake", "-Xcc", "-mprefer-vector-width=512", "-D", "LORASC_FMA",
    "-D", "LORASC_PAIRS",
  ]
#else
  let avx2: [String] = []
  let avx512: [String] = []
  let bf16: [String] = []
#endif

let package = Package(
  name: "lorasc",
  products: [
    .library(name: "Lorasc", targets: ["Lorasc"]),
    .library(name: "lorasc", type: .dynamic, targets: ["LorascABI"]),
  ],
  targets: [
    .systemLibrary(
      name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(name: "CFFI", pkgConfig: "libffi", providers: [.apt(["libffi-dev"])]),
    .systemLibrary(name: "CLorasc", path: "include"),
    .target(name: "CSupport"),
    kernels("Kernels", level: "LORASC_BASELINE"),
    kernels("KernelsAVX2", level: "LORASC_AVX2", cpu: avx2),
    kernels("KernelsAVX512", level: "LORASC_AVX512", cpu: avx512),
    kernels("KernelsBF16", level: "LORASC_BF16", cpu: bf16, exclude: []),
    .target(
      name: "Lorasc",
      dependencies: [
        "COpenBLAS", "CSupport", "Kernels", "KernelsAVX2", "KernelsAVX512", "KernelsBF16",
      ]),
    .target(
      name: "LorascABI", dependencies: ["Lorasc", "CLorasc", "CFFI", "CSupport"],
      exclude: ["exports.map"], linkerSettings: shipLinkerSettings),
    .testTarget(
      name: "KernelTests", dependencies: ["Lorasc", "CSupport", "COpenBLAS"],
      exclude: ["check_symbols.sh"]),
    .testTarget(name: "LorascTests", dependencies: ["Lorasc", "CLorasc", "CSupport"]),
  ] + benchmarks,
  swiftLanguageModes: [.v6]
)
