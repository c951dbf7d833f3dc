"""What `bitat.binarize` predicts of public models, beside what the converter makes of them.

    python tools/predict_sizes.py [--models mobilenet ...] [--out docs/results]

The models are those of `tests/binarize/test_prediction.py`, which holds every operator against the
report; random weights, 32 x 32 pixels. A table goes to OUT/predicted-sizes.md.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from command_line import shown_command

import bitat_tf as bitat
from bitat_tf import machine
from bitat_tf._keras import keras
from bitat_tf.files import write_text
from bitat_tf.report.tables import table

NAME = "predicted-sizes.md"
TESTS = Path(__file__).parents[1] / "tests" / "binarize"


def of_the_tests(module: str) -> Any:
    """A module of the tests, which are no package."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    return importlib.import_module(module)


def row(name: str) -> tuple[str, ...]:
    """One model: binary and float layers with weights, predicted and real bytes, their ratio."""
    keras.utils.set_random_seed(0)
    networks = of_the_tests("networks")
    build, _ = of_the_tests("test_prediction").MODELS[name]
    student, report = bitat.binarize(networks.trained(build()))
    size = len(bitat.convert.export(networks.shifted(student)))
    weighted = [layer for layer in report.layers if layer.operators]
    binary = len(report.binary_layers)
    predicted = report.predicted_size_bytes
    ratio = f"{predicted / size:.2f}"
    return name, str(binary), str(len(weighted) - binary), f"{predicted:,}", f"{size:,}", ratio


def page(rows: Sequence[tuple[str, ...]], command: str, seconds: float) -> str:
    """The table as Markdown."""
    header = ("model", "binary layers", "float layers", "predicted bytes", "real bytes", "ratio")
    return (
        f"# Predicted sizes\n\nWritten by\n\n```\n{command}\n```\n\non {machine.describe()} in "
        f"{seconds / 60:.0f} minutes. What `bitat.binarize` says of a model before anything is "
        "converted, beside its flatbuffer; 32 x 32 pixels, random weights, 10 classes or none. A "
        "layer counts where it has weights in the flatbuffer.\n\n"
        f"{table(header, rows)}\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, write, print."""
    known = sorted(of_the_tests("test_prediction").MODELS)
    parser = argparse.ArgumentParser(description="predicted and real sizes of public models")
    parser.add_argument("--models", nargs="+", default=known, choices=known, metavar="MODEL")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    given = sys.argv[1:] if argv is None else list(argv)
    arguments = parser.parse_args(given)
    started = time.perf_counter()
    rows = [row(name) for name in arguments.models]
    command = shown_command("predict_sizes.py", given, None)
    text = page(rows, command, time.perf_counter() - started)
    write_text(arguments.out / NAME, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
