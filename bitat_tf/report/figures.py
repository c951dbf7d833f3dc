"""The report's figures of training, calibration and accuracy; others are in `charts`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bitat_tf.report import charts
from bitat_tf.report.drawing import (
    BLUE,
    DARK,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    new_figure,
    style,
    write_figures,
)
from bitat_tf.results import CalibrationResult, ModelScore, RunResult, StageRecord, TrainingPoint

TRAINING, CALIBRATION, SCORES = "training.png", "calibration.png", "scores.png"

_LAYERS_PER_ROW = 20  # more would make the rotated names touch
_NAME_LENGTH = 26
_LABELLED_STAGES = 5  # more labels would overlap; then only the first and the last have one


def write(result: RunResult, folder: Path) -> tuple[str, ...]:
    """Draw what `result` has data for; remove an earlier figure of what it has not.

    Returns:
        File names of the figures drawn.
    """
    calibration = result.calibration
    figures: dict[str, Figure | None] = {
        TRAINING: draw_training(result) if result.teacher_curve or result.student_curve else None,
        CALIBRATION: draw_calibration(calibration) if calibration and calibration.layers else None,
        SCORES: draw_scores(result.scores) if result.scores else None,
        **charts.draw_all(result),
    }
    return write_figures(figures, folder)


def draw_training(result: RunResult) -> Figure:
    """Loss and accuracy of teacher and student over their steps, the stages marked."""
    curves = [
        (name, points, stages)
        for name, points, stages in (
            ("Float teacher", result.teacher_curve, ()),
            ("1-bit student", result.student_curve, result.stages),
        )
        if points
    ]
    figure = new_figure(6.4)
    grid = figure.subplots(2, len(curves), sharex="col", sharey="row", squeeze=False)
    for column, (name, points, stages) in enumerate(curves):
        loss, accuracy = grid[:, column]
        _draw_loss(loss, points)
        _draw_accuracy(accuracy, points)
        for axes in (loss, accuracy):
            style(axes)
            _mark_stages(axes, stages, labelled=axes is loss)
        loss.set_title(name, fontsize=12, color=DARK, loc="left", pad=24)
        accuracy.set_xlabel("step")
        accuracy.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        accuracy.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    grid[0, 0].set_ylabel("training loss")
    grid[1, 0].set_ylabel("accuracy")
    grid[1, 0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    grid[1, -1].legend(loc="lower right", fontsize=9, framealpha=0.9, edgecolor="none")
    return figure


def _draw_loss(axes: Any, points: Sequence[TrainingPoint]) -> None:
    steps = [point.step for point in points]
    axes.plot(steps, [point.loss for point in points], color=BLUE, linewidth=1.6)
    if len(points) == 1:
        axes.plot(steps, [points[0].loss], "o", color=BLUE, markersize=4)


def _draw_accuracy(axes: Any, points: Sequence[TrainingPoint]) -> None:
    steps = [point.step for point in points]
    marker = "o" if len(points) == 1 else None
    accuracies = [point.accuracy for point in points]
    axes.plot(steps, accuracies, color=BLUE, linewidth=1.6, marker=marker, label="training")
    measured = [
        (point.step, point.validation_accuracy)
        for point in points
        if point.validation_accuracy is not None
    ]
    if measured:
        axes.plot(
            *zip(*measured, strict=True),
            color=ORANGE,
            linewidth=1.6,
            marker="o",
            markersize=4,
            label="validation",
        )


def _mark_stages(axes: Any, stages: Sequence[StageRecord], *, labelled: bool) -> None:
    """A line where each stage was entered, and above it how much is binary from there on."""
    few = len(stages) <= _LABELLED_STAGES
    for index, stage in enumerate(stages):
        axes.axvline(
            stage.step,
            color=GREY,
            linestyle=(0, (4, 3)),
            linewidth=1 if few else 0.6,
            alpha=1 if few else 0.6,
            zorder=1,
        )
        if not labelled or not (few or index in (0, len(stages) - 1)):
            continue
        left = index == 0
        axes.annotate(
            f"{stage.binary_units}/{stage.units}" + (" binary" if left else ""),
            (stage.step, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="left" if left else "center",
            va="bottom",
            fontsize=8.5,
            color=DARK,
        )


def draw_calibration(calibration: CalibrationResult) -> Figure:
    """Unexplained variance of every layer: plain signs, after compensation, and the floor."""
    layers = calibration.layers
    rows = math.ceil(len(layers) / _LAYERS_PER_ROW)
    per_row = math.ceil(len(layers) / rows)
    figure = new_figure(0.6 + 3.6 * rows)
    grid = figure.subplots(rows, 1, squeeze=False, sharey=True)[:, 0]
    series = (
        ("before: sign(W)", GREY, [layer.unexplained_sign for layer in layers]),
        ("after compensation", BLUE, [layer.unexplained_binary for layer in layers]),
        ("floor: real weights W*", SKY, [layer.unexplained_real for layer in layers]),
    )
    for row, axes in enumerate(grid):
        some = slice(row * per_row, (row + 1) * per_row)
        names = [_short(layer.name) for layer in layers[some]]
        for index, (label, color, values) in enumerate(series):
            places = [place + 0.27 * (index - 1) for place in range(len(names))]
            axes.bar(places, values[some], width=0.25, color=color, label=label)
        axes.set_xticks(range(len(names)), names, rotation=50, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.6, per_row - 0.4)
        axes.set_ylabel("unexplained share\nof the target's variance")
        style(axes)
    grid[0].set_ylim(bottom=0)
    figure.legend(
        *grid[0].get_legend_handles_labels(),
        loc="outside upper left",
        ncols=3,
        frameon=False,
        fontsize=10,
    )
    return figure


def _short(name: str) -> str:
    """A name with its middle left out if it is too long to stand under a bar."""
    if len(name) <= _NAME_LENGTH:
        return name
    half = (_NAME_LENGTH - 3) // 2
    return f"{name[:half]}...{name[-half:]}"


def draw_scores(scores: Sequence[ModelScore]) -> Figure:
    """Test accuracy and size of each model, side by side, with their numbers."""
    figure = new_figure(1.2 + 0.55 * len(scores))
    accuracy, size = figure.subplots(1, 2, sharey=True)
    colors = [(GREY, ORANGE, BLUE, GREEN)[min(i, 3)] for i in range(len(scores))]
    shares = [None if s.test_accuracy is None else 100 * s.test_accuracy for s in scores]
    _bars(accuracy, shares, colors, "{:.1f} %")
    accuracy.set_xlim(0, 120)  # room for the number beside a full bar
    accuracy.set_xticks(range(0, 101, 20))
    accuracy.set_title("Test accuracy (%)", fontsize=11, loc="left", color=DARK)
    sizes = [None if s.size_bytes is None else s.size_bytes / 1024 for s in scores]
    _bars(size, sizes, colors, "{:,.1f} KiB")
    size.set_title("Size of the file (KiB)", fontsize=11, loc="left", color=DARK)
    accuracy.set_yticks(range(len(scores)), [score.model for score in scores])
    accuracy.invert_yaxis()
    for axes in (accuracy, size):
        style(axes, grid="x")
        axes.tick_params(axis="y", length=0, labelsize=10)
    return figure


def _bars(axes: Any, values: Sequence[float | None], colors: Sequence[str], text: str) -> None:
    """Horizontal bars with their numbers beside them."""
    largest = max((value for value in values if value is not None), default=0) or 1
    axes.barh(range(len(values)), [value or 0 for value in values], color=colors, height=0.68)
    axes.set_xlim(0, 1.25 * largest)  # room for the numbers
    for row, value in enumerate(values):
        axes.annotate(
            "not measured" if value is None else text.format(value),
            (value or 0, row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
            color=GREY if value is None else DARK,
        )
