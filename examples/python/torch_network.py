"""LoRASC inside a PyTorch network of one's own: convolutions, two linear layers, a training loop.

    python examples/python/torch_network.py [--epochs 3] [--images 400]

PyTorch trains the network on half of Fashion-MNIST's classes. Then its linear layers get adapters
and learn the other half, a cascade an epoch; the loss, the optimizer and the loop stay PyTorch's.
At the end the merged weights are in the network's own parameters.
"""

from __future__ import annotations

import argparse
import sys

import fashion
import torch
from torch import nn
from torch.nn import functional

import lorasc.torch

BATCH = 50


class Network(nn.Module):
    """Two convolutions, a hidden layer and an output."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.hidden = nn.Linear(32 * 7 * 7, 64)
        self.output = nn.Linear(64, len(fashion.BACKBONE))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of grey images (rows, 1, 28, 28)."""
        return self.output(torch.relu(self.hidden(self.features(images))))


Rows = tuple[torch.Tensor, torch.Tensor]


def load(classes: tuple[str, ...], images: int) -> dict[str, Rows]:
    """Images between -1 and 1, and labels, of each part."""
    parts = fashion.load(classes, train=images, dev=1, test=200)
    return {
        name: (
            torch.from_numpy(part.images).float() / 127.5 - 1,
            torch.from_numpy(part.labels).long(),
        )
        for name, part in parts.items()
    }


def train_epoch(network: nn.Module, optimizer: torch.optim.Optimizer, rows: Rows) -> float:
    """One pass in random order; the mean loss."""
    images, labels = rows
    total = 0.0
    for chosen in torch.randperm(len(labels)).split(BATCH):
        loss = functional.cross_entropy(network(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(chosen)
    return total / len(labels)


@torch.no_grad()
def accuracy(network: nn.Module, rows: Rows) -> float:
    """The share of images whose class is the most likely one."""
    images, labels = rows
    return float((network(images).argmax(1) == labels).float().mean())


def main() -> int:
    """Trains, adapts, merges; the exit status is 1 if the merged network predicts otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3, help="of the adapters, a cascade each")
    parser.add_argument("--images", type=int, default=400, help="of each class")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    network = Network()
    known, new = (load(half, arguments.images) for half in (fashion.BACKBONE, fashion.ADAPTED))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(3):
        train_epoch(network, optimizer, known["train"])
    print(f"network on its own classes: accuracy {accuracy(network, known['test']):.3f}")

    attached = lorasc.torch.attach(
        network, method="lorasc", target_modules="hidden,output", r=4, lora_alpha=16
    )
    optimizer = torch.optim.AdamW(attached.parameters(), lr=5e-3)
    print(f"before, on new classes:     accuracy {accuracy(network, new['test']):.3f}")
    for epoch in range(arguments.epochs):
        if epoch > 0:
            attached.end_cascade(optimizer)
        loss = train_epoch(network, optimizer, new["train"])
        print(f"cascade {attached.cascade}: loss {loss:.3f}")
    network.eval()
    adapted = accuracy(network, new["test"])
    attached.end_cascade()
    expected = network(new["test"][0]).argmax(1)
    attached.merge()
    same = bool((network(new["test"][0]).argmax(1) == expected).all())
    print(f"adapted, on new classes:    accuracy {adapted:.3f} by the last expert in full")
    print(f"merged into the network:    accuracy {accuracy(network, new['test']):.3f}")
    if not same:
        print("The merged network does not predict what the adapted one does.", file=sys.stderr)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
