"""Adapters: the whole result of fine-tuning."""

from __future__ import annotations

import ctypes
import functools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from . import _structs as structs
from ._generate import TextGenerator
from ._handle import Handle
from ._library import library
from ._options import Options, refuse_foreign
from ._predict import What, predict
from ._tensors import copy_tensor, list_tensors
from .batch import Batch
from .errors import DataError, NotFoundError, Status, check, encode_text
from .model import Model
from .reports import (
    AdapterInfo,
    MatchReport,
    MergeReport,
    MergeTensor,
    ModuleInfo,
    SaveReport,
    TensorInfo,
    from_struct,
)

R = TypeVar("R")


class Adapter(Handle, TextGenerator):
    """Fresh low-rank factors on a model's matrices, and a task head.

    Holds everything that fine-tuning changes: the terms of finished cascades, the current
    expert's A and B, the slow state and the head. The model stays as it is.

    Args:
        model: the frozen backbone.
        options: of scope "adapter": ``method``, ``r``, ``lora_alpha``, ``target_modules``,
            ``head``, ``num_labels``, ``id2label``, ``adapter_seed``, ... (see
            lorasc.options()).

    Attributes:
        model: the model.
        matched: what the target rule matched, a MatchReport; None for a combination.
        combination_error: of the truncation that made it, see ``combine``.

    Raises:
        OptionError: a bad option.
        DataError: the target rule matches no module (NO_MATCH).
    """

    matched: MatchReport | None = None
    combination_error: float = 0.0

    def __init__(self, model: Model, **options: Any) -> None:
        refuse_foreign(options, ("adapter",), "adapter")
        self.model = model
        self._options = options
        self._make(library().lorasc_adapter_create, [])

    def _make(self, call: Callable[..., int], arguments: list[Any]) -> None:
        pointer = ctypes.c_void_p()
        report = structs.sized(structs.MatchReport)
        with Options(self.model._options | self._options) as values:
            check(
                call(
                    self.model._handle,
                    *arguments,
                    values._handle,
                    ctypes.byref(report),
                    ctypes.byref(pointer),
                )
            )
        self._own(pointer, library().lorasc_adapter_free)
        self.matched = from_struct(MatchReport, report)

    @classmethod
    def load(cls, model: Model, directory: str | os.PathLike[str], **options: Any) -> Adapter:
        """Reads an adapter from a folder of PEFT's, or of save(), or from a GGUF LoRA.

        Args:
            model: the frozen backbone.
            directory: with adapter_config.json and adapter_model.safetensors; or a GGUF file.
            options: what the configuration doesn't say: ``num_labels``, ``adapter_seed``, ...

        Raises:
            FormatError: tensors that are missing, too many or of other shapes (they are named);
                another base model; a damaged file, a pickle, a feature that isn't offered.
            OptionError: options that contradict the configuration.
        """
        refuse_foreign(options, ("adapter",), "adapter")
        adapter = cls.__new__(cls)
        adapter.model = model
        adapter._options = options
        adapter._make(library().lorasc_adapter_load, [encode_text(os.fspath(directory))])
        return adapter

    def save(self, directory: str | os.PathLike[str], rank: int | None = None) -> SaveReport:
        """Writes the merged view as a folder that PEFT opens.

        One expert goes as it is; a cascade of low-rank experts as one adapter with the ranks of
        all its terms together. A mean_linear head, which PEFT doesn't know, lies beside.

        Args:
            directory: replaced in one step; other files in it stay.
            rank: None: exact; else truncated to it by SVD, see the report's error.

        Raises:
            FormatError: only merged weights hold the result (UNSUPPORTED): DoRA after its first
                cascade, persistent noise.
            FileAccessError, NonFiniteError.
        """
        report = structs.sized(structs.SaveReport)
        check(
            library().lorasc_adapter_save(
                self.model._handle,
                self._handle,
                encode_text(os.fspath(directory)),
                rank or 0,
                ctypes.byref(report),
            )
        )
        return from_struct(SaveReport, report)

    def tensors(self) -> dict[str, TensorInfo]:
        """Names and shapes of the trainable tensors.

        "<module>.lora_A.weight" (r, in), "<module>.lora_B.weight" (out, r), the head's
        "classifier.weight" (num_labels, hidden) and so on.
        """
        return list_tensors(
            self._handle,
            library().lorasc_adapter_tensor_count,
            library().lorasc_adapter_tensor_info,
        )

    @functools.cached_property
    def info(self) -> AdapterInfo:
        """The head and what it is for."""
        info = structs.sized(structs.AdapterDescription)
        check(library().lorasc_adapter_info(self._handle, ctypes.byref(info)))
        return from_struct(AdapterInfo, info)

    @property
    def num_labels(self) -> int:
        """Outputs of the head."""
        return self.info.num_labels

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        """A copy of a trainable tensor's values.

        Raises:
            NotFoundError: no tensor of this name.
        """
        found = self.tensors().get(name)
        shape = found.shape if found else None
        return copy_tensor(library().lorasc_adapter_copy_out, self._handle, name, shape)

    def __setitem__(self, name: str, values: npt.ArrayLike) -> None:
        """Sets a trainable tensor's values, in its shape.

        Raises:
            NotFoundError: no tensor of this name.
            DataError: another shape.
            NonFiniteError: NaN or infinity among the values.
        """
        found = self.tensors().get(name)
        if found is None:
            raise NotFoundError(Status.NOT_FOUND, f"the adapter has no tensor '{name}'", name)
        array = np.ascontiguousarray(values, np.float32)
        if array.shape != found.shape:
            raise DataError(
                Status.SHAPE, f"{name} has the shape {found.shape}, not {array.shape}", name
            )
        check(
            library().lorasc_adapter_copy_in(
                self._handle, encode_text(name), array.ctypes.data, array.size
            )
        )

    def predict(
        self, batch: Batch, what: What = "logits", *, fast: bool = False
    ) -> npt.NDArray[np.float32]:
        """Runs the model with this adapter; labels are ignored.

        Args:
            batch: the rows.
            what: see Model.predict.
            fast: with the current expert in full, in place of the merged view.
        """
        logits = what in ("logits", "token_logits")
        columns = self.num_labels if logits else self.model.info.hidden_size
        return predict(self.model._handle, self._handle, batch, what, columns, fast)

    def _generating(self) -> tuple[Model, int | None]:
        return self.model, self._handle

    @property
    def modules(self) -> list[ModuleInfo]:
        """The modules with an adapter, and which rule chose each."""
        return _list(
            self._handle,
            library().lorasc_adapter_module_count,
            library().lorasc_adapter_module_info,
            structs.ModuleInfo,
            ModuleInfo,
        )

    @property
    def scale(self) -> float:
        """How strongly the change counts in prediction, merge and files; 1 at first.

        W0 + scale (W - W0). Training, the head and what is trained in full don't feel it.
        """
        value = ctypes.c_double()
        check(library().lorasc_adapter_get_scale(self._handle, ctypes.byref(value)))
        return value.value

    @scale.setter
    def scale(self, value: float) -> None:
        check(library().lorasc_adapter_set_scale(self._handle, value))

    def merge(
        self,
        directory: str | os.PathLike[str],
        dtype: Literal["auto", "f32", "f16", "bf16", "q8_0"] = "auto",
    ) -> MergeReport:
        """Writes the merged model as a Hugging Face folder, or as a GGUF file.

        Head "classifier": AutoModelForSequenceClassification opens it; "mean_linear":
        SentenceTransformer does, and encode() gives the logits. An existing folder is
        replaced in one step and keeps its other files.

        Args:
            directory: the folder; or a file that ends in ".gguf", of a model that was opened
                from one.
            dtype: of all weights, of GGUF files all matrices; "auto": the base's own, of
                quantised matrices float32, and in GGUF files Q8_0 where they change.

        Raises:
            FileAccessError, ArgumentError (the model's own), NonFiniteError; FormatError
            (UNSUPPORTED): a GGUF file of another base or with a classifier, "q8_0" in a folder.
        """
        report = structs.sized(structs.MergeReport)
        check(
            library().lorasc_adapter_merge_as(
                self.model._handle,
                self._handle,
                encode_text(os.fspath(directory)),
                encode_text(dtype),
                ctypes.byref(report),
            )
        )
        changes = _list(
            self._handle,
            library().lorasc_adapter_merge_tensor_count,
            library().lorasc_adapter_merge_tensor_info,
            structs.MergeTensor,
            MergeTensor,
        )
        return replace(from_struct(MergeReport, report), changes=tuple(changes))

    @classmethod
    def combine(
        cls,
        adapters: Sequence[Adapter],
        weights: Sequence[float] | None = None,
        rank: int | None = None,
    ) -> Adapter:
        """One new adapter from several on the same model: W0 + sum of weight (W - W0).

        The head is the mean of the heads by these weights.

        Args:
            adapters: on one model, with heads alike.
            weights: one for each; None: all 1.
            rank: None: exact, of the sum of all ranks; else truncated to it by SVD, and
                ``combination_error`` of the result is the relative error (Frobenius).

        Raises:
            FormatError: only merged weights hold an adapter's result.
            DataError, ArgumentError: adapters that don't go together, bad weights.
        """
        if not adapters:
            raise ValueError("there is nothing to combine")
        factors = np.ones(len(adapters)) if weights is None else np.asarray(weights, np.float64)
        if factors.shape != (len(adapters),):
            raise ValueError(f"{len(adapters)} adapters and weights of shape {factors.shape}")
        factors = np.ascontiguousarray(factors)
        handles = (ctypes.c_void_p * len(adapters))(*[part._handle for part in adapters])
        pointer, error = ctypes.c_void_p(), ctypes.c_double()
        check(
            library().lorasc_adapter_combine(
                adapters[0].model._handle,
                handles,
                factors.ctypes.data,
                len(adapters),
                rank or 0,
                ctypes.byref(error),
                ctypes.byref(pointer),
            )
        )
        combined = cls.__new__(cls)
        combined.model = adapters[0].model
        combined._options = {}
        combined._own(pointer, library().lorasc_adapter_free)
        combined.combination_error = error.value
        return combined

    def export(self, path: str | os.PathLike[str], format: Literal["gguf", "mlx"] = "mlx") -> None:
        """Writes the merged view in another program's layout.

        "mlx": a folder with adapters.safetensors ("<module>.lora_a" (in, r), ".lora_b" (r,
        out), DoRA's ".m") and adapter_config.json, which holds the scale. "gguf": a file that
        llama.cpp applies to the model's GGUF file.

        Raises:
            FormatError: only merged weights hold the result; as GGUF also DoRA, tensors trained
                in full, and models that it doesn't know.
            FileAccessError.
        """
        check(
            library().lorasc_adapter_export(
                self.model._handle,
                self._handle,
                encode_text(os.fspath(path)),
                encode_text(format),
            )
        )

    def __repr__(self) -> str:
        parameters = sum(math.prod(info.shape) for info in self.tensors().values())
        return f"Adapter({len(self.modules)} modules, {parameters} trainable parameters)"


def _list(
    handle: int,
    count: Callable[[int], int],
    info: Callable[..., int],
    struct: type[ctypes.Structure],
    kind: type[R],
) -> list[R]:
    """Records of everything that the library enumerates."""
    records = []
    for index in range(count(handle)):
        row = structs.sized(struct)
        check(info(handle, index, ctypes.byref(row)))
        records.append(from_struct(kind, row))
    return records
