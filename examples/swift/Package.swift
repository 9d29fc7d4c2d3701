// swift-tools-version: 6.1
import PackageDescription

let lorasc: Target.Dependency = .product(name: "Lorasc", package: "lorasc")

let package = Package(
  name: "examples",
  dependencies: [.package(name: "lorasc", path: "../..")],
  targets: [
    .executableTarget(name: "finetune", dependencies: [lorasc]),
    .executableTarget(name: "images", dependencies: [lorasc]),
  ],
  swiftLanguageModes: [.v6]
)
