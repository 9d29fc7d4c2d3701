"""Benchmarks/check_report.py: what passes and what doesn't."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "Benchmarks"
spec = importlib.util.spec_from_file_location("check_report", FOLDER / "check_report.py")
check_report = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_report)

CASE = {"shape": "32x64", "adapters": "q,v r=8", "ratio_default": 0.5, "ratio_memory": 0.4}
REPORT: dict[str, Any] = {
    "cases": [
        CASE | {"model": "minilm", "dtype": "float32"},
        CASE | {"model": "vit-s16", "dtype": "bfloat16"},
    ],
    "methods": [{"case": "minilm", "ratios": {"lora": 1, "dora": 1.0, "lorasc with noise": 1.0}}],
    "recompute": [{"case": "minilm", "dtype": "float32", "ratio_memory": 0.3}],
    "texts": {"ratios": {"padded": 0.2, "grouped": 0.6}},
    "merge": {"ratio": 0.5},
    "quantized": {"ratio": 1.0},
    "curves": [{"model": "minilm", "largest_difference": 0.001, "last_difference": 0.001}],
}


def run(tmp_path: Path, report: dict[str, Any]) -> int:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    return check_report.main([str(path)])


def changed(*place: str | int, value: float) -> dict[str, Any]:
    report = copy.deepcopy(REPORT)
    inner: Any = report
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return report


def test_within(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, REPORT) == 0
    assert "13 figures, 0 beyond" in capsys.readouterr().out


@pytest.mark.parametrize(
    "place",
    [
        ("cases", 0, "ratio_default"),
        ("cases", 1, "ratio_memory"),
        ("methods", 0, "ratios", "dora"),
        ("recompute", 0, "ratio_memory"),
        ("texts", "ratios", "grouped"),
        ("merge", "ratio"),
        ("quantized", "ratio"),
        ("curves", 0, "last_difference"),
    ],
)
@pytest.mark.parametrize("value", [9.0, float("nan")])
def test_beyond(tmp_path: Path, place: tuple[str | int, ...], value: float) -> None:
    assert run(tmp_path, changed(*place, value=value)) == 1


def test_an_empty_report_shows_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, {}) == 1


def test_a_type_without_threshold(tmp_path: Path) -> None:
    report = {"cases": [CASE | {"model": "minilm", "dtype": "float16"}]}
    with pytest.raises(LookupError, match="minilm in float16"):
        run(tmp_path, report)


def test_a_models_own_threshold_comes_first() -> None:
    limits = [
        {"dtype": "float32", "ratio_default": 1},
        {"dtype": "float32", "model": "minilm", "ratio_default": 2},
    ]
    row = {"model": "minilm", "dtype": "float32"}
    assert check_report.threshold(row, limits)["ratio_default"] == 2
    assert check_report.threshold(row | {"model": "other"}, limits)["ratio_default"] == 1
