"""Matching the teacher inside the network, block by block (FitNets, arXiv 1412.6550).

Student and teacher are compared where the branches of the binary convolutions end: behind the
addition with their shortcut, where calibration takes its targets too. Both have the same
channels there, so no adapter is needed and nothing is left over after the training.
"""

from collections.abc import Sequence
from typing import Any

from bitat_tf._keras import keras, tf
from bitat_tf.graph import Graph, binary_units
from bitat_tf.train import replicas
from bitat_tf.train.branches import Branch, find_branch

# Keeps a feature that does not vary in the teacher from dividing by 0.
_SMALLEST_VARIANCE = 1e-5


def feature_names(student: Any) -> tuple[str, ...]:
    """Names of the layers behind which the branches of the binary convolutions end.

    Args:
        student: functional model with binary units.

    Raises:
        ValueError: when it has none.
    """
    return tuple(dict.fromkeys(branch.end for branch in _branches(student)))


def target_names(student: Any) -> tuple[str, ...]:
    """As `feature_names`, the layers of its `binarize.float_twin` that they are to match."""
    return tuple(dict.fromkeys(branch.target for branch in _branches(student)))


def _branches(student: Any) -> list[Branch]:
    convolutions = {id(c) for unit in binary_units(student) for c in unit.convolutions}
    if not convolutions:
        raise ValueError(
            f"`student` must have binary convolutions for its features to be matched. "
            f"Received: {student.name!r}, which has none"
        )
    graph = Graph(student)
    calls = (call for call in graph.calls if id(call.layer) in convolutions)
    return [find_branch(graph, call) for call in calls]


def with_features(model: Any, names: Sequence[str]) -> Any:
    """A model on the same layers whose outputs are [logits, *features]."""
    return keras.Model(model.inputs, [model.output, *(model.get_layer(n).output for n in names)])


def feature_error(student: Sequence[Any], teacher: Sequence[Any]) -> Any:
    """Mean over the features of E||f - f_teacher||^2 / Var f_teacher; a scalar.

    Args:
        student, teacher: features (batch, height, width, channels), pairwise of one shape, the
            teacher's float32; the variance is summed over the channels.
    """
    errors = []
    for found, wanted in zip(student, teacher, strict=True):
        variance = replicas.variance(wanted)
        difference = tf.cast(found, wanted.dtype) - wanted
        distance = tf.reduce_mean(tf.reduce_sum(difference**2, axis=-1))
        errors.append(distance / (tf.reduce_sum(variance) + _SMALLEST_VARIANCE))
    return tf.add_n(errors) / len(errors)
