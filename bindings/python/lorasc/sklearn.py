"""A scikit-learn classifier that fine-tunes one of the built-in encoders.

>>> classifier = LoRASCClassifier("all-MiniLM-L6-v2", epochs=4)
>>> cross_val_score(classifier, texts, labels)
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted

from .adapter import Adapter
from .model import Model
from .trainer import Trainer


class LoRASCClassifier(ClassifierMixin, BaseEstimator):
    """Texts to classes by a pretrained encoder with low-rank adapters and a linear head.

    Args:
        model: a model's folder.
        method: a preset of ``lorasc.options()``: "lora", "cola", "lorasc", "lorasc+dora", ...
        r: rank of the adapters.
        lora_alpha: numerator of their scale.
        target_modules: which modules get one, by PEFT's rules.
        epochs: passes over the texts; COLA and LoRASC end a cascade after each.
        batch_size: texts of a step.
        learning_rate: at the schedule's top.
        slow_rate: μ, the share of the fast expert that the slow one takes; None: the method's.
        noise: λ on the frozen backbone; None: the method's.
        max_length: tokens a text is cut to; None: the model's positions.
        random_state: seed of the factors, the order of rows, the noise.
        threads: 0: as many as the process may run on.
        options: further ones of ``lorasc.options()``.

    Attributes:
        classes_: the labels, sorted.
        history_: what training reported.
    """

    def __init__(
        self,
        model: str = "all-MiniLM-L6-v2",
        *,
        method: str = "lorasc",
        r: int = 8,
        lora_alpha: float = 16,
        target_modules: str = "auto",
        epochs: int = 3,
        batch_size: int = 16,
        learning_rate: float = 3e-3,
        slow_rate: float | None = None,
        noise: float | None = None,
        max_length: int | None = None,
        random_state: int = 0,
        threads: int = 0,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.method = method
        self.r = r
        self.lora_alpha = lora_alpha
        self.target_modules = target_modules
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.slow_rate = slow_rate
        self.noise = noise
        self.max_length = max_length
        self.random_state = random_state
        self.threads = threads
        self.options = options

    def fit(self, X: Sequence[str], y: npt.ArrayLike) -> LoRASCClassifier:
        """Fine-tunes on texts and their labels.

        Raises:
            ValueError: fewer than two classes, or other counts of texts and labels.
        """
        texts, labels = _texts(X), np.asarray(y)
        if len(texts) != len(labels):
            raise ValueError(f"{len(texts)} texts and {len(labels)} labels")
        classes = unique_labels(labels)
        if len(classes) < 2:
            raise ValueError(f"{len(classes)} class: at least two are due")
        model = Model(self.model, threads=self.threads)
        given = self.options or {}
        trainer_keys = {key: value for key, value in given.items() if key not in _ADAPTER}
        adapter = Adapter(
            model,
            method=self.method,
            r=self.r,
            lora_alpha=self.lora_alpha,
            target_modules=self.target_modules,
            num_labels=len(classes),
            head=given.get("head", "auto"),
            adapter_seed=self.random_state,
            **{key: value for key, value in given.items() if key in _ADAPTER - {"head"}},
        )
        optional = {"slow_rate": self.slow_rate, "noise": self.noise}
        trainer = Trainer(
            model,
            adapter,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.random_state,
            **{key: value for key, value in optional.items() if value is not None},
            **({"schedule": "linear", "warmup_ratio": 0.1} | trainer_keys),
        )
        batch = model.encode(
            texts, self.max_length, labels=np.searchsorted(classes, labels).astype(np.int32)
        )
        with trainer:
            history = trainer.run(batch)
        self.classes_, self.history_ = classes, history
        self._fitted = _Fitted(model, adapter)
        return self

    def decision_function(self, X: Sequence[str]) -> npt.NDArray[np.float64]:
        """Logits (texts, classes); with two classes the second's minus the first's."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Sequence[str]) -> npt.NDArray[np.float64]:
        """Probabilities (texts, classes) in the order of ``classes_``."""
        logits = self._logits(X)
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    def predict(self, X: Sequence[str]) -> npt.NDArray[Any]:
        """The most probable class of each text."""
        places = self._logits(X).argmax(1)
        return self.classes_[places]

    def _logits(self, X: Sequence[str]) -> npt.NDArray[np.float64]:
        check_is_fitted(self, "classes_")
        fitted: _Fitted = self._fitted
        batch = fitted.model.encode(_texts(X), self.max_length)
        return fitted.predictor.predict(batch).astype(np.float64)

    def save(self, directory: str) -> None:
        """Writes the merged model as a folder; see Adapter.merge."""
        check_is_fitted(self, "classes_")
        _write(Path(directory), self._fitted.__getstate__())

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags


_ADAPTER = {
    "use_rslora", "use_dora", "dora_norm", "rank_pattern", "alpha_pattern", "ranks",
    "master_weights", "lora_dropout", "init_lora_weights", "exclude_modules", "head",
    "layers_to_transform", "layers_pattern", "modules_to_save", "bias",
}  # fmt: skip


class _Fitted:
    """A fitted model; pickled as its merged weights."""

    def __init__(self, model: Model, predictor: Model | Adapter) -> None:
        self.model = model
        self.predictor = predictor

    def __getstate__(self) -> dict[str, bytes]:
        if self.predictor is self.model:
            return _read(self.model.path)
        with tempfile.TemporaryDirectory() as folder:
            merged = Path(folder) / "merged"
            self.predictor.merge(merged)
            return _read(merged)

    def __setstate__(self, files: dict[str, bytes]) -> None:
        # Lives as long as the object.
        self._folder = tempfile.TemporaryDirectory(prefix="lorasc-")
        _write(Path(self._folder.name), files)
        self.model = self.predictor = Model(self._folder.name)


def _read(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _texts(X: Sequence[str]) -> list[str]:
    """Texts of a list, an array or a Series.

    Raises:
        TypeError: something else than texts among them.
    """
    texts = list(np.asarray(X, dtype=object).ravel()) if not isinstance(X, list) else X
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("X is a sequence of texts")
    return [str(text) for text in texts]
