public import CLorasc
import Lorasc

@_cdecl("lorasc_dataset_from_callback") @implementation
public func lorasc_dataset_from_callback(
  _ rows: Int, _ read: lorasc_rows_fn?, _ user: UnsafeMutableRawPointer!,
  _ dataset: UnsafeMutablePointer<OpaquePointer?>!
) -> lorasc_status {
  call {
    let out = try required(dataset, "dataset")
    guard let read else { throw LorascError(.argument, "read is NULL", subject: "read") }
    out.pointee = try Handles.add(.dataset) { _ in
      try Dataset(rows: checkedCount(rows)) { numbers in
        var request = lorasc_rows()
        request.struct_size = UInt32(MemoryLayout<lorasc_rows>.size)
        request.count = numbers.count
        request.numbers = numbers.baseAddress
        guard read(&request, user) == 0 else {
          throw LorascError(.cancelled, "the dataset's callback cancelled the call")
        }
        return try batch(request.batch)
      }
    }
  }
}

@_cdecl("lorasc_trainer_set_loss") @implementation
public func lorasc_trainer_set_loss(
  _ trainer: OpaquePointer!, _ loss: lorasc_loss_fn?, _ user: UnsafeMutableRawPointer!
) -> lorasc_status {
  call {
    let trainer: Trainer = try Handles.object(trainer, .trainer)
    guard let loss else { return try trainer.setLoss(nil) }
    try trainer.setLoss { outputs in
      var given = cOutputs(outputs)
      guard loss(&given, user) == 0 else {
        throw LorascError(.cancelled, "the loss's callback cancelled the call")
      }
      outputs.loss = given.loss
      outputs.lossWeight = given.loss_weight
    }
  }
}

private func cOutputs(_ outputs: LossOutputs) -> lorasc_outputs {
  var out = lorasc_outputs()
  out.struct_size = UInt32(MemoryLayout<lorasc_outputs>.size)
  out.count = outputs.count
  out.width = outputs.width
  out.logits = outputs.logits.baseAddress
  out.gradient = outputs.gradient?.baseAddress
  out.labels = outputs.labels?.baseAddress
  out.targets = outputs.targets?.baseAddress
  out.weights = outputs.weights.baseAddress
  out.rows = outputs.rows.baseAddress
  out.places = outputs.places?.baseAddress
  out.loss = outputs.loss
  out.loss_weight = outputs.lossWeight
  return out
}
