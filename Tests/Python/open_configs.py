"""Opens one model folder under many configurations, in a process of its own.

    python open_configs.py <folder> <texts.json> <batch.npz>

Tries each text of the list as config.json: opens the folder, predicts, trains a step. Prints a JSON
object for each: the status, message and subject of an error, or the hidden states; and the seconds
and the most memory so far. A crash ends this process alone.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import lorasc


def attempt(folder: Path, batch: lorasc.Batch) -> dict[str, Any]:
    """Opens and uses the folder."""
    try:
        with lorasc.Model(folder, threads=1) as model:
            states = model.predict(batch, "token_embedding")
            with (
                lorasc.Adapter(
                    model, r=2, method="lora", head="mean_linear", num_labels=3
                ) as adapter,
                lorasc.Trainer(
                    model, adapter, schedule="constant", max_batch_tokens=256, threads=1
                ) as trainer,
            ):
                trainer.accumulate(batch)
                trainer.apply()
    except lorasc.LorascError as error:
        status = lorasc.Status(error.status).name
        return {"status": status, "message": error.message, "subject": error.subject}
    return {"status": "OK", "states": states.astype(np.float64).tolist()}


def most_kilobytes() -> int:
    """The process's largest resident size."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    """Goes through the list."""
    folder, texts, arrays = map(Path, sys.argv[1:])
    with np.load(arrays) as file:
        given = dict(file)
    if "pixels" in given:
        batch = lorasc.Batch.images(given["pixels"], labels=given["labels"])
    else:
        batch = lorasc.Batch.packed(**given)
    for text in json.loads(texts.read_text()):
        (folder / "config.json").write_text(text)
        start = time.monotonic()
        result = attempt(folder, batch)
        result["seconds"] = time.monotonic() - start
        result["kilobytes"] = most_kilobytes()
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
