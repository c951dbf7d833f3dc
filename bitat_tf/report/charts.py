"""Figures of what a model costs: accuracy against latency, time by operator, where 1 bit is."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from bitat_tf.report.comparison import ComparisonRow, comparison_rows
from bitat_tf.report.drawing import (
    BLUE,
    DARK,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    new_figure,
    style,
)
from bitat_tf.results import AuditReport, HostProfile, OpRecord, RunResult

COMPARISON, OPERATORS, LAYERS = "comparison.png", "operators.png", "layers.png"

_MODEL_COLORS = {"float": GREY, "int8": ORANGE, "binary": BLUE}
_MARKERS = "os^Dv<>P*X"
_KINDS = (BLUE, ORANGE, GREEN, SKY, VERMILION, PURPLE, YELLOW)  # more types than these are "rest"
_LAYERS_LABELLED = 40  # more names would touch


def draw_all(result: RunResult) -> dict[str, Figure | None]:
    """File name -> figure; None where the result has no data for it."""
    rows = comparison_rows(result)
    layers = result.audit is not None and any(op.macs for op in result.audit.ops)
    return {
        COMPARISON: draw_comparison(rows),
        OPERATORS: draw_operators(result.profiles) if result.profiles else None,
        LAYERS: draw_layers(result.audit) if result.audit is not None and layers else None,
    }


def draw_comparison(rows: Sequence[ComparisonRow]) -> Figure | None:
    """Accuracy against latency, a panel for each device; None without a row that has both.

    The colour is the model, the marker the run; a line is the spread of the latency.
    """
    shown = [row for row in rows if row.test_accuracy is not None]
    if not shown:
        return None
    devices = list(dict.fromkeys(row.device for row in shown))
    runs = list(dict.fromkeys(row.run for row in shown))
    figure = new_figure(0.4 + 4.2 * len(devices))
    panels = figure.subplots(len(devices), 1, squeeze=False)[:, 0]
    for axes, device in zip(panels, devices, strict=True):
        for row in (row for row in shown if row.device == device):
            _point(axes, row, _MARKERS[runs.index(row.run) % len(_MARKERS)], len(runs) > 1)
        host = "; says nothing about phones" if device.startswith("host") else ""
        axes.set_title(f"{device}{host}", fontsize=11, loc="left", color=DARK)
        axes.set_xlabel("median latency (ms)")
        axes.set_ylabel("test accuracy")
        axes.set_xscale("log")
        axes.margins(0.15)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}")
        style(axes, grid="both")
        axes.tick_params(axis="x", which="minor", labelsize=8, labelcolor=GREY)
    return figure


def _point(axes: Any, row: ComparisonRow, marker: str, several: bool) -> None:
    color = _MODEL_COLORS.get(row.model, GREEN)
    axes.plot([row.low_ms, row.high_ms], [row.test_accuracy] * 2, color=color, linewidth=1.2)
    axes.plot([row.latency_ms], [row.test_accuracy], marker, color=color, markersize=8)
    axes.annotate(
        f"{row.run}: {row.model}" if several else row.model,
        (row.latency_ms, row.test_accuracy),
        xytext=(0, 8),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=DARK,
    )


def draw_operators(profiles: Sequence[HostProfile]) -> Figure:
    """Time by type of operator, a stacked bar for each model; a line is the whole inference."""
    totals: dict[str, float] = {}
    for profile in profiles:
        for operator in profile.operators:
            totals[operator.type] = totals.get(operator.type, 0.0) + operator.average_ms
    named = sorted(totals, key=lambda kind: -totals[kind])[: len(_KINDS)]
    figure = new_figure(1.9 + 0.6 * len(profiles))
    axes = figure.subplots()
    left = [0.0] * len(profiles)
    for kind in [*named, "rest"]:
        widths = [
            sum(
                op.average_ms
                for op in profile.operators
                if op.type == kind or (kind == "rest" and op.type not in named)
            )
            for profile in profiles
        ]
        if any(widths):
            color = GREY if kind == "rest" else _KINDS[named.index(kind)]
            axes.barh(range(len(profiles)), widths, left=left, color=color, label=kind)
            left = [a + b for a, b in zip(left, widths, strict=True)]
    for row, profile in enumerate(profiles):
        axes.plot([profile.whole_ms] * 2, [row - 0.45, row + 0.45], color=DARK, linewidth=1.5)
    axes.set_yticks(range(len(profiles)), [profile.model for profile in profiles])
    axes.invert_yaxis()
    axes.set_xlabel("ms on the host (says nothing about phones); the line is the whole inference")
    style(axes, grid="x")
    figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    return figure


def draw_layers(audit: AuditReport) -> Figure:
    """Share of all multiply-accumulates in each layer that has any, binary or not."""
    layers = [op for op in audit.ops if op.macs]
    total = sum(op.macs for op in layers)
    figure = new_figure(4.2)
    axes = figure.subplots()
    for label, color, binary in (("1 bit", BLUE, True), ("float or int8", GREY, False)):
        places = [place for place, op in enumerate(layers) if op.binary is binary]
        heights = [layers[place].macs / total for place in places]
        if places:
            share = sum(heights)
            axes.bar(places, heights, color=color, label=f"{label}: {share:.1%} of all")
    if len(layers) <= _LAYERS_LABELLED:
        names = [_layer_name(op) for op in layers]
        axes.set_xticks(range(len(layers)), names, rotation=50, ha="right", rotation_mode="anchor")
    else:
        axes.set_xlabel("layer, bottom to top")
    axes.set_ylabel("share of all\nmultiply-accumulates")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    style(axes)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=10)
    return figure


def _layer_name(op: OpRecord) -> str:
    """Place in the flatbuffer and kernel; the converter's own names are unreadable."""
    outputs, height, width, inputs = op.kernel_shape
    return f"{op.index}: {height}x{width}, {inputs} to {outputs}"
