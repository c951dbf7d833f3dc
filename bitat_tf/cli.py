"""The `bitat` command: arguments in, functions called, one clear line on failure.

Exit status: 0 done; 1 it failed (a conversion that is not what was trained, a diverged
training, a full disk); 2 it was asked for something that cannot be (unknown data set, damaged
file); 130 stopped by Ctrl-C.
"""

import argparse
import errno
import json
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bitat_tf import benchmark_command
from bitat_tf._version import __version__
from bitat_tf.config import load_recipe, recipe_names

_EXAMPLES = {
    "demo": "bitat demo --out runs/demo",
    "train": "bitat train cifar10-nano --data-dir ~/tensorflow_datasets\n"
    "  bitat train my-recipe.yaml --set student.steps=400 --seed 1 --out runs/short",
    "calibrate": "bitat calibrate runs/cifar10-nano --set calibration.batches=16 --out runs/cal16",
    "evaluate": "bitat evaluate runs/cifar10-nano\n  bitat evaluate runs/cifar10-nano other.tflite",
    "inspect": "bitat inspect runs/cifar10-nano/model.tflite\n"
    "  bitat inspect runs/cifar10-nano/student.keras\n"
    "  bitat inspect my-float-model.keras --json",
    "convert": "bitat convert runs/cifar10-nano --ends int8\n"
    "  bitat convert student.keras --out model.tflite --images test.npy --report",
    "benchmark": benchmark_command.EXAMPLES,
    "report": "bitat report runs/cifar10-nano\n"
    "  bitat report runs/a runs/b --out runs/comparison\n"
    "  bitat report --schema",
}


# Errors of the operating system that say: another path, please. The rest are failures.
_WRONG_PATH = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENAMETOOLONG,
}


