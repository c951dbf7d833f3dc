"""What TensorBoard's events cost a training: its steps with them and without, in one run.

    python tools/benchmark_logging.py [--out docs/results]

The nano network, and the network of the demo, on random images: short trainings with and without
events in turn, and the time of a logged point itself, flip rates and all. A table goes to OUT.
The machine should have nothing else to do. Takes about four minutes on two cores.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_training import number, table
from command_line import shown_command

from bitat_tf import machine, models, train
from bitat_tf._keras import keras, tf
from bitat_tf.config import Recipe
from bitat_tf.files import write_text
from bitat_tf.recipe_files import load_recipe
from bitat_tf.results import TrainingPoint

NAME = "logging-cost"
RECIPES = {"digits-demo": (8, 1), "cifar10-nano": (32, 3)}


@dataclass(frozen=True)
class Cost:
    """Of one recipe's network.

    Attributes:
        without: seconds of a step, for every stretch between two logged points.
        logged: the same with events.
        points: seconds of the logged points themselves.
        log_steps: steps between two points in the recipe.
    """

    without: tuple[float, ...]
    logged: tuple[float, ...]
    points: tuple[float, ...]
    log_steps: int


class Timed(train.Events):
    """Events that know how long their points took."""

    def __init__(self, folder: Path, model: Any) -> None:
        super().__init__(folder, model)
        self.seconds: list[float] = []

    def point(self, point: TrainingPoint, images_per_second: float | None) -> None:
        """One logged point."""
        started = time.perf_counter()
        super().point(point, images_per_second)
        self.seconds.append(time.perf_counter() - started)


def stretches(
    recipe: Recipe, shape: tuple[int, int], steps: int, points: int, folder: Path | None
) -> tuple[list[float], list[float]]:
    """One short training.

    Args:
        recipe: whose network and batches.
        shape: side and channels of its images.
        steps: between two logged points.
        points: how many.
        folder: of the events; None writes none.

    Returns:
        Seconds of a step in each stretch but the first, and of each point but the first, whose
        graphs are built.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    side, channels = shape
    student = models.build(
        recipe.model.name,
        classes=10,
        input_size=side,
        input_channels=channels,
        **recipe.model.arguments,
    )
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1024, side, side, channels)).astype(np.float32)
    data = tf.data.Dataset.from_tensor_slices((images, rng.integers(0, 10, 1024)))
    events = None if folder is None else Timed(folder, student)
    passed: list[float] = []
    monitor = train.Monitor(
        "",
        steps * points,
        log_steps=steps,
        batch_size=recipe.student.batch_size,
        events=events,
        on_point=lambda *_: passed.append(time.perf_counter()),
    )
    with monitor:
        train.train(
            train.Distilled(student),
            data.batch(recipe.student.batch_size, drop_remainder=True).repeat(),
            monitor.steps,
            train.cosine_adam(1e-3, monitor.steps),
            monitor,
        )
    seconds = np.diff(passed) / steps
    return seconds.tolist(), [] if events is None else events.seconds[1:]


def measure(name: str, steps: int, points: int, rounds: int) -> Cost:
    """A recipe's network with and without events in turn."""
    recipe = load_recipe(name)
    without, logged, seconds = [], [], []
    for _ in range(rounds):
        without += stretches(recipe, RECIPES[name], steps, points, None)[0]
        with tempfile.TemporaryDirectory() as folder:
            found, own = stretches(recipe, RECIPES[name], steps, points, Path(folder))
        logged += found
        seconds += own
    return Cost(tuple(without), tuple(logged), tuple(seconds), recipe.student.log_steps)


def markdown(costs: dict[str, Cost], steps: int, command: str) -> str:
    """The page."""
    rows = []
    for name, cost in costs.items():
        without, logged, point = map(statistics.median, (cost.without, cost.logged, cost.points))
        share = point / (cost.log_steps * without)
        rows.append(
            [
                name,
                number(1e3 * without),
                number(logged / without),
                number(1e3 * point),
                str(cost.log_steps),
                f"{share:.2%}",
            ]
        )
    head = ["network", "step ms", "with events", "logged point ms", "steps between", "share"]
    return "\n".join(
        [
            "# What TensorBoard's events cost",
            "",
            "```",
            command,
            "```",
            "",
            f"Ran on {machine.describe()}. Medians of stretches of {steps} steps, trainings with "
            "and without events in turn; `with events` is the ratio of their steps, a logged "
            "point in each stretch. The last columns set the time of a point, flip rates "
            "included, against the recipe's own steps between two points.",
            "",
            *table(head, rows, words=1),
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description="Cost of TensorBoard's events in training.")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--steps", type=int, default=20, help="between two logged points")
    parser.add_argument("--points", type=int, default=6, help="of each training")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--networks", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    arguments = parser.parse_args(argv)
    command = shown_command(
        "benchmark_logging.py", sys.argv[1:] if argv is None else argv, data_dir=None
    )
    costs = {
        name: measure(name, arguments.steps, arguments.points, arguments.rounds)
        for name in arguments.networks
    }
    page = arguments.out / f"{NAME}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, markdown(costs, arguments.steps, command))
    print(page.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    sys.exit(main())
