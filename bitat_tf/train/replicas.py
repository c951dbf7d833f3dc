"""The replicas of a training: synchronous copies of the model, each with its images of a batch.

All that a step computes from a whole batch is computed from the batch of all replicas: the mean
loss, BatchNorm's statistics, the spread of the teacher's features. So n replicas take the step
that one would take on the same images, up to the order in which floats are added.
"""

from typing import Any

from bitat_tf._keras import keras, tf


def count() -> int:
    """Replicas of the strategy in whose scope, or step, this is asked; 1 without one."""
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def total(value: Any) -> Any:
    """The sum of a tensor over all replicas, with a gradient; the tensor itself where one is.

    Args:
        value: this replica's, of the same shape on all.

    Returns:
        The same on all.
    """
    if count() == 1:
        return value
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)


def variance(values: Any) -> Any:
    """Variance per channel over the batch of all replicas.

    Args:
        values: this replica's (batch, height, width, channels).

    Returns:
        (channels,).
    """
    mean, local = tf.nn.moments(values, [0, 1, 2])
    if count() == 1:
        return local
    center = total(mean) / count()
    return total(local + (mean - center) ** 2) / count()


def synchronize(model: Any) -> None:
    """Let the BatchNorms of a built model see the batch of all replicas; with one, nothing.

    As `keras.layers.BatchNormalization(synchronized=True)`, which is not saved with a model and
    only counts when the layer is called: the same switch, set later. Fused kernels cannot do it.

    Args:
        model: whose layers are changed, those of nested models too.
    """
    if count() == 1:
        return
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized, layer.fused = True, False
