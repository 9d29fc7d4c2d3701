"""Every function of lorasc.h: result and argument types."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_size_t, c_uint32, c_void_p
from typing import Any

from . import _structs as structs

ABI_VERSION = 1

LogFunction = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)
# Without the `user` argument, which stays in its register: the target is a generator's send(),
# which takes one value (see _callback.py).
ProgressFunction = ctypes.CFUNCTYPE(c_int32, POINTER(structs.Progress))
TokenFunction = ctypes.CFUNCTYPE(c_int32, c_int32)
ScalarFunction = ctypes.CFUNCTYPE(c_double, c_int, POINTER(c_double))
RowsFunction = ctypes.CFUNCTYPE(c_int32, POINTER(structs.Rows))
LossFunction = ctypes.CFUNCTYPE(c_int32, POINTER(structs.Outputs))

_handle = c_void_p
_handle_out = POINTER(c_void_p)
_buffer = c_void_p
_need = POINTER(c_size_t)
_status = c_int32

#: name: (result, arguments)
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "lorasc_status_name": (c_char_p, [c_int32]),
    "lorasc_last_error": (POINTER(structs.Error), []),
    "lorasc_abi_version": (c_uint32, []),
    "lorasc_version": (c_char_p, []),
    "lorasc_build_info": (c_char_p, []),
    "lorasc_set_log": (_status, [c_int32, LogFunction, c_void_p]),
    # Options
    "lorasc_options_create": (_status, [_handle_out]),
    "lorasc_options_set": (_status, [_handle, c_char_p, c_char_p]),
    "lorasc_options_get": (_status, [_handle, c_char_p, _buffer, c_size_t, _need]),
    "lorasc_options_load_json": (_status, [_handle, c_char_p]),
    "lorasc_options_free": (None, [_handle]),
    "lorasc_option_count": (c_size_t, []),
    "lorasc_option_describe": (_status, [c_size_t, POINTER(structs.OptionInfo)]),
    # Models
    "lorasc_model_open": (_status, [c_char_p, _handle, _handle_out]),
    "lorasc_model_info": (_status, [_handle, POINTER(structs.ModelDescription)]),
    "lorasc_model_tensor_count": (c_size_t, [_handle]),
    "lorasc_model_tensor_info": (_status, [_handle, c_size_t, POINTER(structs.TensorInfo)]),
    "lorasc_model_tensor": (_status, [_handle, c_char_p, _buffer, c_size_t, _need]),
    "lorasc_model_file": (_status, [_handle, c_char_p, _buffer, c_size_t, _need]),
    "lorasc_model_retain": (_status, [_handle]),
    "lorasc_model_free": (None, [_handle]),
    # Datasets
    "lorasc_dataset_create": (_status, [POINTER(structs.Batch), _handle_out]),
    "lorasc_dataset_from_callback": (_status, [c_size_t, RowsFunction, c_void_p, _handle_out]),
    "lorasc_dataset_rows": (c_size_t, [_handle]),
    "lorasc_dataset_free": (None, [_handle]),
    # Adapters
    "lorasc_adapter_create": (
        _status,
        [_handle, _handle, POINTER(structs.MatchReport), _handle_out],
    ),
    "lorasc_adapter_tensor_count": (c_size_t, [_handle]),
    "lorasc_adapter_tensor_info": (_status, [_handle, c_size_t, POINTER(structs.TensorInfo)]),
    "lorasc_adapter_copy_out": (_status, [_handle, c_char_p, _buffer, c_size_t, _need]),
    "lorasc_adapter_copy_in": (_status, [_handle, c_char_p, _buffer, c_size_t]),
    "lorasc_adapter_load": (
        _status,
        [_handle, c_char_p, _handle, POINTER(structs.MatchReport), _handle_out],
    ),
    "lorasc_adapter_save": (
        _status,
        [_handle, _handle, c_char_p, c_uint32, POINTER(structs.SaveReport)],
    ),
    "lorasc_adapter_module_count": (c_size_t, [_handle]),
    "lorasc_adapter_module_info": (_status, [_handle, c_size_t, POINTER(structs.ModuleInfo)]),
    "lorasc_adapter_set_scale": (_status, [_handle, c_double]),
    "lorasc_adapter_info": (_status, [_handle, POINTER(structs.AdapterDescription)]),
    "lorasc_adapter_get_scale": (_status, [_handle, POINTER(c_double)]),
    "lorasc_adapter_merge": (_status, [_handle, _handle, c_char_p, POINTER(structs.MergeReport)]),
    "lorasc_adapter_merge_as": (
        _status,
        [_handle, _handle, c_char_p, c_char_p, POINTER(structs.MergeReport)],
    ),
    "lorasc_adapter_merge_tensor_count": (c_size_t, [_handle]),
    "lorasc_adapter_merge_tensor_info": (
        _status,
        [_handle, c_size_t, POINTER(structs.MergeTensor)],
    ),
    "lorasc_adapter_combine": (
        _status,
        [_handle, _handle_out, _buffer, c_size_t, c_uint32, POINTER(c_double), _handle_out],
    ),
    "lorasc_adapter_export": (_status, [_handle, _handle, c_char_p, c_char_p]),
    "lorasc_adapter_free": (None, [_handle]),
    "lorasc_predict": (
        _status,
        [_handle, _handle, POINTER(structs.Batch), c_uint32, _buffer, c_size_t, _need],
    ),
    "lorasc_generate": (
        _status,
        [
            _handle,
            _handle,
            _buffer,
            c_size_t,
            POINTER(structs.Generation),
            TokenFunction,
            c_void_p,
            _buffer,
            c_size_t,
            _need,
        ],
    ),
    # Trainers
    "lorasc_estimate": (_status, [_handle, _handle, POINTER(structs.EstimateInfo)]),
    "lorasc_trainer_create": (_status, [_handle, _handle, _handle, _handle_out]),
    "lorasc_trainer_accumulate": (
        _status,
        [_handle, POINTER(structs.Batch), POINTER(structs.Stats)],
    ),
    "lorasc_trainer_apply": (_status, [_handle, POINTER(structs.Stats)]),
    "lorasc_trainer_discard_gradients": (_status, [_handle]),
    "lorasc_trainer_gradient": (_status, [_handle, c_char_p, _buffer, c_size_t, _need]),
    "lorasc_trainer_cascade": (_status, [_handle, POINTER(structs.Stats)]),
    "lorasc_trainer_get_learning_rate": (_status, [_handle, POINTER(c_double)]),
    "lorasc_trainer_set_learning_rate": (_status, [_handle, c_double]),
    "lorasc_trainer_evaluate": (
        _status,
        [_handle, _handle, c_int32, POINTER(structs.Evaluation)],
    ),
    "lorasc_trainer_run": (_status, [_handle, _handle, _handle, ProgressFunction, c_void_p]),
    "lorasc_trainer_set_loss": (_status, [_handle, LossFunction, c_void_p]),
    "lorasc_trainer_interrupt": (_status, [_handle]),
    "lorasc_trainer_merged": (_status, [_handle, c_char_p, _buffer, c_size_t, _need]),
    "lorasc_trainer_save": (_status, [_handle, c_char_p]),
    "lorasc_trainer_resume": (_status, [_handle, c_char_p]),
    "lorasc_trainer_info": (_status, [_handle, POINTER(structs.TrainerDescription)]),
    "lorasc_trainer_free": (None, [_handle]),
    # The host's own model
    "lorasc_model_from_host": (
        _status,
        [POINTER(structs.Matrix), c_size_t, _handle, _handle_out],
    ),
    "lorasc_adapter_tensor_data": (_status, [_handle, c_char_p, POINTER(c_void_p)]),
    "lorasc_adapter_merge_into_host": (_status, [_handle, _handle]),
    "lorasc_layer_create": (_status, [_handle, c_char_p, _handle_out]),
    "lorasc_layer_free": (None, [_handle]),
    "lorasc_layer_forward": (
        _status,
        [
            _handle,
            POINTER(structs.Activations),
            POINTER(structs.Activations),
            POINTER(structs.LayerCall),
        ],
    ),
    "lorasc_layer_backward": (
        _status,
        [
            _handle,
            POINTER(structs.Activations),
            POINTER(structs.Activations),
            POINTER(structs.Activations),
            POINTER(structs.LayerCall),
            POINTER(structs.LayerGradients),
        ],
    ),
    "lorasc_layer_weight": (_status, [_handle, _buffer, c_size_t, _need]),
    "lorasc_trainer_count_step": (_status, [_handle]),
    # Functions bound to handles: their addresses, to be passed on to other libraries
    "lorasc_bind_interrupt": (_status, [_handle, POINTER(c_void_p)]),
    "lorasc_bind_forward": (_status, [_handle, POINTER(c_void_p)]),
    "lorasc_bind_module": (_status, [_handle, c_char_p, POINTER(c_void_p)]),
    "lorasc_bind_scalar": (_status, [_handle, POINTER(c_void_p)]),
    "lorasc_unbind": (_status, [c_void_p]),
}


def declare(library: ctypes.CDLL) -> None:
    """Sets the types of the library's functions.

    Raises:
        AttributeError: the library lacks one of them.
    """
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
