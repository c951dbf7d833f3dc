"""The training step as one graph: plain, compiled by XLA, or on all replicas of a strategy."""

from collections.abc import Callable
from typing import Any

from bitat_tf._keras import tf
from bitat_tf.train.distill import Distilled, optimizer_step


def traced_step(model: Distilled, optimizer: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
    """`distill.optimizer_step` for a custom loop, as `fit` runs it.

    Args:
        model: what to train; its `scale` says whether XLA compiles the step.
        optimizer: Keras optimizer.

    Returns:
        A function from a batch (under a strategy, one of `strategy.batches`) to its loss and
        accuracy, scalars.
    """
    strategy = tf.distribute.get_strategy()

    @tf.function(jit_compile=model.scale.jit_compile or None)
    def on_replica(images: Any, labels: Any) -> tuple[Any, Any]:
        return optimizer_step(model, optimizer, images, labels)

    if not tf.distribute.has_strategy():
        return on_replica

    @tf.function
    def on_all(images: Any, labels: Any) -> tuple[Any, Any]:
        figures = strategy.run(on_replica, args=(images, labels))
        return tuple(strategy.experimental_local_results(figure)[0] for figure in figures)

    return on_all
