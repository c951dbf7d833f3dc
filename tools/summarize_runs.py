"""Several runs of one recipe on one page: accuracy, sizes, parity, calibration, host latency.

    python tools/summarize_runs.py RUN... [--title NAME] [--out docs/results]

RUN is a directory with a `report.json`: that of a run (`bitat train`, then `bitat convert`,
`bitat evaluate` and `bitat benchmark --profile` on it), or one that this tool has kept. It trains
and measures nothing. The records go to OUT/records/NAME, without where the data lay, so that the
page can be written again without the runs; the page to OUT/NAME.md, its figures to OUT/NAME/.
"""

import argparse
import dataclasses
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from experiments import spread
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from bitat_tf import report, scoring
from bitat_tf.config import Recipe
from bitat_tf.files import write_text
from bitat_tf.records import from_mapping, to_mapping
from bitat_tf.report import drawing, figures
from bitat_tf.report.comparison import HOST_WARNING, ComparisonRow
from bitat_tf.report.tables import table
from bitat_tf.results import LayerCalibration, ModelScore, RunResult

COSTS = "costs.png"

_COLORS = {"float": drawing.GREY, "int8": drawing.ORANGE, "binary": drawing.BLUE}
# A model that was timed, and its score's name.
_SCORED = {"float": scoring.FLOAT, "int8": scoring.INT8, "binary": scoring.CONVERTED}

Results = Mapping[str, RunResult]

# Score's name, and what the table calls it.
_SCORES = (
    (scoring.FLOAT, "float teacher"),
    (scoring.ONE_SHOT, "1-bit, calibrated, not trained"),
    (scoring.TRAINED, "1-bit, trained"),
    (scoring.CONVERTED, "its flatbuffer, LCE's interpreter"),
    (scoring.INT8, "the float teacher in int8, TFLite"),
)
_SIZES = (
    (scoring.CONVERTED, "flatbuffer"),
    (scoring.FLOAT, "float TFLite"),
    (scoring.INT8, "int8 TFLite"),
)


def read(folders: Sequence[Path]) -> dict[str, RunResult]:
    """Name of a run -> its result, less what is only of the machine it ran on.

    Raises:
        ValueError: when a directory holds no result, two have one name, or the recipes differ in
            more than the seed.
    """
    found: dict[str, RunResult] = {}
    for folder in folders:
        name = folder.resolve().name
        if name in found:
            raise ValueError(f"Two directories are called {name}: their records share a name.")
        found[name] = without_places(report.load(folder))
    recipes = [{**result.recipe, "seed": 0} for result in found.values()]
    if any(recipe != recipes[0] for recipe in recipes):
        raise ValueError("The runs' recipes differ in more than the seed: one page, one recipe.")
    return found


def without_places(result: RunResult) -> RunResult:
    """The result less where the data lay, which another machine has elsewhere.

    A setting that is younger than the run counts as its default.
    """
    recipe = to_mapping(from_mapping(Recipe, result.recipe))
    recipe["data"]["data_dir"] = None
    return dataclasses.replace(result, recipe=recipe, command="")


def score(result: RunResult, name: str) -> ModelScore:
    """Of one of a run's models.

    Raises:
        ValueError: when it has not been measured.
    """
    for found in result.scores:
        if found.model == name and found.test_accuracy is not None:
            return found
    raise ValueError(f"The run has no accuracy of {name!r}: `bitat convert`, `bitat evaluate` it.")


def accuracies(results: Results) -> str:
    """Test accuracy of every model in every run, in percent."""
    rows = []
    for name, label in _SCORES:
        values = [100 * (score(r, name).test_accuracy or 0.0) for r in results.values()]
        cells = [f"{value:.2f}" for value in values]
        deviation = f" +- {spread(values):.2f}" if len(values) > 1 else ""
        rows.append((label, *cells, f"{statistics.mean(values):.2f}{deviation}"))
    return table(("test accuracy, %", *_seeds(results), "mean +- spread"), rows)


def conversions(results: Results) -> str:
    """Sizes, operators, parity and unexplained variance of every run."""
    rows = [
        (f"{label}, bytes", *(f"{score(r, name).size_bytes or 0:,}" for r in results.values()))
        for name, label in _SIZES
    ]
    rows += [
        ("binary convolutions / float ones", *_cells(results, _convolutions)),
        ("same class as Keras, of the images compared", *_cells(results, _agreement)),
        ("mean unexplained variance: sign(W)", *_variance(results, lambda x: x.unexplained_sign)),
        ("... after calibration", *_variance(results, lambda x: x.unexplained_binary)),
        ("... floor of the 1-bit activations", *_variance(results, lambda x: x.unexplained_real)),
    ]
    return table(("", *_seeds(results)), rows)


def _seeds(results: Results) -> list[str]:
    return [f"seed {result.recipe['seed']}" for result in results.values()]


def _cells(results: Results, cell: Callable[[RunResult], str]) -> list[str]:
    return [cell(result) for result in results.values()]


def _convolutions(result: RunResult) -> str:
    if result.audit is None:
        raise ValueError("The run has no audit: `bitat convert` it.")
    return f"{result.audit.binary_convolutions} / {result.audit.float_convolutions}"


def _agreement(result: RunResult) -> str:
    if result.parity is None:
        raise ValueError("The run has no parity: `bitat convert` it.")
    return f"{result.parity.agreement:.2%} of {result.parity.images:,}"


