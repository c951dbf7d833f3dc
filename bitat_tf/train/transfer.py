"""Weights from the float twin into the student, matched by layer name."""

from typing import Any

from bitat_tf.layers import BitatConv2D


def copy_float_weights(student: Any, teacher: Any) -> tuple[str, ...]:
    """Copy every layer that both models have, a binary convolution's kernel included.

    Args:
        student: with `BitatConv2D` layers; changed in place.
        teacher: its float twin, as built by the same builder.

    Returns:
        Names of the layers that were copied.

    Raises:
        ValueError: when nothing matches, or a layer's shapes differ.
    """
    twins = {layer.name: layer for layer in teacher.layers}
    copied = []
    for layer in student.layers:
        twin = twins.get(layer.name)
        if twin is None or not twin.weights:
            continue
        if isinstance(layer, BitatConv2D):
            old, new = [layer.kernel.latent_variable], [twin.kernel.numpy()]
        else:
            old, new = layer.weights, twin.get_weights()
        if [tuple(w.shape) for w in old] != [w.shape for w in new]:
            raise ValueError(
                f"Layer {layer.name!r} has other shapes in student and teacher. Received: "
                f"{[tuple(w.shape) for w in old]} and {[w.shape for w in new]}. Build both "
                "with the same arguments."
            )
        for variable, value in zip(old, new, strict=True):
            variable.assign(value)
        copied.append(layer.name)
    if not copied:
        raise ValueError(
            "`student` and `teacher` have no layer name in common. Build both with the same "
            "builder, binary=True and binary=False."
        )
    return tuple(copied)
