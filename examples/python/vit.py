"""A small vision transformer, trained on half of the classes of Fashion-MNIST.

    python examples/python/vit.py [--output build/models/vit] [--rows 5500] [--epochs 3]

Makes a Hugging Face folder of the backbone alone, without the head it was trained with. Needs the
packages torch and transformers, and Debian's dataset-fashion-mnist. The same machine makes the same
weights each time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fashion
import numpy as np
from folders import replaced

if TYPE_CHECKING:
    import torch

FOLDER = Path("build/models/vit")
CONFIG = {
    "image_size": 28,
    "patch_size": 7,
    "num_channels": 1,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
}
"""Of transformers' ViT; what is not here is as there."""

MEAN, STD = 0.2860, 0.3530
"""Of the training images' pixels, as a share of 255."""

TEST = 500
"""Images of each class that the backbone is tested on."""


@dataclass(frozen=True)
class Recipe:
    """How it is trained.

    Attributes:
        rows: training images of each class.
        epochs: passes over them.
    """

    rows: int = 5500
    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_ratio: float = 0.1
    seed: int = 0

    def describe(self) -> dict[str, Any]:
        """All that the weights follow from, as training.json has it."""
        return {"classes": list(fashion.BACKBONE), "config": CONFIG} | asdict(self)


def find_folder(folder: Path = FOLDER) -> Path:
    """The folder, made where it is not there yet, or was made by another recipe.

    That is done by a process of its own: this one needs no PyTorch.

    Raises:
        FileNotFoundError: it can't be made.
    """
    made = folder / "training.json"
    wanted = Recipe().describe()
    if not made.is_file() or json.loads(made.read_text())["recipe"] != wanted:
        command = [sys.executable, __file__, "--output", str(folder)]
        if subprocess.run(command, check=False).returncode:
            raise FileNotFoundError(
                f"{folder} could not be made: `pip install -r scripts/requirements-vit.txt` "
                "has what its training needs"
            )
    return folder


def write_folder(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Trains, and writes the folder in one step.

    Args:
        folder: to make; an existing one is replaced.
        recipe: how.

    Returns:
        What training.json holds: the recipe, accuracy and loss on test images of the same
        classes, seconds of training.
    """
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(recipe.seed)
    parts = fashion.load(fashion.BACKBONE, train=recipe.rows, dev=0, test=TEST)
    labels = dict(enumerate(fashion.BACKBONE))
    model = ViTForImageClassification(ViTConfig(**CONFIG, id2label=labels))
    started = time.monotonic()
    train(model, parts["train"], recipe)
    seconds = time.monotonic() - started
    loss, accuracy = evaluate(model, parts["test"])
    report = {
        "recipe": recipe.describe(),
        "test_accuracy": accuracy,
        "test_loss": loss,
        "seconds": seconds,
    }
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [MEAN],
        "image_std": [STD],
    }
    with replaced(folder) as scratch:
        model.vit.save_pretrained(scratch)
        for name, content in (("preprocessor_config", processor), ("training", report)):
            (scratch / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    return report


def train(model: torch.nn.Module, part: fashion.Part, recipe: Recipe) -> None:
    """AdamW over batches in a new order each epoch; a cosine schedule after a warm-up."""
    import torch
    from tqdm import trange
    from transformers import get_cosine_schedule_with_warmup

    pixels, labels = tensors(part)
    steps_each = -(-len(part) // recipe.batch_size)
    steps = recipe.epochs * steps_each
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    warmup = int(recipe.warmup_ratio * steps)
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, steps)
    model.train()
    for step in trange(steps, desc="Backbone", mininterval=1):
        if step % steps_each == 0:
            batches = torch.randperm(len(part)).split(recipe.batch_size)
        rows = batches[step % steps_each]
        optimizer.zero_grad()
        model(pixel_values=pixels[rows], labels=labels[rows]).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def evaluate(model: torch.nn.Module, part: fashion.Part) -> tuple[float, float]:
    """Mean loss and accuracy."""
    import torch

    model.eval()
    pixels, labels = tensors(part)
    with torch.no_grad():
        logits = torch.cat([model(pixel_values=rows).logits for rows in pixels.split(500)])
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    return loss, (logits.argmax(1) == labels).double().mean().item()


def tensors(part: fashion.Part) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels as the model takes them, and labels."""
    import torch

    pixels = (part.images / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(pixels), torch.from_numpy(part.labels.astype(np.int64))


def main() -> int:
    """Makes the folder."""
    import torch

    parser = argparse.ArgumentParser(description="Train a small ViT on half of Fashion-MNIST.")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to write")
    parser.add_argument("--rows", type=int, default=Recipe.rows, help="images of each class")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs, help="passes over them")
    arguments = parser.parse_args()
    # Sums over threads would differ with their number.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    recipe = Recipe(rows=arguments.rows, epochs=arguments.epochs)
    report = write_folder(arguments.output, recipe)
    print(
        f"{arguments.output}: accuracy {report['test_accuracy']:.3f} on its own "
        f"{len(fashion.BACKBONE)} classes, trained in {report['seconds']:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
