"""A run's figures for people: `report.md` with PNG figures, and `report.json` for machines.

Everything is made from one `RunResult`. What it does not hold is left out and said to be
missing. Each file is written whole or not at all; the Markdown comes last, so that it never
shows a figure that is not there.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from bitat_tf.android_results import AndroidBenchmark
from bitat_tf.files import write_text
from bitat_tf.records import from_json, to_json
from bitat_tf.report import phone
from bitat_tf.report.comparison import HEADER as COMPARISON_HEADER
from bitat_tf.report.comparison import ComparisonRow, comparison_rows, render_comparison, to_csv
from bitat_tf.report.comparison import cells as comparison_cells
from bitat_tf.report.conversion import (
    HEADER,
    LAYER_HEADER,
    audit_remarks,
    conversion_rows,
    layer_rows,
    metadata_rows,
    render_conversion,
)
from bitat_tf.report.markdown import render
from bitat_tf.report.phone import operator_rows
from bitat_tf.results import RunResult

__all__ = [
    "COMPARISON_HEADER",
    "HEADER",
    "LAYER_HEADER",
    "ComparisonRow",
    "audit_remarks",
    "comparison_cells",
    "comparison_rows",
    "conversion_rows",
    "layer_rows",
    "load",
    "metadata_rows",
    "operator_rows",
    "render",
    "render_conversion",
    "save",
    "write",
    "write_comparison",
    "write_phone",
]

_JSON, _MARKDOWN = "report.json", "report.md"
COMPARISON_CSV, COMPARISON_MARKDOWN = "comparison.csv", "comparison.md"
COMPARISON_JSON = "comparison.json"
PHONE_JSON, PHONE_MARKDOWN = "benchmark.json", "benchmark.md"


def save(result: RunResult, folder: str | os.PathLike[str]) -> Path:
    """Write `report.json` alone.

    Args:
        result: what to keep.
        folder: an existing directory.

    Returns:
        The path of the file.

    Raises:
        ValueError: when a number of the result is not finite.
        OSError: when the directory cannot be written.
    """
    path = Path(folder) / _JSON
    try:
        text = to_json(result)
    except ValueError as err:
        raise ValueError(
            f"`result` must hold finite numbers only; did the training diverge? "
            f"{path} is left as it was. Received: {err}"
        ) from err
    write_text(path, text)
    return path


def write(result: RunResult, folder: str | os.PathLike[str], note: str = "") -> Path:
    """Write `report.json`, the figures, `comparison.csv` and `report.md`.

    Args:
        result: what to report.
        folder: an existing directory; a figure of an earlier report that this result has no
            data for is removed.
        note: Markdown at the head of the report; may be empty.

    Returns:
        The path of `report.md`.

    Raises:
        ValueError: when a number of the result is not finite.
        OSError: when the directory cannot be written.
    """
    from bitat_tf.report import figures  # matplotlib takes its time to import

    folder = Path(folder)
    save(result, folder)
    drawn = figures.write(result, folder)
    rows = comparison_rows(result)
    if rows:
        write_text(folder / COMPARISON_CSV, to_csv(rows))
    else:
        (folder / COMPARISON_CSV).unlink(missing_ok=True)
    path = folder / _MARKDOWN
    write_text(path, render(result, drawn, note))
    return path


def write_comparison(results: Mapping[str, RunResult], folder: str | os.PathLike[str]) -> Path:
    """Write several runs side by side: `comparison.json`, `.csv`, `.png` and `.md`.

    Args:
        results: name of a run -> its result.
        folder: an existing directory.

    Returns:
        The path of the Markdown.

    Raises:
        ValueError: when no run has a latency.
        OSError: when the directory cannot be written.
    """
    from bitat_tf.report import charts, drawing  # matplotlib takes its time to import

    folder = Path(folder)
    rows = [row for name, result in results.items() for row in comparison_rows(result, name)]
    if not rows:
        raise ValueError(
            "`results` must hold a run with a latency; make one with `bitat benchmark`. Received: "
            f"{', '.join(results) or 'no run'}"
        )
    write_text(folder / COMPARISON_JSON, to_json(rows))
    write_text(folder / COMPARISON_CSV, to_csv(rows))
    drawn = drawing.write_figures({charts.COMPARISON: charts.draw_comparison(rows)}, folder)
    figure = f"\n\n![Accuracy against latency]({charts.COMPARISON})" if drawn else ""
    without = [name for name, result in results.items() if not comparison_rows(result, name)]
    note = f"\n\nWithout a latency: {', '.join(without)}." if without else ""
    path = folder / COMPARISON_MARKDOWN
    write_text(path, f"# Float, int8 and binary\n\n{render_comparison(rows)}{note}{figure}\n")
    return path


def write_phone(benchmark: AndroidBenchmark, folder: str | os.PathLike[str]) -> Path:
    """Write one session on a phone, which belongs to no run, as `benchmark.json` and `.md`.

    Args:
        benchmark: the session.
        folder: an existing directory.

    Returns:
        The path of the Markdown.

    Raises:
        OSError: when the directory cannot be written.
    """
    folder = Path(folder)
    write_text(folder / PHONE_JSON, to_json(benchmark))
    write_text(folder / PHONE_MARKDOWN, phone.section(benchmark).removeprefix("#") + "\n")
    return folder / PHONE_MARKDOWN


def load(folder: str | os.PathLike[str]) -> RunResult:
    """Read back the result that `save` or `write` left.

    Args:
        folder: a run directory.

    Returns:
        The result.

    Raises:
        ValueError: when there is none, or it is not valid.
    """
    path = Path(folder) / _JSON
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ValueError(
            f"`folder` must hold a readable {_JSON}, as `bitat train` leaves it. "
            f"Received: {os.fspath(folder)!r}"
        ) from err
    try:
        return from_json(RunResult, text)
    except ValueError as err:
        raise ValueError(f"{path} is not a valid report: {err}") from err
