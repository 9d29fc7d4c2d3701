"""The structs of lorasc.h, in the header's order and with its member names.

Pointers to arrays are ``c_void_p``: numpy gives the address.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_char_p, c_double, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from typing import TypeVar


class Error(ctypes.Structure):
    """lorasc_error."""

    _fields_ = [
        ("status", c_int32),
        ("system_error", c_int32),
        ("message", c_char_p),
        ("subject", c_char_p),
    ]


class OptionInfo(ctypes.Structure):
    """lorasc_option_info."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("key", c_char_p),
        ("type", c_char_p),
        ("default_value", c_char_p),
        ("minimum", c_char_p),
        ("maximum", c_char_p),
        ("choices", c_char_p),
        ("scope", c_char_p),
        ("help", c_char_p),
    ]


class ModelDescription(ctypes.Structure):
    """lorasc_model_description."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("layers", c_uint32),
        ("parameters", c_uint64),
        ("hidden_size", c_uint32),
        ("intermediate_size", c_uint32),
        ("heads", c_uint32),
        ("vocabulary_size", c_uint32),
        ("maximum_positions", c_uint32),
        ("num_labels", c_uint32),
        ("architecture", c_char * 32),
        ("head", c_char * 32),
        ("kernels", c_char * 32),
        ("products", c_char * 16),
    ]


class TensorInfo(ctypes.Structure):
    """lorasc_tensor_info."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("rank", c_uint32),
        ("shape", c_uint64 * 8),
        ("elements", c_uint64),
        ("name", c_char * 256),
    ]


class Batch(ctypes.Structure):
    """lorasc_batch."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("rows", c_size_t),
        ("tokens", c_void_p),
        ("offsets", c_void_p),
        ("token_types", c_void_p),
        ("labels", c_void_p),
        ("targets", c_void_p),
        ("row_weights", c_void_p),
        ("token_labels", c_void_p),
        ("token_weights", c_void_p),
        ("pixels", c_void_p),
        ("pixel_type", c_uint32),
        ("channels", c_uint32),
        ("height", c_uint32),
        ("width", c_uint32),
        ("pixel_mean", c_void_p),
        ("pixel_std", c_void_p),
    ]


class Rows(ctypes.Structure):
    """lorasc_rows."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("count", c_size_t),
        ("numbers", c_void_p),
        ("batch", c_void_p),
    ]


class Outputs(ctypes.Structure):
    """lorasc_outputs."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("count", c_size_t),
        ("width", c_size_t),
        ("logits", c_void_p),
        ("gradient", c_void_p),
        ("labels", c_void_p),
        ("targets", c_void_p),
        ("weights", c_void_p),
        ("rows", c_void_p),
        ("places", c_void_p),
        ("loss", c_double),
        ("loss_weight", c_double),
    ]


class MatchReport(ctypes.Structure):
    """lorasc_match_report."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("matched", c_uint32),
        ("trainable_parameters", c_uint64),
        ("backbone_parameters", c_uint64),
    ]


class SaveReport(ctypes.Structure):
    """lorasc_save_report."""

    _fields_ = [("struct_size", c_uint32), ("rank", c_uint32), ("error", c_double)]


class AdapterDescription(ctypes.Structure):
    """lorasc_adapter_description."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("num_labels", c_uint32),
        ("modules", c_uint32),
        ("contrastive_rows", c_uint32),
        ("head", c_char * 32),
        ("problem_type", c_char * 32),
    ]


class ModuleInfo(ctypes.Structure):
    """lorasc_module_info."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("rank", c_uint32),
        ("scale", c_double),
        ("in_features", c_uint64),
        ("out_features", c_uint64),
        ("module", c_char * 256),
        ("rule", c_char * 256),
    ]


class MergeTensor(ctypes.Structure):
    """lorasc_merge_tensor."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("elements", c_uint64),
        ("changed", c_uint64),
        ("max_change", c_double),
        ("rounded_away", c_double),
        ("name", c_char * 256),
    ]


class MergeReport(ctypes.Structure):
    """lorasc_merge_report."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("tensors", c_uint32),
        ("changed", c_uint32),
        ("reserved", c_uint32),
        ("max_change", c_double),
        ("rounded_away", c_double),
    ]


