"""Top-1 accuracy."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bitat_tf._keras import tf

#: Images per batch where only a forward pass is made.
EVALUATION_BATCH = 500


def inference(model: Any) -> Callable[[Any], Any]:
    """A Keras model in inference mode, traced once for batches of every size.

    Args:
        model: with one input of fixed size.
    """
    spec = tf.TensorSpec((None, *model.input_shape[1:]))
    return tf.function(lambda images: model(images, training=False)).get_concrete_function(spec)


def accuracy(predict: Callable[[Any], Any], dataset: Any) -> float:
    """Share of images whose largest logit is that of their label.

    Args:
        predict: images (batch, height, width, channels) -> logits (batch, classes); a Keras
            model (called in inference mode) or a flatbuffer runner's `predict`.
        dataset: finite batches of (images, labels).

    Returns:
        In [0, 1].

    Raises:
        ValueError: when the data set is empty.
        FloatingPointError: when a logit is not finite.
    """
    hits = images_seen = 0
    for images, labels in dataset:
        logits = np.asarray(predict(images))
        if not np.all(np.isfinite(logits)):
            raise FloatingPointError("The model's outputs are not finite; it has no accuracy.")
        hits += int(np.sum(np.argmax(logits, axis=-1) == np.asarray(labels)))
        images_seen += len(logits)
    if not images_seen:
        raise ValueError("`dataset` is empty: no accuracy to measure.")
    return hits / images_seen
