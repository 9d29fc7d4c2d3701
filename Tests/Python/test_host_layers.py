"""Layers of the program's own matrices on numpy arrays, and the functions that SciPy gets."""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path

import numpy as np
import pytest
from programs import run_example
from scipy import LowLevelCallable
from scipy.integrate import IntegrationWarning, nquad, quad

import lorasc

WEIGHT = np.array([[0.5, -1.0, 2.0]], np.float32)
BIAS = np.array([0.25], np.float32)


def layer_of(weight: np.ndarray = WEIGHT, steps: int = 3) -> lorasc.Layer:
    """A layer whose expert changes the weight."""
    model = lorasc.HostModel({"w": weight.copy()}, {"w": BIAS.repeat(len(weight))})
    adapter = lorasc.Adapter(model, method="lora", r=1)
    layer = lorasc.Layer(lorasc.Trainer(model, adapter, schedule="constant"), "w")
    x = np.ones((2, 3), np.float32)
    for _ in range(steps):
        layer.backward(x, layer.forward(x), needs_dx=False)
        layer.trainer.apply()
    return layer


def value(function: object, x: list[float]) -> float:
    return function(len(x), (ctypes.c_double * len(x))(*x))


def test_a_scalar_function_is_the_merged_weight() -> None:
    layer = layer_of()
    function = layer.scalar()
    x = [0.3, -0.7, 1.1]
    expected = layer.forward(np.array([x], np.float32), weights="merged").item()
    assert expected != pytest.approx(float(WEIGHT[0] @ x + BIAS[0]), rel=1e-6)
    found = value(function, x)
    assert found == pytest.approx(expected, rel=1e-6)
    layer.trainer.close()
    layer.close()
    del layer
    gc.collect()
    assert value(function, x) == found


def test_scipy_integrates_it() -> None:
    layer = layer_of()
    callable_ = LowLevelCallable(layer.scalar())
    gc.collect()
    assert callable_.signature == "double (int, double *)"
    mean = layer.forward(np.array([[1.0, 0.5, -2.0]], np.float32), weights="merged").item()
    found, _ = quad(callable_, 0, 2, args=(0.5, -2.0))
    assert found == pytest.approx(2 * mean, rel=1e-6)
    found, _ = nquad(callable_, [(0, 2), (0, 1), (-3, -1)])
    assert found == pytest.approx(4 * mean, rel=1e-6)


def test_wrong_arguments_are_nan() -> None:
    function = layer_of().scalar()
    assert np.isnan(value(function, [1.0, 2.0]))
    assert np.isnan(function(3, None))
    with pytest.warns(IntegrationWarning):
        assert np.isnan(quad(LowLevelCallable(function), 0, 1)[0])
    with pytest.raises(lorasc.DataError, match="one output"):
        layer_of(np.ones((2, 3), np.float32)).scalar()


def test_the_example(repository: Path) -> None:
    text = run_example(repository, "scipy_function.py")
    mean, centre = (float(found) for found in re.findall(r"(?:range|centre): +(-?\d+\.\d+)", text))
    # The aged sensors' own, at 0.5, 0 and 11.
    assert mean == pytest.approx(0.5 * 0.5 + 0.14 * 11 + 0.2, abs=2e-2)
    assert mean == pytest.approx(centre, abs=1e-5)