class Generation(ctypes.Structure):
    """lorasc_generation."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("max_new_tokens", c_int32),
        ("temperature", c_double),
        ("top_p", c_double),
        ("repetition_penalty", c_double),
        ("top_k", c_int32),
        ("reserved", c_uint32),
        ("seed", c_uint64),
        ("stop_tokens", c_void_p),
        ("stop_count", c_size_t),
    ]


class EstimateInfo(ctypes.Structure):
    """lorasc_estimate_info."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("backbone_bytes", c_uint64),
        ("adapter_bytes", c_uint64),
        ("gradient_bytes", c_uint64),
        ("optimizer_bytes", c_uint64),
        ("activation_bytes", c_uint64),
        ("weight_bytes", c_uint64),
        ("total_bytes", c_uint64),
        ("forward_flops", c_double),
        ("step_flops", c_double),
    ]


class Stats(ctypes.Structure):
    """lorasc_stats."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("cascade", c_uint32),
        ("step", c_uint64),
        ("rows", c_uint64),
        ("tokens", c_uint64),
        ("loss", c_double),
        ("loss_weight", c_double),
        ("gradient_norm", c_double),
        ("learning_rate", c_double),
    ]


class Evaluation(ctypes.Structure):
    """lorasc_evaluation."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("rows", c_uint64),
        ("loss", c_double),
        ("loss_weight", c_double),
        ("accuracy", c_double),
        ("perplexity", c_double),
    ]


class Progress(ctypes.Structure):
    """lorasc_progress."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("event", c_uint32),
        ("step", c_uint64),
        ("total_steps", c_uint64),
        ("epoch", c_uint64),
        ("total_epochs", c_uint64),
        ("cascade", c_uint32),
        ("total_cascades", c_uint32),
        ("loss", c_double),
        ("gradient_norm", c_double),
        ("learning_rate", c_double),
        ("tokens", c_uint64),
        ("seconds", c_double),
        ("train_seconds", c_double),
        ("tokens_per_second", c_double),
        ("seconds_left", c_double),
        ("eval_loss", c_double),
        ("eval_accuracy", c_double),
        ("fast_loss", c_double),
        ("fast_accuracy", c_double),
    ]


class TrainerDescription(ctypes.Structure):
    """lorasc_trainer_description."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("cascade", c_uint32),
        ("step", c_uint64),
        ("total_steps", c_uint64),
        ("cascade_step", c_uint64),
        ("plan_bytes", c_uint64),
        ("threads", c_uint32),
        ("reserved", c_uint32),
    ]


class Matrix(ctypes.Structure):
    """lorasc_matrix."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("type", c_uint32),
        ("name", c_char_p),
        ("values", c_void_p),
        ("out_features", c_size_t),
        ("in_features", c_size_t),
        ("row_stride", c_size_t),
        ("bias", c_void_p),
        ("transposed", c_uint32),
        ("reserved", c_uint32),
    ]


class Activations(ctypes.Structure):
    """lorasc_activations."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("values", c_void_p),
        ("batch", c_size_t),
        ("tokens", c_size_t),
        ("token_stride", c_size_t),
        ("batch_stride", c_size_t),
    ]


class LayerCall(ctypes.Structure):
    """lorasc_layer_call."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("weights", c_uint32),
        ("share", c_uint32),
        ("reserved", c_uint32),
        ("key", c_uint64),
    ]


class LayerGradients(ctypes.Structure):
    """lorasc_layer_gradients."""

    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("a", c_void_p),
        ("b", c_void_p),
        ("magnitude", c_void_p),
    ]


#: Header name of each struct, for the test that compares layouts with the C compiler's.
ALL: dict[str, type[ctypes.Structure]] = {
    "lorasc_error": Error,
    "lorasc_option_info": OptionInfo,
    "lorasc_model_description": ModelDescription,
    "lorasc_tensor_info": TensorInfo,
    "lorasc_batch": Batch,
    "lorasc_rows": Rows,
    "lorasc_outputs": Outputs,
    "lorasc_match_report": MatchReport,
    "lorasc_save_report": SaveReport,
    "lorasc_adapter_description": AdapterDescription,
    "lorasc_module_info": ModuleInfo,
    "lorasc_merge_report": MergeReport,
    "lorasc_merge_tensor": MergeTensor,
    "lorasc_generation": Generation,
    "lorasc_estimate_info": EstimateInfo,
    "lorasc_stats": Stats,
    "lorasc_evaluation": Evaluation,
    "lorasc_progress": Progress,
    "lorasc_trainer_description": TrainerDescription,
    "lorasc_matrix": Matrix,
    "lorasc_activations": Activations,
    "lorasc_layer_call": LayerCall,
    "lorasc_layer_gradients": LayerGradients,
}

S = TypeVar("S", bound=ctypes.Structure)


def sized(kind: type[S]) -> S:
    """A zeroed struct with its ``struct_size`` set."""
    return kind(struct_size=ctypes.sizeof(kind))
