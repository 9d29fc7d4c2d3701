"""An adapted matrix as a C function that SciPy integrates.

    python examples/python/scipy_function.py [--steps 300]

Three sensors are read as one value, y = w x + b. They age, and an adapter on the host's matrix
learns how from new readings. SciPy takes the adapted function as a C pointer, a LowLevelCallable,
and integrates it over the working range without a call into Python: the mean of y, which for a
linear function is y at the range's centre.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from scipy import LowLevelCallable
from scipy.integrate import nquad

import lorasc

RANGE = ((0.0, 1.0), (-1.0, 1.0), (10.0, 12.0))
FRESH = np.array([[0.8, -0.3, 0.1]], np.float32)
AGED = np.array([[0.5, -0.3, 0.14]], np.float32)
BIAS = np.array([0.2], np.float32)


def readings(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of the sensors all over the range, and what they should be read as."""
    low, high = np.array(RANGE, np.float32).T
    x = np.random.default_rng(0).uniform(low, high, (rows, 3)).astype(np.float32)
    return x, x @ AGED.T + BIAS


def main() -> int:
    """Trains, binds, integrates; the exit status is 1 if the integral isn't the mean."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="of the optimizer")
    arguments = parser.parse_args()
    model = lorasc.HostModel({"sensors": FRESH.copy()}, {"sensors": BIAS})
    adapter = lorasc.Adapter(model, method="lora", r=1, lora_alpha=1)
    trainer = lorasc.Trainer(model, adapter, learning_rate=0.02, schedule="constant")
    layer = lorasc.Layer(trainer, "sensors")
    x, target = readings(200)
    for _ in range(arguments.steps):
        error = layer.forward(x) - target
        layer.backward(x, 2 * error / len(x), needs_dx=False)
        trainer.apply()
    print(f"after {arguments.steps} steps: mean squared error {np.square(error).mean():.1e}")

    volume = np.prod([high - low for low, high in RANGE])
    function = layer.scalar()
    start = time.perf_counter()
    integral, _ = nquad(LowLevelCallable(function), RANGE)
    seconds = time.perf_counter() - start
    centre = np.array([[sum(ends) / 2 for ends in RANGE]], np.float32)
    expected = layer.forward(centre, weights="merged").item()
    print(f"mean over the range:  {integral / volume:.6f}, integrated in {1e3 * seconds:.1f} ms")
    print(f"y at its centre:      {expected:.6f}")
    return 0 if abs(integral / volume - expected) < 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
