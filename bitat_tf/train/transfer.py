"""Weights from the float twin into the student, matched by layer name."""

from typing import Any

from bitat_tf.layers import BitatConv2D, RSign


def copy_float_weights(student: Any, teacher: Any) -> tuple[str, ...]:
    """Copy every layer's weights, a binary convolution's kernel included; signs have no twin.

    Args:
        student: with `BitatConv2D` layers; changed in place.
        teacher: its float twin, as built by the same builder.

    Returns:
        Names of the layers that were copied.

    Raises:
        ValueError: when the teacher lacks a layer, or its shapes differ.
    """
    twins = {layer.name: layer for layer in teacher.layers}
    copied = []
    for layer in student.layers:
        if not layer.weights or isinstance(layer, RSign):
            continue
        twin = twins.get(layer.name)
        if twin is None:
            raise ValueError(
                f"The teacher has no layer {layer.name!r}, whose weights the student starts from. "
                "Build both with the same builder, binary=True and binary=False."
            )
        binary = isinstance(layer, BitatConv2D)
        old = [layer.kernel.latent_variable] if binary else layer.weights
        new = twin.get_weights()
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