class UsageError(ValueError):
    """What was asked for cannot be done as asked."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    console = Console(stderr=True)
    try:
        arguments.run(arguments, console)
    except KeyboardInterrupt:
        print("bitat: stopped", file=sys.stderr)
        return 130
    except Exception as err:  # the one place where errors become exit statuses
        if arguments.verbose:
            traceback.print_exc()
        print(f"bitat: {_one_line(err)}", file=sys.stderr)
        return _exit_status(err)
    return 0


def _exit_status(err: Exception) -> int:
    from bitat_tf.convert import ConversionError

    if isinstance(err, ConversionError):
        return 1
    if isinstance(err, OSError):
        return 2 if err.errno in _WRONG_PATH else 1
    return 2 if isinstance(err, ValueError) else 1


def _one_line(err: Exception) -> str:
    text = " ".join(str(err).split())
    if isinstance(err, OSError) and err.strerror:
        return f"{err.strerror}: {err.filename}"
    if isinstance(err, ValueError | RuntimeError | FloatingPointError | OSError) and text:
        return text
    return f"{type(err).__name__}: {text} (run with --verbose for the details)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bitat",
        description="Turn compact Keras models into 1-bit networks for phones.",
        epilog="`bitat COMMAND --help` shows examples.",
    )
    parser.add_argument("--version", action="version", version=f"bitat_tf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = _command(commands, "demo", "the whole way on scikit-learn's digits, in minutes", _demo)
    _output(demo, "runs/demo")
    _recipe_options(demo)

    train = _command(commands, "train", "train a recipe: teacher, calibration, student", _train)
    train.add_argument("recipe", help=f"name ({', '.join(recipe_names())}) or path of a YAML file")
    _output(train, "runs/RECIPE")
    _recipe_options(train)

    calibrate = _command(
        commands,
        "calibrate",
        "binarize a run's teacher without training",
        _calibrate,
    )
    calibrate.add_argument("directory", type=Path, help="run directory with a teacher")
    _output(calibrate, "DIRECTORY-calibrated")
    _recipe_options(calibrate)

    evaluate = _command(commands, "evaluate", "accuracy on the test split", _evaluate)
    evaluate.add_argument("directory", type=Path, help="run directory")
    evaluate.add_argument(
        "models", type=Path, nargs="*", help="other .tflite or .keras files to evaluate on its data"
    )
    _data_dir(evaluate)

    inspect = _command(
        commands,
        "inspect",
        "what a model consists of; of a float one, what would become binary, and what not and why",
        _inspect,
    )
    inspect.add_argument("model", type=Path, help=".tflite, .keras, SavedModel or run directory")
    inspect.add_argument("--json", action="store_true", help="print the record as JSON")

    convert = _command(commands, "convert", "convert to a TFLite flatbuffer, audit it", _convert)
    convert.add_argument("model", type=Path, help="run directory, .keras file or SavedModel")
    convert.add_argument("--out", type=Path, help="the .tflite to write, of a model outside a run")
    convert.add_argument(
        "--ends", choices=("float32", "int8"), default="float32", help="type of stem and classifier"
    )
    convert.add_argument(
        "--io", choices=("float32", "int8"), default="float32", help="type of input and output"
    )
    convert.add_argument("--no-fold", action="store_true", help="convert the network as trained")
    convert.add_argument(
        "--parity-images", type=int, metavar="N", help="images compared with Keras; 0 is all"
    )
    convert.add_argument(
        "--images",
        type=Path,
        metavar="NPY",
        help="images, preprocessed as in training, for parity and int8 ranges of a model "
        "outside a run",
    )
    convert.add_argument(
        "--report", action="store_true", help="write what changed to a .md beside the flatbuffer"
    )
    _data_dir(convert)

    benchmark = _command(
        commands, "benchmark", "latency on this host, or on a phone", benchmark_command.run
    )
    benchmark_command.add_arguments(benchmark)

    report = _command(commands, "report", "write a run's report, or compare several", _report)
    report.add_argument(
        "directories", type=Path, nargs="*", metavar="RUN", help="run directory; several are merged"
    )
    report.add_argument(
        "--out",
        type=Path,
        help="directory for several runs' comparison (default: runs/comparison)",
    )
    report.add_argument(
        "--schema", action="store_true", help="print the JSON schema of report.json instead"
    )
    return parser


def _command(commands: Any, name: str, help_text: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_text,
        description=help_text[0].upper() + help_text[1:] + ".",
        epilog="examples:\n  " + _EXAMPLES[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--verbose", action="store_true", help="show a traceback on failure")
    parser.set_defaults(run=run)
    return parser


def _output(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--out", type=Path, help=f"run directory to write (default: {default})")
    parser.add_argument("--overwrite", action="store_true", help="replace a run that is there")


def _data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", help="where TFDS finds its prepared data sets")


def _recipe_options(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    parser.add_argument("--seed", type=int, help="seed of everything random")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the recipe, e.g. student.steps=100; may be repeated",
    )


def _overrides(arguments: argparse.Namespace) -> list[str]:
    settings = list(getattr(arguments, "set", []))
    if arguments.data_dir is not None:
        settings.append(f"data.data_dir={json.dumps(arguments.data_dir)}")  # JSON is YAML
    if getattr(arguments, "seed", None) is not None:
        settings.append(f"seed={arguments.seed}")
    return settings


def _demo(arguments: argparse.Namespace, console: Console) -> None:
    recipe = load_recipe("digits-demo", _overrides(arguments))
    run = _carry_out(recipe, arguments.out or Path("runs/demo"), arguments.overwrite, console)
    run.convert()
    run.score()
    run.benchmark()
    _print_scores(run)
    print(f"Report: {run.report()}")


def _train(arguments: argparse.Namespace, console: Console) -> None:
    recipe = load_recipe(arguments.recipe, _overrides(arguments))
    out = arguments.out or Path("runs") / recipe.name
    run = _carry_out(recipe, out, arguments.overwrite, console)
    run.score()
    _print_scores(run)
    print(f"Report: {run.report()}")


def _command_line() -> str:
    return shlex.join(["bitat", *sys.argv[1:]])


def _carry_out(recipe: Any, out: Path, overwrite: bool, console: Console) -> Any:
    from bitat_tf.experiment import Run

    run = Run.create(out, recipe, overwrite=overwrite, console=console, command=_command_line())
    teacher = run.train_teacher()
    student = run.start_student(teacher)
    run.train_student(student, teacher)
    return run


def _calibrate(arguments: argparse.Namespace, console: Console) -> None:
    from bitat_tf.experiment import Run

    source = Run.open(arguments.directory, overrides=_overrides(arguments), console=console)
    teacher = source.load_model("teacher")
    out = arguments.out or arguments.directory.with_name(arguments.directory.name + "-calibrated")
    if out.resolve() == arguments.directory.resolve():
        raise UsageError("--out must be another directory than the run that is calibrated.")
    run = Run.create(
        out,
        source.recipe,
        overwrite=arguments.overwrite,
        console=console,
        command=_command_line(),
    )
    run.adopt_teacher(teacher, source.result.teacher_curve)
    run.calibrate(teacher)
    run.score()
    _print_scores(run)
    print(f"Report: {run.report()}")


def _evaluate(arguments: argparse.Namespace, console: Console) -> None:
    from bitat_tf import runtime
    from bitat_tf.experiment import Run
    from bitat_tf.loading import load_keras_model, read_flatbuffer, short_names

    run = Run.open(arguments.directory, overrides=_overrides(arguments), console=console)
    if arguments.models:
        table = Table("model", "test accuracy")
        for name, path in short_names(arguments.models).items():
            if path.suffix == ".tflite":
                model = runtime.Runner(read_flatbuffer(path))
            else:
                model = load_keras_model(path)
            table.add_row(name, f"{run.accuracy(model):.2%}")
        Console().print(table)
        return
    run.score()
    _print_scores(run)
    run.report()


def _print_scores(run: Any) -> None:
    table = Table("model", "test accuracy", "flatbuffer", title=run.recipe.name)
    for score in run.result.scores:
        size = "" if score.size_bytes is None else f"{score.size_bytes / 1024:.0f} KiB"
        table.add_row(score.model, f"{score.test_accuracy:.2%}", size)
    Console().print(table)


def _inspect(arguments: argparse.Namespace, console: Console) -> None:
    from bitat_tf import convert
    from bitat_tf.loading import load_keras_model, read_flatbuffer

    path = arguments.model
    if path.is_dir() and not _is_saved_model(path):
        path = path / "model.tflite" if (path / "model.tflite").exists() else path / "student.keras"
    if path.suffix == ".tflite":
        audit = convert.audit(read_flatbuffer(path))
    else:
        model = load_keras_model(path)
        if not convert.binary_kernels(model):
            _inspect_float(model, arguments.json)
            return
        audit = convert.audit(convert.export(model))
    if arguments.json:
        from bitat_tf.records import to_json

        print(to_json(audit), end="")
        return
    table = Table("op", "type", "output", "1 bit", "MACs", "bytes", title=str(path))
    for op in audit.ops:
        shape = " x ".join(map(str, op.output_shape))
        macs = f"{op.macs:,}" if op.macs else ""
        table.add_row(
            str(op.index), op.type, shape, "yes" if op.binary else "", macs, f"{op.size_bytes:,}"
        )
    Console().print(table)
    print(
        f"{audit.binary_convolutions} binary convolutions ({audit.binary_macs:,} 1-bit MACs), "
        f"{audit.float_convolutions} float ones; {audit.float_macs:,} float MACs in all; "
        f"{audit.size_bytes / 1024:.1f} KiB"
    )


def _inspect_float(model: Any, as_json: bool) -> None:
    from bitat_tf.binarize import binarize
    from bitat_tf.binarize.table import summary, table, to_mapping
    from bitat_tf.records import to_json

    _, report = binarize(model)
    if as_json:
        print(to_json(to_mapping(report)), end="")
        return
    Console().print(table(report))
    print(summary(report))


def _is_saved_model(path: Path) -> bool:
    return (path / "saved_model.pb").is_file()


def _convert(arguments: argparse.Namespace, console: Console) -> None:
    if not arguments.model.is_dir() or _is_saved_model(arguments.model):
        _convert_file(arguments)
    else:
        _convert_run(arguments, console)


def _convert_file(arguments: argparse.Namespace) -> None:
    from bitat_tf import convert
    from bitat_tf.files import check_target, write_bytes
    from bitat_tf.loading import load_keras_model, read_images

    out = arguments.out or arguments.model.with_suffix(".tflite")
    check_target(out)
    int8 = arguments.ends == "int8"
    if arguments.images is None and (int8 or arguments.parity_images is not None):
        raise UsageError(
            "--ends int8 and --parity-images need images: give --images, or a run directory."
        )
    images = None if arguments.images is None else read_images(arguments.images)
    model = load_keras_model(arguments.model)
    options = _conversion_options(arguments)
    made = convert.convert_model(model, **options, calibration_images=images if int8 else None)
    parity = None
    if images is not None:
        parity = convert.check_parity(
            made.model if int8 else model,
            made.flatbuffer,
            images[: arguments.parity_images or None],
            **({"min_agreement": convert.MIN_AGREEMENT_INT8} if int8 else {}),
        )
        if not parity.passed:
            raise convert.ConversionError(
                f"The flatbuffer agrees with Keras on {parity.agreement:.2%} of "
                f"{parity.images} images. No flatbuffer was written."
            )
    write_bytes(out, made.flatbuffer)
    _show_conversion(arguments, out, model, made, parity)


def _convert_run(arguments: argparse.Namespace, console: Console) -> None:
    from bitat_tf.experiment import Run

    for option in ("out", "images"):
        if getattr(arguments, option) is not None:
            raise UsageError(f"--{option} goes with a model outside a run; a run has its own.")
    overrides = _overrides(arguments)
    if arguments.parity_images is not None:
        overrides.append(f"convert.parity_images={arguments.parity_images}")
    run = Run.open(arguments.model, overrides=overrides, console=console)
    made, parity = run.convert(**_conversion_options(arguments))
    run.score()
    run.report()
    path = run.folder / "model.tflite"
    _show_conversion(arguments, path, run.load_model("student"), made, parity)


def _conversion_options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"fold": not arguments.no_fold, "ends": arguments.ends, "io": arguments.io}


def _show_conversion(
    arguments: argparse.Namespace, path: Path, model: Any, made: Any, parity: Any
) -> None:
    """The table before and after, and one line; with --report the Markdown as well."""
    from bitat_tf import convert, report
    from bitat_tf.files import write_text

    after = made.audit
    before = convert.convert_model(model, fold=False).audit
    table = Table(*report.HEADER, title=path.name)
    for row in report.conversion_rows(before, after):
        table.add_row(*row)
    Console().print(table)
    agreement = "parity not checked (no images at hand)"
    if parity is not None:
        agreement = f"agrees with Keras on {parity.agreement:.2%} of {parity.images} images"
    print(
        f"{path}: {after.size_bytes / 1024:.0f} KiB, {after.binary_convolutions} binary and "
        f"{after.float_convolutions} float convolutions; {agreement}"
    )
    if arguments.report:
        target = path.with_suffix(".conversion.md")
        text = report.render_conversion(path.name, before, after, made.steps, parity)
        write_text(target, text)
        print(f"Report: {target}")


def _report(arguments: argparse.Namespace, console: Console) -> None:
    from bitat_tf import report
    from bitat_tf.experiment import Run

    folders = arguments.directories
    if arguments.schema:
        _print_schema(folders)
        return
    if not folders:
        raise UsageError("Give one run directory or several, or --schema.")
    if len(folders) == 1 and arguments.out is None:
        print(f"Report: {Run.open(folders[0], console=console).report()}")
        return
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):  # then whole paths tell them apart
        names = [str(folder) for folder in folders]
    results = {
        name: Run.open(folder, console=console).result
        for name, folder in zip(names, folders, strict=True)
    }
    if len(results) < len(folders):
        raise UsageError("Give each run directory once.")
    out = arguments.out or Path("runs/comparison")
    out.mkdir(parents=True, exist_ok=True)
    print(f"Report: {report.write_comparison(results, out)}")


def _print_schema(folders: Sequence[Path]) -> None:
    from bitat_tf.record_schema import json_schema
    from bitat_tf.results import RunResult

    if folders:
        raise UsageError("--schema takes no run directory.")
    print(json.dumps(json_schema(RunResult), indent=2))


if __name__ == "__main__":
    sys.exit(main())
