"""What folding and int8 ends cost a trained student in accuracy, on its whole test split.

    python tools/measure_ends.py RUN... --data-dir DIR [--out docs/results]

RUN is the directory of a finished run (`bitat train`); it is only read. Of each the Keras
student and its flatbuffers - unfolded, folded, with int8 ends, with int8 input and output as
well - are evaluated on every test image, and compared image by image with Keras. The ranges
come from the training images that the run was calibrated on. A table goes to OUT/int8-ends.md.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from command_line import shown_command

from bitat_tf import convert, machine
from bitat_tf.experiment import Run
from bitat_tf.files import write_text
from bitat_tf.runtime import Runner

NAME = "int8-ends.md"
KERAS = "Keras student"
BATCH = 500


@dataclass(frozen=True)
class Row:
    """One model: its test accuracy, its agreement with Keras in top-1, both in [0, 1], and size."""

    run: str
    model: str
    accuracy: float
    agreement: float
    size_bytes: int | None


def flatbuffers(student: Any, calibration_images: np.ndarray) -> dict[str, bytes]:
    """The student converted in every way that is compared."""
    int8 = {"ends": "int8", "calibration_images": calibration_images}
    options: dict[str, dict[str, Any]] = {
        "unfolded": {"fold": False},
        "folded": {},
        "folded, int8 ends": int8,
        "folded, int8 ends, int8 input and output": {**int8, "io": "int8"},
    }
    return {name: convert.export(student, **given) for name, given in options.items()}


def compare(run: Run, student: Any) -> list[Row]:
    """Keras and all flatbuffers on every test image of the run's data set."""
    batches = [(x.numpy(), y.numpy()) for x, y in run.images.test(BATCH)]
    labels = np.concatenate([y for _, y in batches])

    def classes(predict: Callable[[np.ndarray], Any]) -> np.ndarray:
        return np.concatenate([np.asarray(predict(x)).argmax(axis=1) for x, _ in batches])

    expected = classes(lambda x: student(x, training=False))
    rows = [Row(run.folder.name, KERAS, float(np.mean(expected == labels)), 1.0, None)]
    for name, content in flatbuffers(student, run.calibration_array()).items():
        found = classes(Runner(content).predict)
        accuracy, agreement = float(np.mean(found == labels)), float(np.mean(found == expected))
        rows.append(Row(run.folder.name, name, accuracy, agreement, len(content)))
    return rows


def page(rows: Sequence[Row], images: int, command: str) -> str:
    """The table as Markdown."""
    lines = [
        "# What conversion costs in accuracy",
        "",
        f"Made by `{command}` on {machine.describe()}: {images:,} test images, all of the split. "
        "Agreement is the share of images on which the flatbuffer names the same class as the "
        "Keras student; it falls short of 100 % where rounding moves a value over a sign's "
        "threshold. int8 also rounds the logits to 256 steps.",
        "",
        "| run | model | test accuracy | agreement with Keras | KiB |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        size = "" if row.size_bytes is None else f"{row.size_bytes / 1024:.1f}"
        lines.append(
            f"| {row.run} | {row.model} | {row.accuracy:.2%} | {row.agreement:.2%} | {size} |"
        )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description="what int8 ends cost in accuracy")
    parser.add_argument("runs", type=Path, nargs="+", help="directories of finished runs")
    parser.add_argument("--data-dir", help="where TFDS finds its prepared data sets")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    given = sys.argv[1:] if argv is None else list(argv)
    arguments = parser.parse_args(given)
    overrides = [f"data.data_dir={arguments.data_dir}"] if arguments.data_dir else []
    rows, images = [], 0
    for folder in arguments.runs:
        run = Run.open(folder, overrides=overrides)
        rows += compare(run, run.load_model("student"))
        images = run.images.test_images
    text = page(rows, images, shown_command("measure_ends.py", given, arguments.data_dir))
    write_text(arguments.out / NAME, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
