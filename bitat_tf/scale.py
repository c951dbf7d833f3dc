"""A run begun on whatever its recipe says: one device, several, or several machines."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bitat_tf.config import Recipe
from bitat_tf.train import rendezvous, strategy, workers


def strategy_of(recipe: Recipe) -> Any:
    """The strategy that a recipe asks for.

    To be made before SIGTERM is obeyed: TensorFlow's server takes the signal for itself.

    Args:
        recipe: to be carried out.

    Returns:
        A `tf.distribute.Strategy`, or None.

    Raises:
        ValueError: when the strategy cannot be had, or its replicas not share the batches.
        RuntimeError: when not all workers come.
    """
    made = strategy.build(recipe.scale.strategy)
    strategy.check_fits(recipe, made)
    return made


@contextlib.contextmanager
def begun(
    made: Any, out: Path, start: Callable[[Path, bool], Any], *, resume: bool
) -> Iterator[Any]:
    """A run under its strategy; with several workers, the same one on all of them.

    Args:
        made: by `strategy_of`.
        out: the run directory, on the chief.
        start: (directory, whether to resume) -> `experiment.Run`.
        resume: whether to go on with the run in `out`.

    Yields:
        The run, on the other workers one in a private directory, which goes at the end.

    Raises:
        LostWorker: when another worker ends before its time.
    """
    with contextlib.ExitStack() as stack:
        run = start(out, resume) if workers.of(made).chief else None
        with rendezvous.attended(made), strategy.scope(made):
            folder = stack.enter_context(rendezvous.own_copy(out))
        if run is None:
            run = start(folder, True)
            run.console = None  # the chief shows the progress
        run.strategy = made
        yield run
