"""A run's figures for people: `report.md` with PNG figures, and `report.json` for machines.

Everything is made from one `RunResult`. What it does not hold is left out and said to be
missing. Each file is written whole or not at all; the Markdown comes last, so that it never
shows a figure that is not there.
"""

import os
from pathlib import Path

from bitat_tf.android_results import AndroidBenchmark
from bitat_tf.files import write_text
from bitat_tf.records import from_json, to_json
from bitat_tf.report import phone
from bitat_tf.report.conversion import HEADER, conversion_rows, render_conversion
from bitat_tf.report.markdown import render
from bitat_tf.results import RunResult

__all__ = [
    "HEADER",
    "conversion_rows",
    "load",
    "render",
    "render_conversion",
    "save",
    "write",
    "write_phone",
]

_JSON, _MARKDOWN = "report.json", "report.md"
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


def write(result: RunResult, folder: str | os.PathLike[str]) -> Path:
    """Write `report.json`, the figures and `report.md`.

    Args:
        result: what to report.
        folder: an existing directory; a figure of an earlier report that this result has no
            data for is removed.

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
    path = folder / _MARKDOWN
    write_text(path, render(result, drawn))
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
