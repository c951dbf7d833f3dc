"""What the figures of the tools' pages share."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from bitat_tf.files import atomic_path


def accuracy_axes(axes: Any, x: str, y: str) -> None:
    """Axes of accuracies, in percent, over something else."""
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9")


def write_figure(figure: Figure, path: Path, command: str) -> None:
    """Write a PNG, whole, which says itself by what command it was made."""
    with atomic_path(path) as temporary:
        described = {"Description": command, "Software": None}
        figure.savefig(temporary, format="png", dpi=120, metadata=described)
