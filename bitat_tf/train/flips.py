"""The flip rate: which part of a layer's signs changed from one logged point to the next.

A 1-bit network learns by signs that flip. A rate that stays high while the loss stands still
says that the learning rate is too high for the size of the latent weights; one of 0 from early
on, that they are too large to flip at all. Measured at logged points only, on one packed bit per
weight.
"""

from typing import Any

import numpy as np

from bitat_tf._keras import tf
from bitat_tf.importance import ReleaseQuantizer
from bitat_tf.layers import BitatConv2D


def signs(layer: BitatConv2D) -> Any:
    """The signs that a layer's kernel has, or would have were it deployed now.

    Those of the quantizer's output, as some quantizers move a kernel before they take its sign
    (IR-Net balances it, ReCU standardises it). A kernel on its way from real to 1-bit has the
    signs of its latent weights: those it ends with.

    Args:
        layer: built.

    Returns:
        (kh, kw, c_in, c_out), bool; true where the sign is +1.
    """
    latent = layer.kernel.latent_variable.numpy()
    quantizer = layer.kernel_quantizer
    if quantizer is None or isinstance(quantizer, ReleaseQuantizer):
        return latent >= 0
    return quantizer(tf.constant(latent)).numpy() >= 0


def flip_rate(before: Any, now: Any) -> float:
    """Share of the signs that differ.

    Args:
        before: packed by `np.packbits`.
        now: signs, of any shape, bool.

    Returns:
        In [0, 1].
    """
    changed = np.bitwise_xor(before, np.packbits(now))
    return float(np.unpackbits(changed, count=now.size).mean())


class Flips:
    """Follows the signs of a student's binary layers through a training.

    A layer counts from the stage or logged point on at which it is first binary: what
    calibration does to its signs is no flip. Of a training that was resumed between two logged
    points nobody knows the signs at the earlier one, so the first point after it has no rate;
    all others are those of a training that was never interrupted.

    Args:
        student: Keras model; of layers other than `BitatConv2D` nothing is said.
    """

    def __init__(self, student: Any) -> None:
        self._layers = [layer for layer in student.layers if isinstance(layer, BitatConv2D)]
        # Bits at the last logged point; None where they are not known.
        self._before: dict[str, Any] = {}

    def stage(self) -> None:
        """Begin with the layers that have become binary since, and leave what no longer is."""
        for layer in self._layers:
            if not bool(layer.active.numpy()):
                self._before.pop(layer.name, None)
            elif layer.name not in self._before:
                self._before[layer.name] = np.packbits(signs(layer))

    def resumed(self, at_point: bool) -> None:
        """Go on in a student whose state was restored.

        Args:
            at_point: whether that is its state of a logged point.
        """
        for layer in self._layers:
            if bool(layer.active.numpy()):
                self._before[layer.name] = np.packbits(signs(layer)) if at_point else None

    def rates(self) -> dict[str, float]:
        """Flip rates since the last logged point, to be asked for at each.

        Returns:
            Layer name -> share in [0, 1], bottom to top, of the layers with a known past.
        """
        found = {}
        for layer in self._layers:
            if not bool(layer.active.numpy()):
                self._before.pop(layer.name, None)
                continue
            now = signs(layer)
            before = self._before.get(layer.name)
            if before is not None:
                found[layer.name] = flip_rate(before, now)
            self._before[layer.name] = np.packbits(now)
        return found
