"""Training methods against each other: same float weights, data, steps and optimizer.

    python tools/compare_methods.py --dataset cifar10 --data-dir DIR --seeds 0 1 2 \\
        [--methods bitat ste ...] [--steps 1600] [--distill 0.5] [--out docs/results]

For each seed one float teacher is trained, and from its weights one student by each method.
Every finished training is one record in the work directory: kill the tool, start the same
command again, and it does what is left. Then a table (mean and spread over the seeds of test
and validation accuracy) and a figure are written to the output directory.

Cost with `cifar10-nano`: per seed the teacher, and per method one training of the recipe's
`student.steps`; see the table's own column.
"""

import argparse
import dataclasses
import shlex
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from rich.console import Console

from bitat_tf import data, machine, train
from bitat_tf._keras import keras, tf
from bitat_tf.config import Recipe, load_recipe
from bitat_tf.experiment import Run
from bitat_tf.files import atomic_path, write_text
from bitat_tf.records import from_json, to_json, to_mapping

TEACHER = "float"

# What a record was made with may lie elsewhere, and says nothing about its figures.
_IRRELEVANT = ("data_dir",)


@dataclasses.dataclass(frozen=True)
class Record:
    """One finished training.

    Attributes:
        method: name of the method; `"float"` for the teacher.
        seed: of everything random in it.
        recipe: the resolved recipe.
        machine: what it ran on.
        test_accuracy, validation_accuracy: in [0, 1], BatchNorm recomputed.
        seconds: wall time of training, with the calibration where there is one.
    """

    method: str
    seed: int
    recipe: dict[str, Any]
    machine: str
    test_accuracy: float
    validation_accuracy: float
    seconds: float


class Comparison:
    """Methods x seeds in one work directory.

    Args:
        work: holds `records/` (one JSON per finished training) and `runs/` (run directories).
        recipe: of all trainings; method and seed are put in.
        methods: names of methods.
        seeds: one teacher each.
        console: where progress goes; None is silent.

    Raises:
        ValueError: when the directory holds trainings of another recipe.
    """

    def __init__(
        self,
        work: Path,
        recipe: Recipe,
        methods: Sequence[str],
        seeds: Sequence[int],
        console: Console | None = None,
    ) -> None:
        self.work = work
        self.methods = tuple(dict.fromkeys(methods))
        self.seeds = tuple(dict.fromkeys(seeds))
        self.recipe = recipe
        self.console = console
        self._images: data.ImageData | None = None
        for method in self.methods:
            train.method(method)
        self.records()  # refuses another recipe's before hours of training

    def carry_out(self) -> list[Record]:
        """Do every training that has no record yet; all records, teachers first."""
        (self.work / "records").mkdir(parents=True, exist_ok=True)
        todo = [(m, s) for s in self.seeds for m in (TEACHER, *self.methods)]
        for done, (method, seed) in enumerate(todo):
            if self._read(method, seed) is None:
                self._say(f"{done + 1}/{len(todo)} {method}, seed {seed}")
                record = self._teacher(seed) if method == TEACHER else self._student(method, seed)
                write_text(self._record_path(method, seed), to_json(record))
        return self.records()

    def records(self) -> list[Record]:
        """The finished trainings among those asked for."""
        wanted = [(m, s) for m in (TEACHER, *self.methods) for s in self.seeds]
        found = [self._read(method, seed) for method, seed in wanted]
        return [record for record in found if record is not None]

    def _recipe(self, method: str, seed: int) -> Recipe:
        """The teacher's recipe is the same whatever the student does."""
        student = self.recipe.student
        if method != TEACHER:
            student = dataclasses.replace(student, method=method)  # type: ignore[arg-type]
        return dataclasses.replace(self.recipe, seed=seed, student=student)

    def _teacher(self, seed: int) -> Record:
        run = self._create(TEACHER, seed)
        teacher = run.train_teacher()
        return self._record(TEACHER, seed, run, teacher)

    def _student(self, method: str, seed: int) -> Record:
        source = Run.open(self._folder(TEACHER, seed))
        run = self._create(method, seed)
        teacher = source.load_model("teacher")
        run.adopt_teacher(teacher, source)
        student = run.train_student(run.start_student(teacher), teacher)
        return self._record(method, seed, run, student)

    def _create(self, method: str, seed: int) -> Run:
        """A run directory that starts from nothing: what lies there was not finished."""
        keras.backend.clear_session()
        folder = self._folder(method, seed)
        if folder.exists():
            shutil.rmtree(folder)
        recipe = self._recipe(method, seed)
        if self._images is None:
            self._images = data.load(recipe.data, seed=seed)
        # The parts do not depend on the seed; the orders do.
        images = dataclasses.replace(self._images, seed=seed)
        return Run.create(folder, recipe, console=self.console, images=images)

    def _record(self, method: str, seed: int, run: Run, model: Any) -> Record:
        calibration = run.result.calibration
        seconds = sum(run.result.seconds.values()) + (calibration.seconds if calibration else 0.0)
        return Record(
            method=method,
            seed=seed,
            recipe=to_mapping(run.recipe),
            machine=machine.describe(),
            test_accuracy=run.accuracy(model),
            validation_accuracy=run.accuracy(model, validation=True),
            seconds=round(seconds, 1),
        )

    def _read(self, method: str, seed: int) -> Record | None:
        path = self._record_path(method, seed)
        if not path.is_file():
            return None
        record = from_json(Record, path.read_text(encoding="utf-8"))
        wanted = to_mapping(self._recipe(method, seed))
        different = _differences(record.recipe, wanted, method)
        if different:
            raise ValueError(
                f"{path} was made with other settings ({', '.join(different)}). Choose another "
                "directory with --work, or remove it."
            )
        return record

    def _record_path(self, method: str, seed: int) -> Path:
        return self.work / "records" / f"{method}-seed{seed}.json"

    def _folder(self, method: str, seed: int) -> Path:
        return self.work / "runs" / f"{method}-seed{seed}"

    def _say(self, text: str) -> None:
        if self.console is not None:
            self.console.print(text, highlight=False, soft_wrap=True)


