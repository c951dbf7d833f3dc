"""`bitat convert`: its arguments, and what they do, to a run or to a model from elsewhere."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bitat_tf import convert, report
from bitat_tf._version import __version__
from bitat_tf.files import check_target, write_bytes, write_text
from bitat_tf.loading import is_saved_model, load_keras_model, read_images
from bitat_tf.metadata import MeasuredShare, Metadata
from bitat_tf.recipe_files import data_dir_overrides
from bitat_tf.results import AuditReport, LayerParityReport, ParityReport

EXAMPLES = """\
bitat convert runs/cifar10-nano --ends int8
  bitat convert runs/cifar10-nano --parity-layers
  bitat convert student.keras --out model.tflite --images test.npy --report"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("model", type=Path, help="run directory, .keras file or SavedModel")
    parser.add_argument("--out", type=Path, help="the .tflite to write, of a model outside a run")
    parser.add_argument(
        "--ends", choices=("float32", "int8"), default="float32", help="type of stem and classifier"
    )
    parser.add_argument(
        "--io", choices=("float32", "int8"), default="float32", help="type of input and output"
    )
    parser.add_argument("--no-fold", action="store_true", help="convert the network as trained")
    parser.add_argument(
        "--parity-images", type=int, metavar="N", help="images compared with Keras; 0 is all"
    )
    parser.add_argument(
        "--parity-layers",
        action="store_true",
        help="compare layer by layer as well, and name the first that differs",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="NPY",
        help="images, preprocessed as in training, for parity and int8 ranges of a model "
        "outside a run",
    )
    parser.add_argument(
        "--report", action="store_true", help="write what changed to a .md beside the flatbuffer"
    )


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Convert as the arguments say."""
    if not arguments.model.is_dir() or is_saved_model(arguments.model):
        _convert_file(arguments)
    else:
        _convert_run(arguments, console)


def _convert_file(arguments: argparse.Namespace) -> None:
    out = arguments.out or arguments.model.with_suffix(".tflite")
    check_target(out)
    int8 = arguments.ends == "int8"
    parity_asked = arguments.parity_images is not None or arguments.parity_layers
    if arguments.images is None and (int8 or parity_asked):
        raise ValueError(
            "--ends int8, --parity-images and --parity-layers need images: give --images, or a "
            "run directory."
        )
    images = None if arguments.images is None else read_images(arguments.images)
    model = load_keras_model(arguments.model)
    made = convert.convert_model(
        model, **_options(arguments), calibration_images=images if int8 else None
    )
    parity = None
    if images is not None:
        parity = convert.check_conversion(
            made,
            model,
            images[: arguments.parity_images or None],
            layers=arguments.parity_layers,
        )
        convert.require_parity(parity)
    # Labels and preprocessing are not known of a model outside a run.
    known = Metadata(
        __version__,
        agreement=None if parity is None else MeasuredShare(parity.agreement, parity.images),
        audit=convert.summarize(made.audit),
    )
    write_bytes(out, convert.embed(made.flatbuffer, known))
    _show(arguments, out, model, made, parity)


def _convert_run(arguments: argparse.Namespace, console: Console) -> None:
    from bitat_tf.experiment import Run

    for option in ("out", "images"):
        if getattr(arguments, option) is not None:
            raise ValueError(f"--{option} goes with a model outside a run; a run has its own.")
    overrides = data_dir_overrides(arguments.data_dir)
    if arguments.parity_images is not None:
        overrides.append(f"convert.parity_images={arguments.parity_images}")
    opened = Run.open(arguments.model, overrides=overrides, console=console)
    made, parity = opened.convert(**_options(arguments), parity_layers=arguments.parity_layers)
    opened.score()
    opened.report()
    path = opened.folder / "model.tflite"
    _show(arguments, path, opened.load_model("student"), made, parity)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"fold": not arguments.no_fold, "ends": arguments.ends, "io": arguments.io}


def _show(
    arguments: argparse.Namespace, path: Path, model: Any, made: Any, parity: ParityReport | None
) -> None:
    """The table before and after, and one line; with --report the Markdown as well."""
    after: AuditReport = made.audit
    before = convert.convert_model(model, fold=False).audit
    table = Table(*report.HEADER, title=path.name)
    for row in report.conversion_rows(before, after):
        table.add_row(*row)
    Console().print(table)
    if parity is not None and parity.layers is not None:
        _show_layers(parity.layers)
    for remark in report.audit_remarks(after):
        print(remark)
    agreement = "parity not checked (no images at hand)"
    if parity is not None:
        agreement = f"agrees with Keras on {parity.agreement:.2%} of {parity.images} images"
    print(
        f"{path}: {path.stat().st_size / 1024:.0f} KiB, {after.binary_convolutions} binary and "
        f"{after.float_convolutions} float convolutions; {agreement}"
    )
    if arguments.report:
        target = path.with_suffix(".conversion.md")
        text = report.render_conversion(path.name, before, after, made.steps, parity)
        write_text(target, text)
        print(f"Report: {target}")


def _show_layers(layers: LayerParityReport) -> None:
    table = Table(*report.LAYER_HEADER, title=f"layer by layer, {layers.images} images")
    for row in report.layer_rows(layers):
        table.add_row(*row)
    Console().print(table)
    print(convert.describe(layers))
