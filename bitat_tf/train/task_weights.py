"""Which positions the task depends on: the omega of step 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bitat_tf._keras import keras, tf
from bitat_tf.train import workers
from bitat_tf.train.heads import logits_of


def task_weights(
    teacher: Any, names: Sequence[str], images: Sequence[Any], labels: Sequence[Any] | None
) -> dict[str, list[Any]]:
    """Squared norm of the loss gradient at every position of some of the teacher's layers.

    Args:
        teacher: functional model to logits, or to their softmax.
        names: of layers with outputs (batch, height, width, channels).
        images: this worker's batches (batch, height, width, channels).
        labels: (batch,) class indices of each batch; None takes the teacher's own answers.

    Returns:
        Per name and batch omega, (batch * height * width,), of mean 1 over all batches of all
        workers. All ones where the loss does not depend on a layer.

    Raises:
        ValueError: when a gradient is not finite.
    """
    outputs = [teacher.get_layer(name).output for name in names]
    probe = keras.Model(teacher.inputs, [*outputs, logits_of(teacher)])

    @tf.function(reduce_retracing=True)
    def squared_norms(batch: Any, classes: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            *tensors, logits = probe(batch, training=False)
            loss = keras.losses.sparse_categorical_crossentropy(classes, logits, from_logits=True)
        gradients = tape.gradient(loss, tensors, unconnected_gradients="zero")
        # A sure teacher has gradients whose squares float32 cannot hold.
        squares = [tf.cast(g, tf.float64) ** 2 for g in gradients]
        return [tf.reshape(tf.reduce_sum(s, axis=-1), [-1]) for s in squares]

    found: dict[str, list[Any]] = {name: [] for name in names}
    for index, batch in enumerate(images):
        if labels is None:
            classes = tf.argmax(probe(batch, training=False)[-1], axis=-1)
        else:
            classes = tf.cast(labels[index], tf.int64)
        for name, values in zip(names, squared_norms(batch, classes), strict=True):
            found[name].append(values.numpy())
    return {name: _of_mean_one(values) for name, values in found.items()}


def _of_mean_one(values: list[Any]) -> list[Any]:
    found = np.concatenate(values)
    if workers.current().count == 1:
        mean = float(np.mean(found))
    else:
        total, count = workers.total(np.sum(found), len(found))
        mean = float(total / count)
    if not np.isfinite(mean):
        raise ValueError("The teacher's loss gradient is not finite: check its weights.")
    scaled = [v / mean if mean > 0 else np.ones_like(v) for v in values]
    return [v.astype(np.float32) for v in scaled]
