public import CLorasc
import CSupport
import Lorasc

private func trainer(_ pointer: OpaquePointer?) throws -> Trainer {
  try Handles.object(pointer, .trainer)
}

private func cStats(_ stats: StepStats) -> lorasc_stats {
  var out = lorasc_stats()
  out.cascade = UInt32(clamping: stats.cascade)
  out.step = UInt64(stats.step)
  out.rows = UInt64(stats.rows)
  out.tokens = UInt64(stats.tokens)
  out.loss = stats.loss
  out.loss_weight = stats.lossWeight
  out.gradient_norm = stats.gradientNorm
  out.learning_rate = stats.learningRate
  return out
}

@_cdecl("lorasc_estimate") @implementation
public func lorasc_estimate(
  _ model: OpaquePointer!, _ options: OpaquePointer!,
  _ info: UnsafeMutablePointer<lorasc_estimate_info>!
) -> lorasc_status {
  call {
    let model: Model = try Handles.object(model, .model)
    let estimate = try Estimate(model: model, options: try LorascABI.options(options))
    var out = lorasc_estimate_info()
    out.backbone_bytes = UInt64(estimate.backboneBytes)
    out.adapter_bytes = UInt64(estimate.adapterBytes)
    out.gradient_bytes = UInt64(estimate.gradientBytes)
    out.optimizer_bytes = UInt64(estimate.optimizerBytes)
    out.activation_bytes = UInt64(estimate.activationBytes)
    out.weight_bytes = UInt64(estimate.weightBytes)
    out.total_bytes = UInt64(estimate.totalBytes)
    out.forward_flops = estimate.forwardFLOPs
    out.step_flops = estimate.stepFLOPs
    try put(out, to: info, "info")
  }
}

@_cdecl("lorasc_trainer_create") @implementation
public func lorasc_trainer_create(
  _ model: OpaquePointer!, _ adapter: OpaquePointer!, _ options: OpaquePointer!,
  _ trainer: UnsafeMutablePointer<OpaquePointer?>!
) -> lorasc_status {
  call {
    let out = try required(trainer, "trainer")
    let model: Model = try Handles.object(model, .model)
    let adapter: Adapter = try Handles.object(adapter, .adapter)
    let settings = try LorascABI.options(options)
    out.pointee = try Handles.add(.trainer) { handle in
      guard let word = lorasc_slot_word(handle.slot) else {
        throw LorascError(.limit, "there is no room for another trainer")
      }
      let made = try Trainer(
        model: model, adapter: adapter, options: settings,
        interruption: Interruption(word: word, armed: handle.armed, fired: handle.fired))
      lorasc_atomic_store(word, handle.armed)
      return made
    }
  }
}

@_cdecl("lorasc_trainer_accumulate") @implementation
public func lorasc_trainer_accumulate(
  _ trainer: OpaquePointer!, _ batch: UnsafePointer<lorasc_batch>!,
  _ stats: UnsafeMutablePointer<lorasc_stats>!
) -> lorasc_status {
  call {
    try checkIfGiven(stats, "stats")
    let trainer = try LorascABI.trainer(trainer)
    try putIfGiven(cStats(try trainer.accumulate(try LorascABI.batch(batch))), to: stats, "stats")
  }
}

@_cdecl("lorasc_trainer_apply") @implementation
public func lorasc_trainer_apply(
  _ trainer: OpaquePointer!, _ stats: UnsafeMutablePointer<lorasc_stats>!
) -> lorasc_status {
  call {
    try checkIfGiven(stats, "stats")
    try putIfGiven(cStats(try LorascABI.trainer(trainer).apply()), to: stats, "stats")
  }
}

@_cdecl("lorasc_trainer_discard_gradients") @implementation
public func lorasc_trainer_discard_gradients(_ trainer: OpaquePointer!) -> lorasc_status {
  call { try LorascABI.trainer(trainer).discardGradients() }
}

@_cdecl("lorasc_trainer_gradient") @implementation
public func lorasc_trainer_gradient(
  _ trainer: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ buffer: UnsafeMutablePointer<Float>!,
  _ capacity: Int, _ need: UnsafeMutablePointer<Int>!
) -> lorasc_status {
  call {
    let values = try LorascABI.trainer(trainer).gradient(of: try string(name, "name"))
    try fill(buffer, capacity, need, count: values.count) { _ = $0.update(fromContentsOf: values) }
  }
}

@_cdecl("lorasc_trainer_cascade") @implementation
public func lorasc_trainer_cascade(
  _ trainer: OpaquePointer!, _ stats: UnsafeMutablePointer<lorasc_stats>!
) -> lorasc_status {
  call {
    try checkIfGiven(stats, "stats")
    try putIfGiven(cStats(try LorascABI.trainer(trainer).endCascade()), to: stats, "stats")
  }
}

@_cdecl("lorasc_trainer_get_learning_rate") @implementation
public func lorasc_trainer_get_learning_rate(
  _ trainer: OpaquePointer!, _ rate: UnsafeMutablePointer<Double>!
) -> lorasc_status {
  call {
    let out = try required(rate, "rate")
    out.pointee = try LorascABI.trainer(trainer).learningRate()
  }
}

@_cdecl("lorasc_trainer_set_learning_rate") @implementation
public func lorasc_trainer_set_learning_rate(_ trainer: OpaquePointer!, _ rate: Double)
  -> lorasc_status
{
  call { try LorascABI.trainer(trainer).setLearningRate(rate) }
}

