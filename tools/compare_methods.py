"""Training methods against each other: same float weights, data, steps and optimizer.

    python tools/compare_methods.py --dataset cifar10 --data-dir DIR --seeds 0 1 2 \\
        [--methods bitat ste ...] [--learning-rates 1e-3 3e-3] [--steps 1600] [--distill 0.5] \\
        [--title NAME] [--out docs/results]

For each seed one float teacher is trained, and from its weights one student by each method.
With several learning rates each method gets the one that is best for it on the validation part
of the first seed; with a single one all have that, and the table is named after it. Every
finished training is one record in OUT/records (`experiments.py`):
kill the tool, start the same command again, and it does what is left. Then a table (mean and
spread over the seeds of test and validation accuracy) and two figures are written to OUT.

Cost with `cifar10-nano`: per seed the teacher, and per method one training of the recipe's
`student.steps`; see the table's own column.
"""

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import arguments_parser, carried_out, shown_command
from experiments import (
    TEACHER,
    Experiments,
    Record,
    Variant,
    about,
    escaped,
    one_shot,
    percent,
)
from figures import accuracy_axes, write_figure
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from bitat_tf import train
from bitat_tf._keras import tf
from bitat_tf.config import Recipe
from bitat_tf.files import write_text


def variant(method: str, learning_rate: float) -> Variant:
    """A method at a learning rate."""
    settings = (f"student.method={method}", f"student.learning_rate={learning_rate!r}")
    return Variant(f"{method}-lr{learning_rate:g}", settings)


def compare(
    experiments: Experiments,
    methods: Sequence[str],
    seeds: Sequence[int],
    learning_rates: Sequence[float],
) -> tuple[list[Record], list[Record]]:
    """Train all methods, each at its best learning rate.

    Args:
        experiments: what trains.
        methods: names.
        seeds: one teacher each; the learning rates are compared on the first.
        learning_rates: to choose from by validation accuracy.

    Returns:
        The records of all seeds, teachers' first, and those of all learning rates on the first.

    Raises:
        ValueError: when there is no such method, or a record was made with other settings.
    """
    for method in methods:
        train.method(method)
    first = seeds[0]
    every = [variant(method, rate) for method in methods for rate in learning_rates]
    on_first = experiments.carry_out(every, [first])
    tried = {r.name: r for r in on_first}
    chosen = [
        max(
            (variant(method, rate) for rate in learning_rates),
            key=lambda v: tried[v.name].validation_accuracy,
        )
        for method in methods
    ]
    return experiments.carry_out(chosen, seeds), on_first


def method_of(record: Record) -> str:
    """Name of a record's method; the teacher's is `"float"`."""
    return TEACHER if record.name == TEACHER else str(record.recipe["student"]["method"])


