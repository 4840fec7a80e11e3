"""A picture of a training: the loss on trained tokens by step, and the held-out loss where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def plot_losses(log: Sequence[dict[str, Any]], path: Path, *, title: str) -> None:
    """Write a PNG of a trainer's log."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=120, layout="constrained")
    for key, label, style in (("loss", "trained tokens", "-"), ("eval_loss", "held-out tasks", "o--")):
        points = [(entry["step"], entry[key]) for entry in log if key in entry]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, linewidth=1.4, markersize=4)
    axes.set(xlabel="optimizer step", ylabel="negative log-likelihood a token", title=title)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.lines:  # a short training may have logged nothing
        axes.legend(frameon=False)
    figure.savefig(path)
    pyplot.close(figure)
