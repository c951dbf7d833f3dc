"""What BiTAT costs in training, as ratios to plain Larq on the same graph, all in one run.

    python tools/benchmark_training.py [--out docs/results]

Measured (`costs.py`): the training step, the closed-form calibration with its peak memory, and
one refresh of the transforms; on the nano backbone, on single layers of growing K, and on the
backbone with growing depth. A table and a figure, both with every number in steps of plain Larq
of the same graph, go to OUT. Every case runs in a process of its own; the machine should have
nothing else to do. Takes about 18 minutes on two cores, most of it for K = 4608.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from command_line import shown_command
from costs import BackboneCase, Case, Cost, Effort, LayerCase, measure_alone
from figures import write_figure
from matplotlib.figure import Figure

from bitat_tf import machine
from bitat_tf.files import write_text

NAME = "training-cost"

# K, N and the largest block: as many channels out as in, but for the layer on three.
LAYERS = (
    LayerCase(27, 16, 27),
    LayerCase(108, 12, 108),
    LayerCase(432, 48, 432),
    LayerCase(1152, 128, 1152),
    LayerCase(2304, 256, 2304),
    LayerCase(4608, 512, 4608),
    LayerCase(4608, 512, 1152),
    LayerCase(4608, 512, 512),
)
# The first is the nano backbone itself.
BACKBONES = (BackboneCase(6), BackboneCase(12), BackboneCase(24))

QUICK_LAYERS = (LayerCase(27, 16, 27), LayerCase(108, 12, 108), LayerCase(108, 12, 54))
QUICK_BACKBONES = (BackboneCase(1),)
QUICK_EFFORT = Effort(batches=1, batch_size=16, steps=2, repeats=1)

Costs = dict[Case, Cost]


def over_larq(seconds: Sequence[float], larq: Sequence[float]) -> list[float]:
    """10 %, 50 % and 90 % quantile of the ratios of interleaved times."""
    ratios = [s / other for s, other in zip(seconds, larq, strict=True)]
    return [float(quantile) for quantile in np.quantile(ratios, [0.1, 0.5, 0.9])]


def number(value: float) -> str:
    """Three digits, and no exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 0) -> list[str]:
    """A Markdown table of numbers, but for its first `words` columns."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def step_rows(cost: Cost) -> list[list[str]]:
    """What is to be seen of the one backbone: everything in seconds and in steps."""
    unit = cost.step_seconds
    rows = [["training step, plain Larq", number(unit), "1"]]
    for name, steps in (("BiTAT student", cost.bitat_steps), ("float twin", cost.float_steps)):
        low, middle, high = map(number, over_larq(steps, cost.larq_steps))
        median = number(statistics.median(steps))
        rows.append([f"training step, {name}", median, f"{middle} ({low} to {high})"])
    for name, seconds in (
        ("calibration", cost.calibration_seconds),
        ("refresh of all transforms", cost.refresh_seconds),
    ):
        rows.append([name, number(seconds), number(seconds / unit)])
    return rows


def growth_cells(cost: Cost) -> list[str]:
    """A case's row in a table of growth, less what makes the case."""
    unit = cost.step_seconds
    return [
        number(unit),
        number(over_larq(cost.bitat_steps, cost.larq_steps)[1]),
        number(cost.calibration_seconds),
        number(cost.calibration_seconds / unit),
        number(cost.calibration_bytes / 2**20),
        number(cost.refresh_seconds),
        number(cost.refresh_seconds / unit),
    ]


GROWTH_HEAD = (
    "Larq step s",
    "BiTAT step",
    "calibration s",
    "calibration",
    "peak MiB",
    "refresh s",
    "refresh",
)