def by_method(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records of each method, best mean test accuracy first, the float net before all."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(method_of(record), []).append(record)

    def rank(item: tuple[str, list[Record]]) -> tuple[bool, float]:
        name, group = item
        return name != TEACHER, -statistics.mean(r.test_accuracy for r in group)

    return dict(sorted(groups.items(), key=rank))


def markdown(
    records: Sequence[Record],
    tried: Sequence[Record],
    command: str,
    figures: str,
    recipe: Recipe,
    learning_rates: Sequence[float],
) -> str:
    """The table, with the command that makes it, and its figures by the name they begin with."""
    config = recipe.student
    rows = [
        "| method | test accuracy % | validation % | learning rate | minutes | what it does |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, group in by_method(records).items():
        test = percent([r.test_accuracy for r in group])
        validation = percent([r.validation_accuracy for r in group])
        section = "teacher" if name == TEACHER else "student"
        rate = f"{group[0].recipe[section]['learning_rate']:g}"
        minutes = f"{statistics.mean(r.seconds for r in group) / 60:.1f}"
        cells = [name, test, validation, rate, minutes, _meaning(name)]
        rows.append(f"| {' | '.join(escaped(cell) for cell in cells)} |")
    distilled = (
        f"the teacher's distribution with weight {config.distill_weight:g} in the loss"
        if config.distill_weight
        else "labels alone in the loss (but for adambnn)"
    )
    rates = ", ".join(f"{rate:g}" for rate in learning_rates)
    rate = (
        f"at the learning rate out of {rates} that is best for it on the validation part of the "
        "first seed"
        if len(learning_rates) > 1
        else f"at a learning rate of {rates}"
    )
    options = ", ".join(f"{k} = {v}" for k, v in recipe.model.arguments.items())
    backbone = f"{recipe.model.name} ({options})" if options else recipe.model.name
    return "\n".join(
        [
            f"# Training methods on {Path(recipe.data.dataset).name}, {backbone}",
            "",
            f"Recipe {recipe.name}, backbone {backbone}. Each method starts from the same "
            f"float net's weights (one per seed) and trains {config.steps:,} steps of batch "
            f"{config.batch_size} {rate}, with {distilled}; BatchNorm statistics are recomputed "
            f"for all. {about(records)}",
            "",
            *rows,
            "",
            *one_shot(records),
            *_learning_rates(tried, learning_rates),
            f"![Test accuracy of each method]({figures}.png)",
            "",
            f"![Validation accuracy over the training]({figures}-steps.png)",
            "",
            "```",
            command,
            "```",
            "",
        ]
    )


def _learning_rates(tried: Sequence[Record], learning_rates: Sequence[float]) -> list[str]:
    """What the choice was made by, where there was one."""
    if len(learning_rates) == 1:
        return []
    rows = [
        "Validation accuracy % of the first seed at each learning rate:",
        "",
        f"| method | {' | '.join(f'{rate:g}' for rate in learning_rates)} |",
        f"| --- |{' --- |' * len(learning_rates)}",
    ]
    for name, group in by_method(tried).items():
        if name != TEACHER:
            at = {r.recipe["student"]["learning_rate"]: r.validation_accuracy for r in group}
            rows.append(f"| {name} | {' | '.join(percent([at[r]]) for r in learning_rates)} |")
    return [*rows, ""]


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
    best = max(record.test_accuracy for record in records)
    axes.set_xlim(0, min(1.0, 1.15 * best))  # of many classes all are far from 100 %
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("test accuracy (bar: mean, dots: seeds)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_curves(records: Sequence[Record]) -> Figure:
    """Validation accuracy over the training: a line per method for the mean, a band for the seeds.

    BatchNorm statistics are the training's moving averages here, and are recomputed only for the
    table.
    """
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    axes = figure.subplots()
    groups = by_method(records)
    groups.pop(TEACHER, None)
    for index, (name, group) in enumerate(groups.items()):
        steps = [point.step for point in group[0].curve]
        values = [[p.validation_accuracy or 0.0 for p in record.curve] for record in group]
        by_step = list(zip(*values, strict=True))
        color, width = f"C{index % 10}", 2.0 if name == "bitat" else 1.2
        means = [statistics.mean(v) for v in by_step]
        axes.plot(steps, means, label=name, color=color, linewidth=width)
        if len(group) > 1:
            low, high = [min(v) for v in by_step], [max(v) for v in by_step]
            axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
    accuracy_axes(axes, "optimizer step", "validation accuracy (band: all seeds)")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def title(recipe: Recipe) -> str:
    """Name of the directory of the records, and of the table but for a lone learning rate."""
    suffix = "-distilled" if recipe.student.distill_weight else ""
    return f"methods-{Path(recipe.data.dataset).name}{suffix}"


def write(
    records: Sequence[Record],
    tried: Sequence[Record],
    out: Path,
    name: str,
    command: str,
    recipe: Recipe,
    learning_rates: Sequence[float],
) -> Path:
    """Write the table and the figures under a name; returns the table's path."""
    out.mkdir(parents=True, exist_ok=True)
    for suffix, figure in (("", draw(records)), ("-steps", draw_curves(records))):
        write_figure(figure, out / f"{name}{suffix}.png", command)
    write_text(out / f"{name}.md", markdown(records, tried, command, name, recipe, learning_rates))
    return out / f"{name}.md"


def main(
    argv: Sequence[str] | None = None,
    tool: str = "compare_methods.py",
    shown: Sequence[str] | None = None,
) -> int:
    """Carry out, write, print.

    Args:
        argv: arguments; None takes the command line's.
        tool: the script that was called.
        shown: what it was given, where it added arguments of its own.
    """
    parser = arguments_parser(
        "Training methods from the same float weights at the same number of steps."
    )
    parser.add_argument("--methods", nargs="+", default=list(train.METHODS), metavar="METHOD")
    parser.add_argument(
        "--learning-rates", nargs="+", type=float, help="to choose from; default: the recipe's"
    )
    parser.add_argument("--title", help="of the table and its records; default: the data set's")
    arguments = parser.parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    command = shown_command(tool, given if shown is None else shown, arguments.data_dir)

    def work(recipe: Recipe) -> Path:
        rates = arguments.learning_rates or [recipe.student.learning_rate]
        name = arguments.title or title(recipe)
        experiments = Experiments.from_arguments(recipe, name, arguments)
        methods = list(dict.fromkeys(arguments.methods))
        seeds = list(dict.fromkeys(arguments.seeds))
        records, tried = compare(experiments, methods, seeds, rates)
        lone = f"-lr{rates[0]:g}" if len(arguments.learning_rates or []) == 1 else ""
        return write(records, tried, arguments.out, name + lone, command, recipe, rates)

    return carried_out(tool.removesuffix(".py"), arguments, work)


if __name__ == "__main__":
    # Every training has functions of its own, which TensorFlow takes for needless retracing.
    tf.get_logger().setLevel("ERROR")
    sys.exit(main())
