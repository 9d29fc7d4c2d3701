"""Draws the demos' reports: curves by step with the cascade boundaries, accuracy by severity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no display needed

import matplotlib.pyplot as plt
import numpy as np

WINDOW = 10
"""Steps that a point of the smoothed training loss is the mean of."""


def draw_curves(report: dict[str, Any], path: Path, titles: dict[str, str]) -> None:
    """Writes the picture to ``path``."""
    figure, (losses, accuracies) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for method, row in report["methods"].items():
        steps, loss = np.array(row["curve"]["step"]), np.array(row["curve"]["loss"])
        (line,) = losses.plot(steps, smooth(loss), label=f"{titles[method]}, training")
        at = [evaluation["step"] for evaluation in row["evaluations"]]
        dev_loss = [evaluation["dev_loss"] for evaluation in row["evaluations"]]
        accuracy = [evaluation["dev_accuracy"] for evaluation in row["evaluations"]]
        style = {"color": line.get_color(), "marker": "o"}
        losses.plot(at, dev_loss, linestyle="--", label=f"{titles[method]}, dev", **style)
        accuracies.plot(at, accuracy, label=titles[method], **style)
    before = report["before"]
    accuracies.axhline(
        before["dev_accuracy"], color="gray", linestyle="--", label=f"before: {before['name']}"
    )
    mark_boundaries(report, losses, accuracies)
    losses.set(title="Loss", xlabel="optimizer step", ylabel="cross-entropy")
    accuracies.set(title="Accuracy on dev, merged view", xlabel="optimizer step")
    for axes in (losses, accuracies):
        axes.legend(fontsize="small")
        axes.grid(alpha=0.3)
    figure.suptitle(describe(report), fontsize="medium")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_corruptions(
    report: dict[str, Any],
    path: Path,
    titles: dict[str, str],
    samples: dict[str, list[np.ndarray]],
) -> None:
    """Writes a picture of accuracy against severity to ``path``.

    Args:
        report: with "corruptions" and each row's "corrupted_accuracy".
        path: to write.
        titles: of the methods.
        samples: of each corruption an image (height, width) without it and at each severity.
    """
    rows = {"before: " + report["before"]["name"]: report["before"]}
    rows |= {titles[method]: row for method, row in report["methods"].items()}
    figure, panels = plt.subplots(
        2,
        len(samples),
        figsize=(13, 5.2),
        layout="constrained",
        sharex="col",
        sharey="row",
        height_ratios=(1, 3),
    )
    for (name, images), (sample, accuracies) in zip(samples.items(), panels.T, strict=True):
        severities = np.arange(len(images))
        # Each image stands above its place on the axis of severities
        sample.imshow(
            np.hstack(images), cmap="gray", extent=(-0.5, len(images) - 0.5, 0, 1), aspect="auto"
        )
        sample.vlines(severities[1:] - 0.5, 0, 1, color="white", linewidth=0.8)
        sample.set(title=name)
        sample.set_axis_off()
        for title, row in rows.items():
            accuracy = [row["test_accuracy"], *row["corrupted_accuracy"][name]]
            gray = {"color": "gray", "linestyle": "--"} if row is report["before"] else {}
            accuracies.plot(severities, accuracy, marker="o", label=title, **gray)
        kind = report["corruptions"][name]
        accuracies.set_xticks(severities, ["clean", *map(str, kind["levels"])])
        accuracies.set(xlabel=kind["unit"])
        accuracies.grid(alpha=0.3)
    panels[1, 0].set(ylabel="accuracy on test")
    handles, labels = panels[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(rows), fontsize="small")
    figure.suptitle(describe(report), fontsize="medium")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def describe(report: dict[str, Any]) -> str:
    """A picture's title."""
    rows = ", ".join(f"{count} {name}" for name, count in report["rows"].items())
    return f"{report['model']} on {report['task']} ({rows})"


def mark_boundaries(report: dict[str, Any], *panels: plt.Axes) -> None:
    """A vertical line where a cascade ended."""
    ends = {at["step"] for row in report["methods"].values() for at in row["boundaries"]}
    steps = sorted(ends - {report["steps"]})
    for axes in panels:
        for index, step in enumerate(steps):
            label = "cascade boundary" if index == 0 else None
            axes.axvline(step, color="gray", linewidth=0.8, linestyle=":", label=label)


def smooth(values: np.ndarray) -> np.ndarray:
    """Each value with up to WINDOW - 1 before it, averaged."""
    sums = np.cumsum(np.insert(values, 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - WINDOW, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)
