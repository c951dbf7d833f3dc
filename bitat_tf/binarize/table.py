"""A report as a table, for the terminal and as text."""

import io
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bitat_tf import records
from bitat_tf.binarize.report import BinarizeReport, LayerReport

# Columns of a report as text: what fits into a notebook's cell.
_TEXT_WIDTH = 110


def table(report: BinarizeReport) -> Table:
    """One row per layer that computes with weights, or that something was done to."""
    made = Table("layer", "kind", "runs as", "MACs", "bytes", "what and why", title=report.model)
    for layer in report.layers:
        if layer.operators or layer.action or layer.reason:
            style = "green" if layer.binary else ""
            made.add_row(*map(escape, _row(layer)), style=style)
    return made


def _row(layer: LayerReport) -> tuple[str, ...]:
    kinds = ", ".join(_counted(operator.type for operator in layer.operators))
    macs = f"{layer.macs:,}" if layer.macs else ""
    why = layer.reason or layer.action
    return layer.name, layer.kind, kinds, macs, f"{layer.size_bytes:,}", why


def _counted(names: Iterable[str]) -> list[str]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return [name if count == 1 else f"{count} {name}" for name, count in found.items()]


def summary(report: BinarizeReport) -> str:
    """What the whole is expected to be, and the most useful changes to the model; some lines."""
    binary = len(report.binary_layers)
    types = [operator.type for operator in report.operators if operator.type != "LceBconv2d"]
    float_operators = ", ".join(_counted(types)) or "none"
    lines = [
        f"{binary} layers as LceBconv2d ({report.binary_macs:,} 1-bit MACs); float: "
        f"{float_operators} ({report.float_macs:,} MACs); about "
        f"{report.predicted_size_bytes / 1024:.0f} KiB (predicted, nothing was converted)"
    ]
    if report.suggestions:
        lines += ["", "Most useful changes:"]
        lines += [f"{i}. {text}" for i, text in enumerate(report.suggestions, start=1)]
    return "\n".join(lines)


def text(report: BinarizeReport) -> str:
    """Table and summary as plain text, the same wherever it is printed."""
    made = io.StringIO()
    # In a notebook rich would show the table there, and not only write it into the text.
    plain = Console(file=made, width=_TEXT_WIDTH, color_system=None, force_jupyter=False)
    plain.print(table(report))
    return f"{made.getvalue()}{summary(report)}"


def to_mapping(report: BinarizeReport) -> dict[str, Any]:
    """The record with its totals, for JSON."""
    totals = {
        "predicted_size_bytes": report.predicted_size_bytes,
        "binary_macs": report.binary_macs,
        "float_macs": report.float_macs,
        "binary_layers": list(report.binary_layers),
    }
    return {**records.to_mapping(report), **totals}