def markdown(costs: Costs, effort: Effort, command: str) -> str:
    """The page."""
    layers = {case: cost for case, cost in costs.items() if isinstance(case, LayerCase)}
    backbones = {case: cost for case, cost in costs.items() if isinstance(case, BackboneCase)}
    first, backbone = next(iter(backbones.items()))
    images = f"{effort.batches * effort.batch_size:,} images"
    return "\n".join(
        [
            "# What training costs",
            "",
            "```",
            command,
            "```",
            "",
            f"Ran on {machine.describe()}. Every case in a process of its own. Batches of "
            f"{effort.batch_size}, calibration on {images}. Ratios are to a training step of the "
            "same graph in plain Larq layers (straight-through signs, no learnable thresholds, no "
            "RPReLU shifts, no switches), whose steps were interleaved with the student's and the "
            "float twin's. Medians of steps, the fastest of calibrations and refreshes. Peak "
            "memory is what the calibration held at once beyond what the process held before it.",
            "",
            f"## The nano backbone ({first.blocks} blocks, {backbone.convolutions} binary "
            "convolutions, 32 x 32)",
            "",
            *table(["", "seconds", "in Larq steps (10 to 90 %)"], step_rows(backbone), words=1),
            "",
            f"The calibration's peak memory is {number(backbone.calibration_bytes / 2**20)} MiB. "
            "A student that is neither refreshed nor released has no transform in its training "
            "step.",
            "",
            "## Growth with K",
            "",
            "RSign, BitatConv2D (3 x 3), BatchNormalization and the mean over positions, on random "
            f"maps of {LayerCase.side} x {LayerCase.side} whose neighbours and channels resemble "
            "each other. K inputs, N outputs. Without a unit: in Larq steps.",
            "",
            *table(
                ["K", "N", "largest block", *GROWTH_HEAD],
                [
                    [str(case.inputs), str(case.outputs), str(case.max_block), *growth_cells(cost)]
                    for case, cost in layers.items()
                ],
            ),
            "",
            "## Growth with depth",
            "",
            "The nano backbone with its last block repeated.",
            "",
            *table(
                ["blocks", "binary convolutions", *GROWTH_HEAD],
                [
                    [str(case.blocks), str(cost.convolutions), *growth_cells(cost)]
                    for case, cost in backbones.items()
                ],
            ),
            "",
            f"![Calibration, its memory and refresh over K and depth]({NAME}.png)",
            "",
        ]
    )


def draw(costs: Costs) -> Figure:
    """Seconds over K, memory over K, and seconds over depth; where V is in blocks, hollow."""
    figure = Figure(figsize=(11.0, 3.6), layout="constrained")
    over_k, memory, over_depth = figure.subplots(1, 3)
    layers = [(case, cost) for case, cost in costs.items() if isinstance(case, LayerCase)]
    whole = [(case.inputs, cost) for case, cost in layers if case.inputs <= case.max_block]
    cut = [(case.inputs, cost) for case, cost in layers if case.inputs > case.max_block]
    depth = [(case.blocks, cost) for case, cost in costs.items() if isinstance(case, BackboneCase)]
    for axes, points, marker in (
        (over_k, whole, "o-"),
        (over_k, cut, "o"),
        (over_depth, depth, "o-"),
    ):
        for name, colour in (
            ("calibration", "#0072B2"),
            ("refresh", "#009E73"),
            ("step", "#E69F00"),
        ):
            axes.plot(
                [x for x, _ in points],
                [getattr(cost, f"{name}_seconds") for _, cost in points],
                marker,
                color=colour,
                fillstyle="none" if points is cut else "full",
                label=None if points is cut else name.replace("step", "Larq step"),
            )
    for points, marker, fill in ((whole, "o-", "full"), (cut, "o", "none")):
        memory.plot(
            [x for x, _ in points],
            [cost.calibration_bytes / 2**20 for _, cost in points],
            marker,
            color="#0072B2",
            fillstyle=fill,
        )
    for axes, x, y in (
        (over_k, "inputs K of one layer (hollow: V in blocks)", "seconds"),
        (memory, "inputs K of one layer (hollow: V in blocks)", "calibration's peak memory, MiB"),
        (over_depth, "blocks of the backbone", "seconds"),
    ):
        _logarithmic(axes, x, y)
    over_k.legend(frameon=False)
    return figure


def _logarithmic(axes: Any, x: str, y: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    places = sorted({value for line in axes.lines for value in line.get_xdata()})
    axes.set_xticks(places, [str(place) for place in places])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)


def write(costs: Costs, effort: Effort, out: Path, command: str) -> Path:
    """Write the page and the figure; returns the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    write_figure(draw(costs), out / f"{NAME}.png", command)
    write_text(out / f"{NAME}.md", markdown(costs, effort, command))
    return out / f"{NAME}.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description="Cost of BiTAT as ratios to plain Larq.")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument(
        "--quick", action="store_true", help="small cases and few repeats, to see that it works"
    )
    arguments = parser.parse_args(argv)
    command = shown_command(
        "benchmark_training.py", sys.argv[1:] if argv is None else argv, data_dir=None
    )
    cases: list[Case] = [*BACKBONES, *LAYERS]
    effort = Effort()
    if arguments.quick:
        cases, effort = [*QUICK_BACKBONES, *QUICK_LAYERS], QUICK_EFFORT
    costs: Costs = {}
    for case in cases:
        try:
            costs[case] = measure_alone(case, effort)
        except BrokenProcessPool:
            print(f"benchmark_training: {case} died, as for want of memory", file=sys.stderr)
            return 1
        print(f"{case}: {growth_cells(costs[case])}", file=sys.stderr, flush=True)
    page = write(costs, effort, arguments.out, command)
    print(page.read_text(encoding="utf-8"))
    print(f"Written to {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
