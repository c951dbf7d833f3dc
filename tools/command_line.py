"""What the tools' command lines share: their options, their errors, how a page shows one."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bitat_tf import train
from bitat_tf.config import Recipe
from bitat_tf.recipe_files import load_recipe


def shown_command(tool: str, given: Sequence[str], data_dir: str | None) -> str:
    """The command line, with DIR for where the data lie on this machine.

    Without what changes nothing in the outcome: where things are written, and how loudly.
    """
    shown: list[str] = []
    words = iter(given)
    for word in words:
        if word in ("--work", "--out"):
            next(words, None)
        elif word != "--quiet" and not word.startswith(("--work=", "--out=")):
            shown.append(word.replace(data_dir, "DIR") if data_dir else word)
    return f"python tools/{tool} {shlex.join(shown)}".strip()


def arguments_parser(description: str) -> argparse.ArgumentParser:
    """What the command lines of all such tools have in common."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--recipe", default="cifar10-nano", help="base recipe, name or path")
    parser.add_argument("--dataset", help="TFDS name, or path of a prepared TFDS directory")
    parser.add_argument("--data-dir", help="where TFDS finds its prepared data sets")
    parser.add_argument("--steps", type=int, help="optimizer steps of every student")
    parser.add_argument(
        "--distill", type=float, metavar="WEIGHT", help="teacher's share of every loss, 0 to 1"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--work", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def carried_out(tool: str, arguments: argparse.Namespace, work: Callable[[Recipe], Path]) -> int:
    """Do a tool's work and print its table; the exit status.

    Args:
        tool: its name, for errors.
        arguments: of `arguments_parser`.
        work: from the recipe that the arguments describe to the table that was written.
    """
    settings = {
        "data.dataset": arguments.dataset,
        "data.data_dir": arguments.data_dir,
        "student.steps": arguments.steps,
        "student.distill_weight": arguments.distill,
    }
    overrides = [f"{key}={value}" for key, value in settings.items() if value is not None]
    try:
        table = work(load_recipe(arguments.recipe, [*overrides, *arguments.set]))
    except (ValueError, OSError) as err:
        print(f"{tool}: {' '.join(str(err).split())}", file=sys.stderr)
        return 2
    except train.TrainingError as err:
        print(f"{tool}: {err}", file=sys.stderr)
        return 1
    print(table.read_text(encoding="utf-8"))
    print(f"Written to {table}")
    return 0
