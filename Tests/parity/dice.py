"""Random choices."""

from __future__ import annotations

from typing import Any

import numpy as np


class Dice:
    """Draws that are the same for the same seeds."""

    def __init__(self, *seeds: int) -> None:
        self.random = np.random.default_rng(seeds)

    def pick(self, *values: Any) -> Any:
        """One of the values."""
        return values[self.random.integers(len(values))]

    def chance(self, share: float) -> bool:
        """True in this share of the draws."""
        return bool(self.random.random() < share)

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high."""
        return int(self.random.integers(low, high + 1))
