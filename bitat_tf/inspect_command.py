"""`bitat inspect`: its arguments, and what they do, to a flatbuffer or a Keras model."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bitat_tf import convert, report
from bitat_tf.binarize import binarize
from bitat_tf.binarize import table as plan
from bitat_tf.loading import is_saved_model, load_keras_model, read_flatbuffer
from bitat_tf.records import to_json, to_mapping
from bitat_tf.results import AuditReport

EXAMPLES = """\
bitat inspect runs/cifar10-nano/model.tflite
  bitat inspect runs/cifar10-nano/student.keras
  bitat inspect my-float-model.keras --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("model", type=Path, help=".tflite, .keras, SavedModel or run directory")
    parser.add_argument("--json", action="store_true", help="print the record as JSON")


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Show what the model consists of; of a float one, what `binarize` would make of it."""
    path = arguments.model
    if path.is_dir() and not is_saved_model(path):
        path = path / "model.tflite" if (path / "model.tflite").exists() else path / "student.keras"
    known = None
    if path.suffix == ".tflite":
        content = read_flatbuffer(path)
        audit, known = convert.audit(content), convert.embedded(content)
    else:
        model = load_keras_model(path)
        if not convert.binary_kernels(model):
            _show_plan(model, arguments.json)
            return
        audit = convert.convert_model(model).audit
    if arguments.json:
        print(to_json({**to_mapping(audit), "metadata": known}), end="")
        return
    _show_operators(audit, str(path))
    if known is not None:
        _show_metadata(known)
    for remark in report.audit_remarks(audit):
        print(remark)
    print(
        f"{audit.binary_convolutions} binary convolutions ({audit.binary_macs:,} 1-bit MACs), "
        f"{audit.float_convolutions} float ones; {audit.float_macs:,} float MACs in all; "
        f"{audit.size_bytes / 1024:.1f} KiB"
    )


def _show_operators(audit: AuditReport, title: str) -> None:
    table = Table("op", "type", "output", "1 bit", "MACs", "bytes", title=escape(title))
    for op in audit.ops:
        shape = " x ".join(map(str, op.output_shape))
        macs = f"{op.macs:,}" if op.macs else ""
        cells = (str(op.index), op.type, shape, "yes" if op.binary else "", macs)
        table.add_row(*map(escape, cells), f"{op.size_bytes:,}")
    Console().print(table)


def _show_metadata(known: Any) -> None:
    table = Table("metadata", "", show_header=False, title="what the flatbuffer says of itself")
    for row in report.metadata_rows(known):
        table.add_row(*row)
    Console().print(table)


def _show_plan(model: Any, as_json: bool) -> None:
    _, found = binarize(model)
    if as_json:
        print(to_json(plan.to_mapping(found)), end="")
        return
    Console().print(plan.table(found))
    print(plan.summary(found))
