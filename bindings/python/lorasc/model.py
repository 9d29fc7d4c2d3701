"""Models: a frozen backbone, its tokenizer and its configuration."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _structs as structs
from ._encoding import Text, TextEncoding
from ._generate import TextGenerator
from ._handle import Handle
from ._library import library
from ._options import Options, refuse_foreign
from ._predict import What, predict
from ._tensors import copy_tensor, fill_text, list_tensors
from .batch import Batch
from .errors import check, encode_text
from .reports import Estimate, ModelInfo, TensorInfo, from_struct


class Model(TextEncoding, Handle, TextGenerator):
    """A Hugging Face folder or a GGUF file, opened: an immutable backbone, and its head if any.

    Any number of adapters, trainers and threads may share a model. Its files must not be
    changed while it is open, since their weights stay memory mapped.

    Args:
        path: a folder with config.json and model.safetensors (or its sharded index), or a GGUF
            file of architecture llama, qwen2, gpt2 or bert.
        options: of scope "model": ``threads``, ``kernels``, ``products``,
            ``truncation``, ``dtype``.

    Attributes:
        path: the folder or file.
        info: sizes and kind, see ModelInfo.

    Raises:
        NotFoundError, FileAccessError, FormatError, NonFiniteError, OutOfMemoryError,
        OptionError.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        refuse_foreign(options, ("model",), "model")
        self.path = Path(path)
        self._options = options
        pointer = ctypes.c_void_p()
        with Options(options) as values:
            check(
                library().lorasc_model_open(
                    encode_text(os.fspath(path)), values._handle, ctypes.byref(pointer)
                )
            )
        self._own(pointer, library().lorasc_model_free)
        info = structs.sized(structs.ModelDescription)
        check(library().lorasc_model_info(self._handle, ctypes.byref(info)))
        self.info: ModelInfo = from_struct(ModelInfo, info)

    def tensors(self) -> dict[str, TensorInfo]:
        """Names (without the prefix of a class with a head) and shapes of the model's tensors."""
        return list_tensors(
            self._handle, library().lorasc_model_tensor_count, library().lorasc_model_tensor_info
        )

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """A copy of one tensor, float32 in its shape.

        Raises:
            NotFoundError: no tensor of this name.
        """
        found = self.tensors().get(name)
        shape = found.shape if found else None
        return copy_tensor(library().lorasc_model_tensor, self._handle, name, shape)

    def file(self, name: str) -> str:
        """A text file of the model: a folder's own, of a GGUF file one made from its metadata.

        Args:
            name: "config.json", "tokenizer.json", "tokenizer_config.json",
                "special_tokens_map.json", "generation_config.json", "chat_template.jinja", or any
                text of a folder.

        Raises:
            NotFoundError: the model has no such file.
            FormatError: damaged metadata, a tokenizer of a kind that isn't offered, no text.
            ArgumentError: a name with a slash.
        """
        key = encode_text(name)
        return fill_text(lambda *buffer: library().lorasc_model_file(self._handle, key, *buffer))

    @property
    def label_names(self) -> list[str] | None:
        """Names of the head's classes in order (config.json's id2label), None without a head."""
        names = self.config.get("id2label")
        if not self.info.num_labels or not isinstance(names, dict):
            return None
        return [str(names.get(str(i), i)) for i in range(self.info.num_labels)]

    def predict(self, batch: Batch, what: What = "logits") -> npt.NDArray[np.float32]:
        """Runs the model as it was opened; labels are ignored.

        Args:
            batch: the rows.
            what: "logits" (rows, num_labels), by the folder's own head; of a head by tokens
                (tokens, num_labels), of a language model (rows, vocabulary) for what follows each
                row; "embedding" (rows, hidden), the mean of the last layer; "token_embedding"
                (tokens, hidden); "token_logits" (asked, labels), of the tokens whose
                ``token_labels`` isn't -100, or of all without.

        Raises:
            StateError: logits of a model without a head.
            DataError: a token outside the vocabulary, an empty row, a row too long.
        """
        logits = what in ("logits", "token_logits")
        columns = self.info.num_labels if logits else self.info.hidden_size
        return predict(self._handle, None, batch, what, columns)

    def _generating(self) -> tuple[Model, int | None]:
        return self, None

    def classify(
        self, texts: Sequence[Text], max_length: int | None = None, *, truncate: bool = False
    ) -> list[str] | npt.NDArray[Any]:
        """Texts to answers by the folder's own head, as name_answers() says."""
        batch = self.encode(texts, max_length, truncate=truncate)
        return name_answers(self.predict(batch), self.label_names)

    def estimate(self, **options: Any) -> Estimate:
        """What training with these options would take; allocates none of it.

        Args:
            options: those of an adapter and its trainer.
        """
        refuse_foreign(options, ("adapter", "trainer"), "estimate")
        info = structs.sized(structs.EstimateInfo)
        with Options(options) as values:
            check(library().lorasc_estimate(self._handle, values._handle, ctypes.byref(info)))
        return from_struct(Estimate, info)

    def __repr__(self) -> str:
        size = f"{self.info.architecture}, {self.info.parameters} parameters"
        return f"Model({str(self.path)!r}, {size})"


def name_answers(
    logits: npt.NDArray[np.float32], names: Sequence[str] | None
) -> list[str] | npt.NDArray[Any]:
    """Logits (rows, num_labels) as answers.

    One label: the numbers themselves, (rows,) float32. More: the names of the largest
    logits, or (rows,) class numbers where there are no names.
    """
    if logits.shape[-1] == 1:
        return logits[:, 0]
    classes = logits.argmax(axis=1)
    return classes if names is None else [names[c] for c in classes]