def _differences(made: Any, wanted: Any, method: str) -> list[str]:
    """Settings that differ and matter: not where the data lie, nor the student to a teacher."""
    sections = {"data", "model", "teacher", "seed"}
    if method != TEACHER:
        sections |= {"student", "calibration"}
    different = []
    for section in sorted(sections):
        a, b = made.get(section), wanted.get(section)
        if not isinstance(a, dict) or not isinstance(b, dict):
            different += [section] if a != b else []
            continue
        keys = sorted({*a, *b} - set(_IRRELEVANT))
        different += [f"{section}.{key}" for key in keys if a.get(key) != b.get(key)]
    return different


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation; 0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def by_method(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records of each method, best mean test accuracy first, the float net before all."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.method, []).append(record)

    def rank(item: tuple[str, list[Record]]) -> tuple[bool, float]:
        name, group = item
        return name != TEACHER, -statistics.mean(r.test_accuracy for r in group)

    return dict(sorted(groups.items(), key=rank))


def markdown(records: Sequence[Record], command: str, figure: str, recipe: Recipe) -> str:
    """The table, with the command that makes it."""
    config = recipe.student
    seeds = sorted({record.seed for record in records})
    machines = sorted({record.machine for record in records})
    several = len(seeds) > 1
    rows = [
        "| method | test accuracy % | validation % | minutes | what it does |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, group in by_method(records).items():
        test, validation = (
            _percent([getattr(r, f"{part}_accuracy") for r in group], several)
            for part in ("test", "validation")
        )
        minutes = statistics.mean(r.seconds for r in group) / 60
        cells = [name, test, validation, f"{minutes:.1f}", _meaning(name)]
        rows.append(f"| {' | '.join(_escaped(cell) for cell in cells)} |")
    distilled = (
        f"the teacher's distribution with weight {config.distill_weight:g} in the loss"
        if config.distill_weight
        else "labels alone in the loss (but for adambnn)"
    )
    spread_note = "mean +- standard deviation over the seeds" if several else "one seed"
    return "\n".join(
        [
            f"# Training methods on {Path(recipe.data.dataset).name}",
            "",
            f"Recipe {recipe.name}, backbone {recipe.model.name}. Each method starts from the same "
            f"float net's weights (one per seed) and trains {config.steps:,} steps of batch "
            f"{config.batch_size} at a learning rate of {config.learning_rate:g}, with "
            f"{distilled}; BatchNorm statistics are recomputed for all. "
            f"Seeds {', '.join(map(str, seeds))}; {spread_note}. "
            f"Ran on {'; '.join(machines)}.",
            "",
            *rows,
            "",
            f"![Test accuracy of each method]({figure})",
            "",
            "```",
            command,
            "```",
            "",
        ]
    )


def _percent(values: Sequence[float], several: bool) -> str:
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} +- {100 * spread(values):.1f}" if several else mean


def _escaped(cell: str) -> str:
    """A table's cell may say |w|."""
    return cell.replace("|", r"\|")


def _meaning(name: str) -> str:
    if name == TEACHER:
        return "The float twin that all start from."
    method = train.method(name)
    return f"{method.meaning} {method.paper}."


def draw(records: Sequence[Record]) -> Figure:
    """Test accuracy: a bar per method for the mean, a dot per seed, the float net as a line."""
    groups = by_method(records)
    teacher = groups.pop(TEACHER, [])
    figure = Figure(figsize=(8.0, 1.2 + 0.42 * len(groups)), layout="constrained")
    axes = figure.subplots()
    for row, group in enumerate(groups.values()):
        values = [record.test_accuracy for record in group]
        axes.barh(row, statistics.mean(values), color="#56B4E9", height=0.62)
        axes.plot(values, [row] * len(values), "o", color="#0072B2", markersize=4)
    if teacher:
        mean = statistics.mean(record.test_accuracy for record in teacher)
        axes.axvline(mean, color="#E69F00", linewidth=1.5, label="float")
        axes.legend(loc="lower right", frameon=False)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("test accuracy (bar: mean, dots: seeds)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def write(records: Sequence[Record], out: Path, command: str, recipe: Recipe) -> Path:
    """Write the table and the figure; returns the table's path."""
    out.mkdir(parents=True, exist_ok=True)
    suffix = "-distilled" if recipe.student.distill_weight else ""
    name = f"methods-{Path(recipe.data.dataset).name}{suffix}"
    with atomic_path(out / f"{name}.png") as temporary:
        draw(records).savefig(
            temporary, format="png", dpi=120, metadata={"Description": command, "Software": None}
        )
    write_text(out / f"{name}.md", markdown(records, command, f"{name}.png", recipe))
    return out / f"{name}.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out, write, print."""
    parser = argparse.ArgumentParser(
        description="Training methods from the same float weights at the same number of steps."
    )
    parser.add_argument("--methods", nargs="+", default=list(train.METHODS), metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--recipe", default="cifar10-nano", help="base recipe, name or path")
    parser.add_argument("--dataset", help="TFDS name, or path of a prepared TFDS directory")
    parser.add_argument("--data-dir", help="where TFDS finds its prepared data sets")
    parser.add_argument("--steps", type=int, help="optimizer steps of every student")
    parser.add_argument(
        "--distill", type=float, metavar="WEIGHT", help="teacher's share of every loss, 0 to 1"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--work", type=Path, help="default: runs/methods-DATASET")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--quiet", action="store_true", help="no progress")
    arguments = parser.parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    command = f"python tools/compare_methods.py {shlex.join(given)}".strip()
    settings = {
        "data.dataset": arguments.dataset,
        "data.data_dir": arguments.data_dir,
        "student.steps": arguments.steps,
        "student.distill_weight": arguments.distill,
    }
    overrides = [f"{key}={value}" for key, value in settings.items() if value is not None]
    try:
        recipe = load_recipe(arguments.recipe, [*overrides, *arguments.set])
        suffix = "-distilled" if recipe.student.distill_weight else ""
        default = Path("runs") / f"methods-{Path(recipe.data.dataset).name}{suffix}"
        comparison = Comparison(
            arguments.work or default,
            recipe,
            arguments.methods,
            arguments.seeds,
            None if arguments.quiet else Console(stderr=True),
        )
        records = comparison.carry_out()
        table = write(records, arguments.out, command, recipe)
    except (ValueError, OSError) as err:
        print(f"compare_methods: {' '.join(str(err).split())}", file=sys.stderr)
        return 2
    except train.TrainingError as err:
        print(f"compare_methods: {err}", file=sys.stderr)
        return 1
    print(table.read_text(encoding="utf-8"))
    print(f"Written to {table}")
    return 0


if __name__ == "__main__":
    # Every training has functions of its own, which TensorFlow takes for needless retracing.
    tf.get_logger().setLevel("ERROR")
    sys.exit(main())
