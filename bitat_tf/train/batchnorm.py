"""BatchNorm statistics recomputed on training data.

Signs flip until the last step, and moving averages lag behind them. What is evaluated and
exported should not depend on the last few batches.
"""

from typing import Any

from bitat_tf._keras import keras, tf
from bitat_tf.graph import Call, Graph, Sweep
from bitat_tf.train import workers
from bitat_tf.train.batches import take_images


def recompute_batchnorm(model: Any, dataset: Any, batches: int = 16) -> int:
    """Set every BatchNorm's moving statistics to the data's own, bottom to top, in place.

    One pass: each layer sees inputs that were normalised with the new statistics below it.
    These are the statistics of all the images at once, not an average over batches. Of several
    workers each runs its share of the batches.

    Args:
        model: functional model.
        dataset: batches of training images (batch, height, width, channels), or of (images,
            labels); or arrays, `x` or `(x, y)`, of which batches of 128 are made.
        batches: how many to use.

    Returns:
        The number of layers recomputed.

    Raises:
        ValueError: when the data set is empty, or holds less than a batch for each worker.
    """
    images = take_images(dataset, batches)
    team = workers.current()
    if len(images) < team.count:
        raise ValueError(f"Each of {team.count} workers needs a batch. Received: {len(images)}")
    images = list(team.mine(images))
    recomputed = 0

    def set_statistics(call: Call) -> None:
        nonlocal recomputed
        if not isinstance(call.layer, keras.layers.BatchNormalization):
            return
        mean, variance = _mean_and_variance(sweep.compute(call.inputs[0]))
        call.layer.moving_mean.assign(mean)
        call.layer.moving_variance.assign(variance)
        recomputed += 1

    sweep = Sweep(Graph(model), images, before=set_statistics)
    sweep.run_all()
    return recomputed


def _mean_and_variance(values: list[Any]) -> tuple[Any, Any]:
    """Mean and variance per channel over the batches of all workers, by their sums of squares."""
    axes = list(range(len(values[0].shape) - 1))
    counts = [tf.cast(tf.size(v) // v.shape[-1], tf.float32) for v in values]
    moments = [tf.nn.moments(v, axes) for v in values]
    sums = tf.add_n([n * m for n, (m, _) in zip(counts, moments, strict=True)])
    total, sums = (tf.cast(v, tf.float32) for v in workers.total(tf.add_n(counts), sums))
    mean = sums / total
    variance = tf.add_n(
        [n * (v + (m - mean) ** 2) for n, (m, v) in zip(counts, moments, strict=True)]
    )
    (variance,) = workers.total(variance)
    return mean, tf.cast(variance, tf.float32) / total
