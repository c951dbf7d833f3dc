"""What all figures share: matplotlib's objects, no pyplot, no state outside.

Colours are Okabe and Ito's, which colour-blind readers tell apart.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bitat_tf.files import atomic_path

BLUE, ORANGE, GREEN, SKY = "#0072B2", "#E69F00", "#009E73", "#56B4E9"
VERMILION, PURPLE, YELLOW = "#D55E00", "#CC79A7", "#F0E442"
GREY, DARK = "#8C8C8C", "#333333"
_DPI = 120
_WIDTH = 10.0  # inches; every figure has the width of the page


def new_figure(height: float) -> Figure:
    """An empty figure as wide as the page; `height` in inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)  # inches
    return Figure(figsize=(_WIDTH, height), layout=layout)


def style(axes: Any, grid: str = "y") -> None:
    """Few lines: no box, a pale grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(color=GREY, labelcolor=DARK, labelsize=9)
    axes.grid(axis=grid, color="#E3E3E3", linewidth=0.8)
    axes.set_axisbelow(True)


def write_figures(figures: Mapping[str, Figure | None], folder: Path) -> tuple[str, ...]:
    """Write each under its name, whole; remove an earlier file where there is None.

    Returns:
        File names of the figures written.
    """
    for name, figure in figures.items():
        if figure is None:
            (folder / name).unlink(missing_ok=True)
        else:
            with atomic_path(folder / name) as temporary:
                figure.savefig(temporary, format="png", dpi=_DPI)
    return tuple(name for name, figure in figures.items() if figure is not None)
