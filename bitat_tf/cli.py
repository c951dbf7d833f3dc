"""The `bitat` command: arguments in, functions called, one clear line on failure.

Exit status: 0 done; 1 it failed (a conversion that is not what was trained, a diverged
training, a full disk); 2 it was asked for something that cannot be (unknown data set, damaged
file); 130 stopped by Ctrl-C; 143 stopped by SIGTERM, a training's state kept.
"""

import argparse
import errno
import json
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from bitat_tf import (
    benchmark_command,
    convert_command,
    evaluate_command,
    inspect_command,
    termination,
)
from bitat_tf._version import __version__
from bitat_tf.config import Recipe, Strategy
from bitat_tf.evaluate_command import print_scores
from bitat_tf.recipe_files import data_dir_overrides, load_recipe, recipe_names

_EXAMPLES = {
    "demo": "bitat demo --out runs/demo\n  bitat demo --out runs/demo --resume",
    "train": "bitat train cifar10-nano --data-dir ~/tensorflow_datasets\n"
    "  bitat train my-recipe.yaml --set student.steps=400 --seed 1 --out runs/short\n"
    "  bitat train my-recipe.yaml --set student.steps=400 --seed 1 --out runs/short --resume",
    "calibrate": "bitat calibrate runs/cifar10-nano --set calibration.batches=16 --out runs/cal16",
    "evaluate": evaluate_command.EXAMPLES,
    "inspect": inspect_command.EXAMPLES,
    "convert": convert_command.EXAMPLES,
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
    arguments = build_parser().parse_args(argv)
    console = Console(stderr=True)
    try:
        arguments.run(arguments, console)
    except KeyboardInterrupt:
        print("bitat: stopped", file=sys.stderr)
        return 130
    except termination.Terminated as stop:
        print(f"bitat: {stop}", file=sys.stderr)
        return termination.EXIT_STATUS
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


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line, a subparser for every command."""
    parser = argparse.ArgumentParser(
        prog="bitat",
        description="Turn compact Keras models into 1-bit networks for phones.",
        epilog="`bitat COMMAND --help` shows examples.",
    )
    parser.add_argument("--version", action="version", version=f"bitat_tf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = _command(commands, "demo", "the whole way on scikit-learn's digits, in minutes", _demo)
    _resume(_output(demo, "runs/demo"))
    _recipe_options(demo)
    _tensorboard(demo)

    train = _command(commands, "train", "train a recipe: teacher, calibration, student", _train)
    train.add_argument("recipe", help=f"name ({', '.join(recipe_names())}) or path of a YAML file")
    _resume(_output(train, "runs/RECIPE"))
    _recipe_options(train)
    train.add_argument(
        "--strategy",
        choices=get_args(Strategy),
        help="on what to train: one device, all of this machine's, the machines of TF_CONFIG, or "
        "a TPU (default: the recipe's scale.strategy)",
    )
    _tensorboard(train)

    calibrate = _command(
        commands,
        "calibrate",
        "binarize a run's teacher without training",
        _calibrate,
    )
    calibrate.add_argument("directory", type=Path, help="run directory with a teacher")
    _output(calibrate, "DIRECTORY-calibrated")
    _recipe_options(calibrate)

    evaluate = _command(commands, "evaluate", "accuracy on the test split", evaluate_command.run)
    evaluate_command.add_arguments(evaluate)
    _data_dir(evaluate)

    inspect = _command(
        commands,
        "inspect",
        "what a model consists of; of a float one, what would become binary, and what not and why",
        inspect_command.run,
    )
    inspect_command.add_arguments(inspect)

    convert = _command(
        commands, "convert", "convert to a TFLite flatbuffer, audit it", convert_command.run
    )
    convert_command.add_arguments(convert)
    _data_dir(convert)

    benchmark = _command(
        commands, "benchmark", "latency on this host, or on a phone", benchmark_command.run
    )
    benchmark_command.add_arguments(benchmark)

    report = _command(
        commands, "report", "write a run's report, also while it runs, or compare several", _report
    )
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


def _output(parser: argparse.ArgumentParser, default: str) -> Any:
    """Where to write, and a group of options of what to do with a run that is there."""
    parser.add_argument("--out", type=Path, help=f"run directory to write (default: {default})")
    there = parser.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="replace a run that is there")
    return there


def _resume(there: Any) -> None:
    there.add_argument(
        "--resume",
        action="store_true",
        help="go on with a run that is there and was interrupted; without one, start it",
    )


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


def _tensorboard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tensorboard",
        action=argparse.BooleanOptionalAction,
        help="write event files for TensorBoard to RUN/logs, or none (default: as the recipe says)",
    )


def _overrides(arguments: argparse.Namespace) -> list[str]:
    settings = [*getattr(arguments, "set", []), *data_dir_overrides(arguments.data_dir)]
    if getattr(arguments, "seed", None) is not None:
        settings.append(f"seed={arguments.seed}")
    if getattr(arguments, "strategy", None) is not None:
        settings.append(f"scale.strategy={arguments.strategy}")
    if getattr(arguments, "tensorboard", None) is not None:
        settings.append(f"log.tensorboard={str(arguments.tensorboard).lower()}")
    return settings


def _demo(arguments: argparse.Namespace, console: Console) -> None:
    from bitat_tf import phases

    recipe = load_recipe("digits-demo", _overrides(arguments))
    out = arguments.out or Path("runs/demo")
    _carry_out(recipe, out, phases.DEMO, arguments, console)


def _train(arguments: argparse.Namespace, console: Console) -> None:
    from bitat_tf import phases

    recipe = load_recipe(arguments.recipe, _overrides(arguments))
    out = arguments.out or Path("runs") / recipe.name
    _carry_out(recipe, out, phases.TRAIN, arguments, console)


def _command_line() -> str:
    return shlex.join(["bitat", *sys.argv[1:]])


def _carry_out(
    recipe: Recipe,
    out: Path,
    wanted: Sequence[Any],
    arguments: argparse.Namespace,
    console: Console,
) -> None:
    """Make a run in `out`, or go on with the one there, and show how it ended."""
    from bitat_tf import phases, scale
    from bitat_tf.experiment import Run

    def start(folder: Path, resume: bool) -> Run:
        options: dict[str, Any] = {"console": console, "command": _command_line()}
        if resume:
            return Run.resume(folder, recipe, **options)
        return Run.create(folder, recipe, overwrite=arguments.overwrite, **options)

    strategy = scale.strategy_of(recipe)
    with (
        termination.obeyed(),
        scale.begun(strategy, out, start, resume=arguments.resume) as run,
    ):
        if not phases.carry_out(run, wanted) and run.chief:
            print(f"{out} is finished: nothing is left to resume.")
        if run.chief:
            print_scores(run)
            print(f"Report: {out / 'report.md'}")


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
    print_scores(run)
    print(f"Report: {run.report()}")


def _report(arguments: argparse.Namespace, console: Console) -> None:
    from bitat_tf import report, report_command
    from bitat_tf.experiment import Run

    folders = arguments.directories
    if arguments.schema:
        _print_schema(folders)
        return
    if not folders:
        raise UsageError("Give one run directory or several, or --schema.")
    if len(folders) == 1 and arguments.out is None:
        report_command.show(Run.open(folders[0], console=console))
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
