import CSupport

extension Adapter {
  /// A of every target ~ U(−1/√in, 1/√in) (PEFT's kaiming_uniform with a = √5), keyed by the
  /// seed, the cascade and the module's name; B = 0.
  func drawFactors(seed: UInt64) {
    let kernels = KernelLevel.baselineTable
    for target in targets {
      let module = model.linears[target.linear]
      let stream = RandomStream(
        seed: seed, purpose: .initialFactors, cascade: cascade.index, step: 0, name: module.name)
      let a = parameters.buffer(target.a)
      kernels.add_uniform(
        nil, parameters.pointer(target.a), a.count, stream.c, 0,
        2 / Float(module.inFeatures).squareRoot())
      parameters.buffer(target.b).update(repeating: 0)
    }
  }

  /// Modules trained in full start at the folder's values; a head that the folder doesn't
  /// have at N(0, 0.02²) and bias 0, as transformers'.
  func copyFullModules() {
    for module in fullModules {
      if let linear = module.linear {
        let source = model.linears[linear]
        parameters.pointer(module.weight).update(from: source.weight.pointer, count: source.count)
        if let bias = module.bias, let values = source.bias {
          parameters.pointer(bias).update(from: values.pointer, count: values.count)
        }
      } else if let head = model.head, head.description.labels == settings.head.labels,
        head.description.kind == settings.head.kind
      {
        parameters.pointer(module.weight).update(
          from: head.weight.pointer, count: head.weight.count)
        if let bias = module.bias {
          parameters.pointer(bias).update(from: head.bias.pointer, count: head.bias.count)
        }
      } else {
        let stream = RandomStream(
          seed: settings.seed, purpose: .head, cascade: 0, step: 0, name: Adapter.headWeight)
        KernelLevel.baselineTable.add_normal(
          nil, parameters.pointer(module.weight), parameters.list[module.weight].count, stream.c, 0,
          0.02)
      }
    }
  }
}