def _variance(results: Results, share: Callable[[LayerCalibration], float]) -> list[str]:
    layers = [r.calibration.layers if r.calibration else () for r in results.values()]
    return [f"{statistics.mean(map(share, each)):.3f}" if each else "" for each in layers]


def latencies(results: Results) -> str:
    """Host latency of float, int8 and binary; empty where nobody measured any.

    The last column is the sum of the operators, each timed alone, and the whole inference timed
    between them.
    """
    rows = []
    for name, result in results.items():
        profiles = {profile.model: profile for profile in result.profiles}
        for row in _host_rows(result, name):
            profile = profiles.get(row.model)
            whole = f"{profile.sum_ms:.3f} / {profile.whole_ms:.3f}" if profile else ""
            rows.append((f"seed {result.recipe['seed']}", *report.comparison_cells(row), whole))
    return table(("run", *report.COMPARISON_HEADER, "operators / whole ms"), rows) if rows else ""


def _host_rows(result: RunResult, name: str) -> tuple[ComparisonRow, ...]:
    return report.comparison_rows(dataclasses.replace(result, android=()), name)


def draw_costs(results: Results) -> Figure:
    """Accuracy against size and, of runs with one, against host latency: a dot for each model."""
    figure = drawing.new_figure(4.4)
    size, latency = figure.subplots(1, 2, sharey=True)
    rows = [row for name, result in results.items() for row in _host_rows(result, name)]
    for model, scored in _SCORED.items():
        scores = [score(result, scored) for result in results.values()]
        timed = [row for row in rows if row.model == model]
        dots = {"color": _COLORS[model], "label": model, "marker": "o", "linestyle": "none"}
        size.plot(
            [(s.size_bytes or 0) / 1024 for s in scores], [s.test_accuracy for s in scores], **dots
        )
        latency.plot([r.latency_ms for r in timed], [r.test_accuracy for r in timed], **dots)
    size.set_xlabel("flatbuffer (KiB)")
    latency.set_xlabel("median latency on the host (ms); says nothing about phones")
    size.set_ylabel("test accuracy")
    size.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes in (size, latency):
        axes.set_xlim(left=0)
        axes.margins(0.15)
        drawing.style(axes, grid="both")
    size.legend(frameon=False)
    return figure


def page(results: Results, title: str, command: str, drawn: Sequence[str]) -> str:
    """The page as Markdown."""
    first = next(iter(results.values()))
    recipe = first.recipe
    student, teacher, calibration = recipe["student"], recipe["teacher"], recipe["calibration"]
    images = calibration["batches"] * calibration["batch_size"]
    name, seed = recipe["name"], recipe["seed"]
    machines = "; ".join(sorted({result.machine for result in results.values()}))
    lines = [
        f"# {name}: from float to flatbuffer",
        "",
        f"Recipe {name}, backbone {recipe['model']['name']}: the float network is "
        f"trained for {teacher['epochs']} epochs, the 1-bit one for {student['steps']:,} steps of "
        f"batch {student['batch_size']} at a learning rate of {student['learning_rate']:g} after a "
        f"calibration on {images:,} unlabelled images. Test split; spread is the standard "
        f"deviation over the seeds. Ran on {machines}. Written by",
        "",
        "```",
        command,
        "```",
        "",
        "from the records that each run left (`tools/compare_methods.py` leaves such runs too):",
        "",
        "```",
        f"bitat train {name} --data-dir DIR --seed {seed} --out RUN  # each seed",
        "bitat convert RUN --data-dir DIR",
        "bitat benchmark RUN --data-dir DIR --profile",
        "bitat evaluate RUN --data-dir DIR",
        "```",
        "",
        accuracies(results),
        "",
        conversions(results),
        "",
    ]
    measured = latencies(results)
    if measured:
        lines += ["## Latency on the host", "", HOST_WARNING, "", measured, ""]
    captions = {
        COSTS: "Accuracy against size and against host latency",
        figures.TRAINING: f"Training, seed {seed}",
        figures.CALIBRATION: f"Unexplained variance per layer, seed {seed}",
    }
    for figure in drawn:
        lines += [f"![{captions[figure]}]({title}/{figure})", ""]
    return "\n".join(lines)


def write(results: Results, title: str, out: Path) -> Path:
    """Records, figures and page; returns the page's path."""
    command = f"python tools/summarize_runs.py docs/results/records/{title}/* --title {title}"
    page(results, title, command, ())  # what is missing is said before anything is written
    for name, result in results.items():
        folder = out / "records" / title / name
        folder.mkdir(parents=True, exist_ok=True)
        report.save(result, folder)
    folder = out / title
    folder.mkdir(parents=True, exist_ok=True)
    first = next(iter(results.values()))
    drawn = drawing.write_figures(
        {
            COSTS: draw_costs(results),
            figures.TRAINING: figures.draw_training(first),
            figures.CALIBRATION: figures.draw_calibration(first.calibration)
            if first.calibration
            else None,
        },
        folder,
    )
    write_text(out / f"{title}.md", page(results, title, command, drawn))
    return out / f"{title}.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Read, write, print."""
    parser = argparse.ArgumentParser(description="several runs of one recipe on one page")
    parser.add_argument("runs", type=Path, nargs="+", help="directories with a report.json")
    parser.add_argument("--title", help="of page and records; default: the recipe's name")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args(argv)
    try:
        results = read(sorted(arguments.runs))
        title = arguments.title or str(next(iter(results.values())).recipe["name"])
        path = write(results, title, arguments.out)
    except (ValueError, OSError) as err:
        print(f"summarize_runs: {err}", file=sys.stderr)
        return 1
    print(path.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
