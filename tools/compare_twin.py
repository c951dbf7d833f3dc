"""A binary net against its float twin trained for as long.

    python tools/compare_twin.py --recipe cifar10-headline --data-dir DIR --seeds 0 1 2 \\
        [--out docs/results]

For each seed the recipe is carried out: a float teacher, calibration, training. Then the same
float net is trained anew, for as many epochs as fit into the time of all that together. The gap
between the two is what one bit costs a user who has that much time. Every finished training is
one record in OUT/records (`experiments.py`): kill the tool, start the same command again, and it
does what is left. The machine should have nothing else to do: times decide the epochs.

Cost: twice the recipe's.
"""

import dataclasses
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from command_line import arguments_parser, carried_out, shown_command
from experiments import (
    TEACHER,
    Experiments,
    Record,
    Variant,
    about,
    one_shot,
    percent,
)
from figures import accuracy_axes, write_figure
from matplotlib.figure import Figure

from bitat_tf._keras import tf
from bitat_tf.config import Recipe
from bitat_tf.files import write_text


@dataclass(frozen=True)
class Pair:
    """One seed's records.

    Attributes:
        teacher: of the recipe.
        student: binary.
        twin: float, trained for as long as the two took.
    """

    teacher: Record
    student: Record
    twin: Record

    @property
    def seconds(self) -> float:
        """What the binary net took in all."""
        return self.teacher.seconds + self.student.seconds

    @property
    def gap(self) -> float:
        """Test accuracy that the binary net lacks."""
        return self.twin.test_accuracy - self.student.test_accuracy


def epochs_in(seconds: float, teacher: Record) -> int:
    """Epochs of the float net that take so long, at the pace of a teacher's record."""
    per_epoch = teacher.seconds / teacher.recipe["teacher"]["epochs"]
    return max(1, round(seconds / per_epoch))


def compare(experiments: Experiments, seeds: Sequence[int]) -> list[Pair]:
    """Carry out what has no record yet, seed by seed."""
    recipe, pairs = experiments.recipe, []
    for seed in seeds:
        teacher = experiments.record(Variant(TEACHER), seed)
        student = experiments.record(Variant("binary"), seed)
        epochs = epochs_in(teacher.seconds + student.seconds, teacher)
        longer = dataclasses.replace(recipe.teacher, epochs=epochs)
        twins = experiments.of_float_nets(dataclasses.replace(recipe, teacher=longer))
        pairs.append(Pair(teacher, student, twins.record(Variant(TEACHER), seed)))
    return pairs


def markdown(pairs: Sequence[Pair], command: str, recipe: Recipe, figure: str) -> str:
    """The table, with the command that makes it, and its figure by name."""
    gaps = [pair.gap for pair in pairs]
    student = recipe.student
    nets = {
        f"float, {recipe.teacher.epochs} epochs: the teacher": [p.teacher for p in pairs],
        f"**binary**, calibrated and trained {student.steps:,} steps": [p.student for p in pairs],
        f"float, {_epochs(pairs)} epochs: as long as both": [p.twin for p in pairs],
    }
    rows = ["| net | test accuracy % | validation % | minutes |", "| --- | --- | --- | --- |"]
    for name, records in nets.items():
        test = percent([r.test_accuracy for r in records])
        validation = percent([r.validation_accuracy for r in records])
        minutes = statistics.mean(r.seconds for r in records) / 60
        rows.append(f"| {name} | {test} | {validation} | {minutes:.0f} |")
    arguments = ", ".join(f"{k} = {v}" for k, v in recipe.model.arguments.items())
    records = [record for pair in pairs for record in (pair.teacher, pair.student, pair.twin)]
    return "\n".join(
        [
            f"# What one bit costs on {Path(recipe.data.dataset).name}",
            "",
            f"Recipe {recipe.name}, backbone {recipe.model.name}"
            f"{f' ({arguments})' if arguments else ''}. The binary net's time is its own and its "
            f"teacher's, {statistics.mean(p.seconds for p in pairs) / 60:.0f} minutes in all; the "
            "float twin, the same layers with ordinary convolutions, trains for that long alone. "
            f"{about(records)}",
            "",
            *rows,
            "",
            f"The binary net lacks {percent(gaps)} points.",
            "",
            *one_shot(records),
            f"![Validation accuracy over the time spent]({figure})",
            "",
            "```",
            command,
            "```",
            "",
        ]
    )


def draw(pairs: Sequence[Pair]) -> Figure:
    """Validation accuracy over the time spent: a line for every training.

    BatchNorm statistics are the training's moving averages here, and are recomputed only for the
    table.
    """
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    axes = figure.subplots()
    for index, pair in enumerate(pairs):
        lines = {
            "float, the teacher": (pair.teacher, 0.0, "#E69F00"),
            "binary, taught by it": (pair.student, pair.teacher.seconds, "#0072B2"),
            "float, as long as both": (pair.twin, 0.0, "#8C8C8C"),
        }
        for name, (record, start, color) in lines.items():
            minutes, accuracies = _over_time(record, start)
            label = None if index else name
            axes.plot(minutes, accuracies, label=label, color=color, linewidth=1.2)
    accuracy_axes(axes, "minutes", "validation accuracy (a line for each seed)")
    axes.legend(loc="lower right", frameon=False)
    return figure


def _over_time(record: Record, start: float) -> tuple[list[float], list[float]]:
    """Minutes and validation accuracies of a training's points; `start` in seconds.

    Every step of a training counts for as long as another.
    """
    measured = [p for p in record.curve if p.validation_accuracy is not None]
    minutes = [(start + record.seconds * p.step / record.curve[-1].step) / 60 for p in measured]
    return minutes, [p.validation_accuracy or 0.0 for p in measured]


def _epochs(pairs: Sequence[Pair]) -> str:
    counts = sorted({pair.twin.recipe["teacher"]["epochs"] for pair in pairs})
    return " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out, write, print."""
    parser = arguments_parser("A binary net against its float twin trained for as long.")
    parser.set_defaults(recipe="cifar10-headline")
    arguments = parser.parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    command = shown_command("compare_twin.py", given, arguments.data_dir)

    def work(recipe: Recipe) -> Path:
        name = f"twin-{recipe.name}"
        experiments = Experiments.from_arguments(recipe, name, arguments)
        pairs = compare(experiments, list(dict.fromkeys(arguments.seeds)))
        write_figure(draw(pairs), arguments.out / f"{name}.png", command)
        table = arguments.out / f"{name}.md"
        write_text(table, markdown(pairs, command, recipe, f"{name}.png"))
        return table

    return carried_out("compare_twin", arguments, work)


if __name__ == "__main__":
    # Every training has functions of its own, which TensorFlow takes for needless retracing.
    tf.get_logger().setLevel("ERROR")
    sys.exit(main())