@_cdecl("lorasc_trainer_evaluate") @implementation
public func lorasc_trainer_evaluate(
  _ trainer: OpaquePointer!, _ dataset: OpaquePointer!, _ fast: Int32,
  _ evaluation: UnsafeMutablePointer<lorasc_evaluation>!
) -> lorasc_status {
  call {
    _ = try required(evaluation, "evaluation")
    try checkIfGiven(evaluation, "evaluation")
    let trainer = try LorascABI.trainer(trainer)
    let dataset: Dataset = try Handles.object(dataset, .dataset)
    let result = try trainer.evaluate(dataset, view: fast == 0 ? .merged : .fast)
    var out = lorasc_evaluation()
    out.rows = UInt64(result.rows)
    out.loss = result.loss
    out.loss_weight = result.lossWeight
    out.accuracy = result.accuracy
    out.perplexity = result.perplexity
    try put(out, to: evaluation, "evaluation")
  }
}

@_cdecl("lorasc_trainer_run") @implementation
public func lorasc_trainer_run(
  _ trainer: OpaquePointer!, _ dataset: OpaquePointer!, _ eval: OpaquePointer!,
  _ progress: lorasc_progress_fn?, _ user: UnsafeMutableRawPointer!
) -> lorasc_status {
  call {
    let trainer = try LorascABI.trainer(trainer)
    let dataset: Dataset = try Handles.object(dataset, .dataset)
    let evaluationSet: Dataset? = try eval.map { try Handles.object($0, .dataset) }
    guard let progress else { return try trainer.run(dataset, evaluate: evaluationSet) }
    try trainer.run(dataset, evaluate: evaluationSet) { report in
      var out = cProgress(report)
      return progress(&out, user) == 0 ? .goOn : .cancel
    }
  }
}

private func cProgress(_ progress: Progress) -> lorasc_progress {
  var out = lorasc_progress()
  out.struct_size = UInt32(MemoryLayout<lorasc_progress>.size)
  out.event = progress.event.rawValue
  out.step = UInt64(progress.step)
  out.total_steps = UInt64(progress.totalSteps)
  out.epoch = UInt64(progress.epoch)
  out.total_epochs = UInt64(progress.totalEpochs)
  out.cascade = UInt32(clamping: progress.cascade)
  out.total_cascades = UInt32(clamping: progress.totalCascades)
  out.loss = progress.loss
  out.gradient_norm = progress.gradientNorm
  out.learning_rate = progress.learningRate
  out.tokens = UInt64(progress.tokens)
  out.seconds = progress.seconds
  out.train_seconds = progress.trainSeconds
  out.tokens_per_second = progress.tokensPerSecond
  out.seconds_left = progress.secondsLeft
  out.eval_loss = progress.evaluation.loss
  out.eval_accuracy = progress.evaluation.accuracy
  out.fast_loss = progress.fastEvaluation.loss
  out.fast_accuracy = progress.fastEvaluation.accuracy
  return out
}

@_cdecl("lorasc_trainer_merged") @implementation
public func lorasc_trainer_merged(
  _ trainer: OpaquePointer!, _ tensor: UnsafePointer<CChar>!,
  _ buffer: UnsafeMutablePointer<Float>!,
  _ capacity: Int, _ need: UnsafeMutablePointer<Int>!
) -> lorasc_status {
  call {
    let values = try LorascABI.trainer(trainer).merged(try string(tensor, "tensor"))
    try fill(buffer, capacity, need, count: values.count) { _ = $0.update(fromContentsOf: values) }
  }
}

@_cdecl("lorasc_trainer_save") @implementation
public func lorasc_trainer_save(_ trainer: OpaquePointer!, _ path: UnsafePointer<CChar>!)
  -> lorasc_status
{
  call { try LorascABI.trainer(trainer).save(to: try string(path, "path")) }
}

@_cdecl("lorasc_trainer_resume") @implementation
public func lorasc_trainer_resume(_ trainer: OpaquePointer!, _ path: UnsafePointer<CChar>!)
  -> lorasc_status
{
  call { try LorascABI.trainer(trainer).resume(from: try string(path, "path")) }
}

@_cdecl("lorasc_trainer_info") @implementation
public func lorasc_trainer_info(
  _ trainer: OpaquePointer!, _ info: UnsafeMutablePointer<lorasc_trainer_description>!
) -> lorasc_status {
  call {
    let trainer = try LorascABI.trainer(trainer)
    var out = lorasc_trainer_description()
    let position = try trainer.position()
    out.cascade = UInt32(clamping: position.cascade)
    out.step = UInt64(position.step)
    out.total_steps = UInt64(position.totalSteps)
    out.cascade_step = UInt64(position.cascadeStep)
    out.plan_bytes = UInt64(trainer.planBytes)
    out.threads = UInt32(clamping: trainer.threads)
    try put(out, to: info, "info")
  }
}

@_cdecl("lorasc_trainer_free") @implementation
public func lorasc_trainer_free(_ trainer: OpaquePointer!) { free(trainer, .trainer) }

/// No lock, no allocation, no error record: a signal handler may be the caller.
@_cdecl("lorasc_trainer_interrupt") @implementation
public func lorasc_trainer_interrupt(_ trainer: OpaquePointer!) -> lorasc_status {
  if lorasc_is_forked_child() { return LORASC_E_STATE }
  guard let handle = Handle(trainer), handle.kind == HandleKind.trainer.rawValue,
    let word = lorasc_slot_word(handle.slot)
  else { return LORASC_E_HANDLE }
  if lorasc_atomic_compare_exchange(word, handle.armed, handle.fired) { return LORASC_OK }
  return lorasc_atomic_load(word) == handle.fired ? LORASC_OK : LORASC_E_HANDLE
}
