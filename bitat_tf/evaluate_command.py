"""`bitat evaluate`: accuracy of a run's models, or of flatbuffers by what they say of themselves.

A flatbuffer that `bitat convert` wrote in a run carries its data set's name, labels and
preprocessing (`metadata`). They are used, and what was used is said; what does not fit is refused.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bitat_tf import convert, data, runtime, scoring
from bitat_tf.config import DataConfig
from bitat_tf.loading import load_keras_model, read_flatbuffer, short_names
from bitat_tf.metadata import Metadata, Preprocessing
from bitat_tf.recipe_files import data_dir_overrides
from bitat_tf.records import from_mapping

EXAMPLES = """\
bitat evaluate runs/cifar10-nano
  bitat evaluate runs/cifar10-nano other.tflite
  bitat evaluate model.tflite --data-dir ~/tensorflow_datasets
  bitat evaluate old.tflite --dataset cifar10 --mean 125,123,114 --std 63,62,67"""

# Of 8-bit images, in whose units `--mean` and `--std` are.
_PIXELS = (0.0, 255.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="run directory, and other .tflite or .keras files to evaluate on its data; or "
        ".tflite files alone, which say themselves how",
    )
    group = parser.add_argument_group("of .tflite files alone")
    group.add_argument(
        "--dataset", help="to evaluate on (default: the one that the flatbuffer names)"
    )
    for name, what in (("mean", "mean"), ("std", "standard deviation")):
        group.add_argument(
            f"--{name}",
            metavar="NUMBERS",
            help=f"{what} of each channel, in pixel units, separated by commas, of a flatbuffer "
            "that does not carry it",
        )


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Evaluate as the arguments say."""
    if arguments.paths[0].suffix == ".tflite":
        _evaluate_flatbuffers(arguments)
        return
    for option in ("dataset", "mean", "std"):
        if getattr(arguments, option) is not None:
            raise ValueError(f"--{option} goes with .tflite files alone; a run has its own.")
    _evaluate_run(arguments, console)


def print_scores(run_: Any) -> None:
    """The table of a run's accuracies and sizes."""
    table = Table("model", "test accuracy", "flatbuffer", title=run_.recipe.name)
    for score in run_.result.scores:
        size = "" if score.size_bytes is None else f"{score.size_bytes / 1024:.0f} KiB"
        table.add_row(score.model, f"{score.test_accuracy:.2%}", size)
    Console().print(table)


def _evaluate_run(arguments: argparse.Namespace, console: Console) -> None:
    from bitat_tf.experiment import Run

    folder, *others = arguments.paths
    opened = Run.open(folder, overrides=data_dir_overrides(arguments.data_dir), console=console)
    if others:
        table = Table("model", "test accuracy")
        for name, path in short_names(others).items():
            if path.suffix == ".tflite":
                model = runtime.Runner(read_flatbuffer(path))
            else:
                model = load_keras_model(path)
            table.add_row(name, f"{opened.accuracy(model):.2%}")
        Console().print(table)
        return
    opened.score()
    print_scores(opened)
    opened.report()


def _evaluate_flatbuffers(arguments: argparse.Namespace) -> None:
    table = Table("model", "test accuracy")
    used = []
    for name, path in short_names(arguments.paths).items():
        content = read_flatbuffer(path)
        known = convert.embedded(content) or Metadata(bitat_version="")
        preprocessing = _preprocessing(path, known, arguments)
        if not (arguments.dataset or known.dataset):
            raise ValueError(f"{path} names no data set. Give one with --dataset.")
        runner = runtime.Runner(content)
        images = _load(known, preprocessing, arguments)
        _check_fits(path, runner, known, images)
        table.add_row(name, f"{scoring.accuracy(images, runner):.2%}")
        used.append(_what_was_used(name, runner, known, preprocessing, images))
    Console().print(table)
    for line in used:
        print(line)


def _preprocessing(path: Path, known: Metadata, arguments: argparse.Namespace) -> Preprocessing:
    """What the flatbuffer says, or the arguments where it says nothing."""
    given = (arguments.mean, arguments.std)
    if known.preprocessing is not None:
        if given != (None, None):
            raise ValueError(
                f"{path} carries its mean and std: leave --mean and --std out. With others it "
                "would not be the model that was trained."
            )
        return known.preprocessing
    if None in given:
        raise ValueError(
            f"{path} does not say how its images are preprocessed. Give --dataset, --mean and "
            "--std, or evaluate it on a run's data: bitat evaluate RUN FLATBUFFER."
        )
    mean, std = (_numbers(name, getattr(arguments, name)) for name in ("mean", "std"))
    return Preprocessing(mean, std, _PIXELS)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as err:
        raise ValueError(
            f"--{option} must be numbers separated by commas. Received: {text!r}"
        ) from err


def _load(
    known: Metadata, preprocessing: Preprocessing, arguments: argparse.Namespace
) -> data.ImageData:
    """The data set, standardised as the flatbuffer's images were."""
    same_set = arguments.dataset in (None, known.dataset)
    trained_on = dict(known.recipe.get("data", {})) if known.recipe and same_set else {}
    config = dataclasses.replace(
        from_mapping(DataConfig, trained_on),
        dataset=arguments.dataset or known.dataset,
        data_dir=arguments.data_dir,
        image_size=preprocessing.image_size,
        center_share=preprocessing.center_share,
    )
    return data.load(config, seed=0, standardisation=(preprocessing.mean, preprocessing.std))


def _check_fits(
    path: Path, runner: runtime.Runner, known: Metadata, images: data.ImageData
) -> None:
    scoring.check_fits(images, runner, str(path))
    pairs = zip(known.labels, images.class_names, strict=False)  # no labels: nothing to compare
    for index, (mine, theirs) in enumerate(pairs):
        if mine != theirs:
            raise ValueError(
                f"{path} has other labels than the data set {images.name!r}: its class {index} "
                f"is {mine!r} and not {theirs!r}."
            )


def _what_was_used(
    name: str,
    runner: runtime.Runner,
    known: Metadata,
    preprocessing: Preprocessing,
    images: data.ImageData,
) -> str:
    parts = [
        f"{name}: {images.test_images} test images of {images.name!r}",
        f"(pixel - mean) / std with mean {_list(preprocessing.mean)}, "
        f"std {_list(preprocessing.std)}",
    ]
    if preprocessing.image_size:
        parts.append(
            f"resized to {preprocessing.image_size} of {preprocessing.center_share:.3f} of the "
            "shorter side"
        )
    if runner.input_type == "INT8":
        parts.append("rounded to int8 by the input's own scale")
    parts.append(f"{len(known.labels)} labels compared" if known.labels else "no labels to compare")
    if known.keras_accuracy is not None:
        parts.append(f"Keras had {known.keras_accuracy.share:.2%} at conversion")
    return "; ".join(parts)


def _list(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.4g}" for number in numbers)
