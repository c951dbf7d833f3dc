"""What each part of BiTAT is worth: the same training with one part changed.

    python tools/ablations.py --dataset cifar10 --data-dir DIR --seeds 0 1 2 \\
        [--variants no-transform ...] [--out docs/results]

Every variant is the recipe's BiTAT training with the settings of its entry in `VARIANTS`, from
the same float weights (one teacher per seed, shared with `compare_methods.py`). Each finished
training is one record in OUT/records (`experiments.py`): kill the tool, start the same command
again, and it does what is left. The table shows the accuracy straight after calibration and
after training, and the mean over the seeds of the difference to the whole method.

Cost: per variant and seed one training of the recipe's `student.steps`.
"""

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
    escaped,
    percent,
)

from bitat_tf._keras import tf
from bitat_tf.config import Recipe
from bitat_tf.files import write_text
from bitat_tf.records import check

WHOLE = "bitat"


@dataclass(frozen=True)
class Ablation:
    """One part changed.

    Attributes:
        meaning: in one sentence.
        settings: overrides of the recipe.
    """

    meaning: str
    settings: tuple[str, ...] = ()


VARIANTS = {
    WHOLE: Ablation("The recipe as it is."),
    "no-transform": Ablation(
        "Signs chosen under the diagonal of C instead of C: sign(W*).",
        ("calibration.code_search=diagonal",),
    ),
    "no-compensation": Ablation(
        "Signs stand for the teacher's kernel W instead of W*.",
        ("calibration.compensate=false",),
    ),
    "no-cross-layer-target": Ablation(
        "A layer follows the teacher's own branch and repairs nothing below it.",
        ("calibration.target=branch",),
    ),
    "task-weights": Ablation(
        "Positions weighted by the teacher's loss gradient (omega).",
        ("calibration.task_weights=true",),
    ),
    "median-thresholds": Ablation(
        "Signs split their inputs at the median.", ("calibration.threshold=median",)
    ),
    "zero-thresholds": Ablation(
        "Signs split their inputs at zero.", ("calibration.threshold=zero",)
    ),
    "no-head": Ablation("The float classifier is not refitted.", ("calibration.fit_head=false",)),
    "no-margin": Ablation("Latent kernels start at |W*|.", ("calibration.margin=0",)),
    "margin-0.3": Ablation(
        "Latent kernels start at mean magnitude 0.3: fewer sign flips.",
        ("calibration.margin=0.3",),
    ),
    "bottom-up": Ablation(
        "Layers become binary one by one over the first half, from the input on.",
        ("student.progressive_steps={half}",),
    ),
    "top-down": Ablation(
        "The same from the output on.",
        ("student.progressive_steps={half}", "student.order=top_down"),
    ),
    "random-order": Ablation(
        "The same in random order.",
        ("student.progressive_steps={half}", "student.order=random"),
    ),
    "quantization-loss": Ablation(
        "The importance-weighted quantization error in the loss, V refreshed every 200 steps.",
        ("student.quantization_loss=0.1", "student.refresh_steps=200"),
    ),
    "release-most-first": Ablation(
        "Directions of each kernel go to 1 bit over the first half, most important first.",
        ("student.release_steps={half}", "student.release_order=most_first"),
    ),
    "release-least-first": Ablation(
        "The same, least important first.",
        ("student.release_steps={half}", "student.release_order=least_first"),
    ),
}


def variant(name: str, recipe: Recipe) -> Variant:
    """An ablation's settings under a recipe.

    Raises:
        ValueError: when there is no such ablation.
    """
    check(name in VARIANTS, "variants", f"of {', '.join(VARIANTS)}", name)
    half = recipe.student.steps // 2
    return Variant(name, tuple(s.format(half=half) for s in VARIANTS[name].settings))


def markdown(records: Sequence[Record], command: str, recipe: Recipe) -> str:
    """The table, with the command that makes it."""
    groups: dict[str, dict[int, Record]] = {}
    for record in records:
        groups.setdefault(record.name, {})[record.seed] = record
    whole = groups[WHOLE]
    rows = [
        "| variant | calibrated % | trained % | less the whole method | validation % | meaning |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, group in groups.items():
        if name == TEACHER:
            continue
        one_shot = [r.calibrated_accuracy for r in group.values() if r.calibrated_accuracy]
        changes = [r.test_accuracy - whole[seed].test_accuracy for seed, r in group.items()]
        cells = [
            name,
            percent(one_shot) if one_shot else "",
            percent([r.test_accuracy for r in group.values()]),
            "" if name == WHOLE else f"{100 * statistics.mean(changes):+.1f}",
            percent([r.validation_accuracy for r in group.values()]),
            VARIANTS[name].meaning,
        ]
        rows.append(f"| {' | '.join(escaped(cell) for cell in cells)} |")
    return "\n".join(
        [
            f"# What each part of BiTAT is worth, on {Path(recipe.data.dataset).name}",
            "",
            f"Recipe {recipe.name}, {recipe.student.steps:,} steps of batch "
            f"{recipe.student.batch_size}, learning rate {recipe.student.learning_rate:g}; test "
            f"accuracy. One part is changed per row. {about(records)}",
            "",
            *rows,
            "",
            "```",
            command,
            "```",
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out, write, print."""
    parser = arguments_parser("BiTAT with one part changed at a time.")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), metavar="VARIANT")
    arguments = parser.parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    command = shown_command("ablations.py", given, arguments.data_dir)

    def work(recipe: Recipe) -> Path:
        name = f"ablations-{Path(recipe.data.dataset).name}"
        chosen = dict.fromkeys([WHOLE, *arguments.variants])
        variants = [variant(each, recipe) for each in chosen]
        experiments = Experiments.from_arguments(recipe, name, arguments)
        records = experiments.carry_out(variants, list(dict.fromkeys(arguments.seeds)))
        table = arguments.out / f"{name}.md"
        write_text(table, markdown(records, command, recipe))
        return table

    return carried_out("ablations", arguments, work)


if __name__ == "__main__":
    # Every training has functions of its own, which TensorFlow takes for needless retracing.
    tf.get_logger().setLevel("ERROR")
    sys.exit(main())
