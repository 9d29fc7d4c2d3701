public import CSupport

#if LORASC_AVX512
  private let levelName: StaticString = "avx512"
#elseif LORASC_AVX2
  private let levelName: StaticString = "avx2"
#else
  private let levelName: StaticString = "baseline"
#endif

/// The kernels as this module was compiled. Calling one on a CPU without the
/// level's instructions is an illegal instruction: see `KernelLevel`.
public func makeKernelTable() -> lorasc_kernels {
  // Safe: because a StaticString with a pointer is zero-terminated ASCII for good.
  let name = UnsafeRawPointer(levelName.utf8Start).assumingMemoryBound(to: CChar.self)
  var table = lorasc_kernels(
    name: name,
    broadcast_rows: broadcastRows,
    column_sums: columnSums,
    scale_columns: scaleColumns,
    scale_columns_backward: scaleColumnsBackward,
    scale_columns_backward_bf16: scaleColumnsBackwardBF16,
    add_scaled_columns: addScaledColumns,
    activation_forward: activationForward,
    activation_backward: activationBackward,
    gate_forward: gateForward,
    gate_backward: gateBackward,
    activation_forward_bf16: activationForwardBF16,
    activation_backward_bf16: activationBackwardBF16,
    gate_forward_bf16: gateForwardBF16,
    gate_backward_bf16: gateBackwardBF16,
    layer_norm_forward: layerNormForward,
    layer_norm_backward: layerNormBackward,
    rms_norm_forward: rmsNormForward,
    rms_norm_backward: rmsNormBackward,
    rotate: rotate,
    rotate_bf16: rotateBF16,
    softmax_forward: softmaxForward,
    softmax_again: softmaxAgain,
    softmax_backward: softmaxBackward,
    skinny_product: nil,
    skinny_sum: nil,
    skinny_product_bf16: nil,
    skinny_add_bf16: nil,
    skinny_sum_bf16: nil,
    pair_rows: pairRows,
    fill: fill,
    axpby: axpby,
    dot: dot,
    sum: sum,
    sum_squared_deviations: sumSquaredDeviations,
    max_abs: maxAbs,
    adamw: adamw,
    sgd: sgd,
    add_uniform: addUniform,
    add_normal: addNormal,
    dropout: dropout,
    bf16_to_f32: bf16ToF32,
    f16_to_f32: f16ToF32,
    f32_to_bf16: f32ToBF16,
    f32_to_f16: f32ToF16,
    dequantize: dequantize,
    quantize_q8_0: quantizeQ8_0)
  #if LORASC_AVX512
    table.skinny_product = skinnyProduct
    table.skinny_sum = skinnySum
  #endif
  return table
}
