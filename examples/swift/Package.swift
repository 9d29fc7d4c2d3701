// swift-tools-version: 6.1
import PackageDescription

let package = Package(
  name: "finetune",
  dependencies: [.package(name: "lorasc", path: "../..")],
  targets: [
    .executableTarget(
      name: "finetune", dependencies: [.product(name: "Lorasc", package: "lorasc")])
  ],
  swiftLanguageModes: [.v6]
)
