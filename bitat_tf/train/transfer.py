"""Weights from the float twin into the student, matched by layer name."""

from typing import Any

import numpy as np

from bitat_tf.binarize import float_twin
from bitat_tf.graph import binary_units
from bitat_tf.layers import BitatConv2D, RSign, Shortcut


def copy_float_weights(student: Any, teacher: Any) -> tuple[str, ...]:
    """Copy every layer's weights, a binary convolution's kernel included; signs have no twin.

    A convolution that sees each channel several times (`RSign.thresholds`) takes an equal part of
    the kernel for each, so that with its unit switched off it computes what the teacher does.

    Args:
        student: with `BitatConv2D` layers; changed in place.
        teacher: its float twin, as built by the same builder, or the model that `binarize`
            made the student of.

    Returns:
        Names of the layers that were copied.

    Raises:
        ValueError: when the teacher lacks a layer, or its shapes differ.
    """
    thresholds = {
        convolution.name: unit.sign.thresholds
        for unit in binary_units(student)
        for convolution in unit.convolutions
    }
    twins = {layer.name: layer for layer in float_twin(student, teacher).layers}
    copied = []
    for layer in student.layers:
        if not layer.weights or isinstance(layer, RSign | Shortcut):
            continue
        twin = twins.get(layer.name)
        if twin is None:
            raise ValueError(
                f"The teacher has no layer {layer.name!r}, whose weights the student starts from. "
                "Build both with the same builder, binary=True and binary=False, or give the very "
                "model that `binarize` made the student of."
            )
        binary = isinstance(layer, BitatConv2D)
        old = [layer.kernel.latent_variable] if binary else layer.weights
        new = twin.get_weights()
        parts = thresholds.get(layer.name, 1)
        if parts > 1:
            new = [np.concatenate([new[0] / parts] * parts, axis=2)]
        if [tuple(w.shape) for w in old] != [w.shape for w in new]:
            raise ValueError(
                f"Layer {layer.name!r} has weights of other shapes in student and teacher. "
                f"Received: {[tuple(w.shape) for w in old]} and {[w.shape for w in new]}. "
                "Build both with the same arguments."
            )
        for variable, value in zip(old, new, strict=True):
            variable.assign(value)
        copied.append(layer.name)
    return tuple(copied)
