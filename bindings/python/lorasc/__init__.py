"""Fine-tune transformers with low-rank adapters and LoRASC's slow cascades.

>>> result = lorasc.finetune("all-MiniLM-L6-v2", texts, labels, method="lorasc", epochs=6)
>>> result.predict(["a text it has not seen"])
>>> result.save("my-model")

Below that are Model, Adapter, Trainer, Batch and Dataset; ``print(lorasc.options())`` shows
every option. Threads: a Model and a Dataset may be used by many at once; an Adapter or Trainer
by one call at a time (BusyError); Trainer.interrupt() by any.
"""

from ._finetune import Result, finetune
from ._generate import Generation
from ._library import library
from ._options import OptionInfo, Options, OptionTable, options
from ._version import __version__
from .adapter import Adapter
from .batch import IGNORED, Batch
from .dataset import Dataset
from .errors import (
    ArgumentError,
    BusyError,
    DataError,
    FileAccessError,
    FormatError,
    HandleError,
    Interrupted,
    LorascError,
    NonFiniteError,
    NotFoundError,
    OptionError,
    OutOfMemoryError,
    StateError,
    Status,
)
from .history import History
from .host import HostMatrix, HostModel, Layer
from .jsonl import read_jsonl
from .log import log_off, log_to
from .loss import LossOutputs
from .model import Model
from .progress import Event, Progress, ProgressBar
from .reports import (
    AdapterInfo,
    Estimate,
    Evaluation,
    MatchReport,
    MergeReport,
    MergeTensor,
    ModelInfo,
    ModuleInfo,
    SaveReport,
    Stats,
    TensorInfo,
    TrainerInfo,
)
from .trainer import Trainer

__all__ = [
    "IGNORED",
    "Adapter",
    "AdapterInfo",
    "ArgumentError",
    "Batch",
    "BusyError",
    "DataError",
    "Dataset",
    "Estimate",
    "Evaluation",
    "Event",
    "FileAccessError",
    "FormatError",
    "Generation",
    "HandleError",
    "History",
    "HostMatrix",
    "HostModel",
    "Interrupted",
    "Layer",
    "LorascError",
    "LossOutputs",
    "MatchReport",
    "MergeReport",
    "MergeTensor",
    "Model",
    "ModelInfo",
    "ModuleInfo",
    "NonFiniteError",
    "NotFoundError",
    "OptionError",
    "OptionInfo",
    "OptionTable",
    "Options",
    "OutOfMemoryError",
    "Progress",
    "ProgressBar",
    "Result",
    "SaveReport",
    "StateError",
    "Stats",
    "Status",
    "TensorInfo",
    "Trainer",
    "TrainerInfo",
    "__version__",
    "build_info",
    "finetune",
    "log_off",
    "log_to",
    "options",
    "read_jsonl",
    "version",
]


def version() -> str:
    """The loaded library's version."""
    return str(library().lorasc_version(), "utf-8")


def build_info() -> str:
    """One line for a report: versions, BLAS and its kernels, the CPU level in use."""
    return str(library().lorasc_build_info(), "utf-8")
