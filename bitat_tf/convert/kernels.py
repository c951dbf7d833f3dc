"""Which convolutions of a Keras model are meant to be binary, and finding them by their bits.

A layer's name is no key into a flatbuffer: the converter names an operator after the last
layer fused into it and cuts the name off at 50 characters. The kernel is one. Its signs stand
in LceBconv2d's packed filter as trained. Two things turn all signs of an output channel round:
where LceBconv2d writes bits, a negative factor of the BatchNorm behind it goes into the filter,
because only a threshold is left of it; and a filter that stayed float took up that factor whole.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bitat_tf.counts import is_binary, packed_words
from bitat_tf.quantizers import lq

# What Larq calls the quantizers of its layers' kernels.
_KERNEL_QUANTIZERS = ("kernel_quantizer", "depthwise_quantizer", "pointwise_quantizer")
QUANTIZERS = (*_KERNEL_QUANTIZERS, "input_quantizer")


def binary_kernels(model: Any) -> dict[str, np.ndarray]:
    """The binary weights of a model: the kernels of all convolutions that are meant to be binary.

    What Keras saves and `get_weights` gives are the latent kernels, from which training goes on;
    these are the ones that ship. (Larq's `quantized_scope` does not make Keras save them:
    larq#553, larq#792.) They are of all `QuantConv2D` with a kernel quantizer, `BitatConv2D`
    among them, those in nested models too.

    Args:
        model: a student, whether its units are active or not, or what `strip` made of one.

    Returns:
        Layer name -> quantized kernel, (kh, kw, c_in, c_out), in {-1, +1}, times a scale per
        output channel where the quantizer has one.
    """
    return {
        layer.name: np.asarray(layer.kernel_quantizer(layer.kernel.latent_variable))
        for layer in model.submodules
        if is_binary(layer)
    }


def without_binary_kernel(model: Any) -> dict[str, str]:
    """Layers with quantized weights of a kind that LCE computes with floats.

    Depthwise, separable, transposed and one- or three-dimensional convolutions, and dense layers
    that `strip` left.

    Args:
        model: as in `binary_kernels`.

    Returns:
        Layer name -> class.
    """
    return {
        layer.name: type(layer).__name__
        for layer in model.submodules
        if any(getattr(layer, name, None) is not None for name in _KERNEL_QUANTIZERS)
        and not is_binary(layer)
    }


def ternary_inputs(model: Any) -> tuple[str, ...]:
    """Layers that quantize activations to -1, 0 and +1, which LCE's converter takes for signs.

    It looks for sign(sign(x) + c), as Larq writes a sign, and takes Larq's
    sign(sign(x + t) + sign(x - t)) for one too: the convolution becomes LceBconv2d and computes
    something else, without a word.

    Args:
        model: as in `binary_kernels`.

    Returns:
        Names of layers with such an `input_quantizer`, and of such layers.
    """
    layers, ternary = tuple(model.submodules), lq.quantizers.SteTern
    owned = {id(getattr(layer, name, None)) for layer in layers for name in QUANTIZERS}
    return tuple(
        layer.name
        for layer in layers
        if isinstance(getattr(layer, "input_quantizer", None), ternary)
        or (isinstance(layer, ternary) and id(layer) not in owned)
    )


def find_packed(
    filters: np.ndarray, kernel: np.ndarray, writes_bits: bool = False
) -> tuple[int, ...]:
    """Where in LceBconv2d's packed filter the kernel stands; merged ones hold several.

    Args:
        filters: int32, (outputs, kh, kw, words): bit i of word j is set where the kernel's input
            channel 32 j + i is negative.
        kernel: (kh, kw, c_in, c_out), c_out <= outputs.
        writes_bits: whether the operator's output is bitpacked, and signs of whole output
            channels may be turned round.

    Returns:
        Every output channel of the filter that a copy of the kernel begins at.
    """
    negative = np.moveaxis(kernel < 0, -1, 0)
    outputs, channels = len(negative), negative.shape[-1]
    if filters.shape[1:] != (*negative.shape[1:-1], packed_words(channels)):
        return ()
    octets = np.ascontiguousarray(filters).astype("<i4").view(np.uint8)
    bits = np.unpackbits(octets, axis=-1, bitorder="little")[..., :channels]
    there = bits.reshape(len(bits), -1).astype(bool)
    wanted = negative.reshape(outputs, -1)

    def equal(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        same = rows == columns
        return np.asarray(same.all(axis=1) | (writes_bits & ~same.any(axis=1)))

    begins = np.flatnonzero(equal(there, wanted[0]))
    return tuple(
        int(start)
        for start in begins
        if start + outputs <= len(there) and equal(there[start : start + outputs], wanted).all()
    )


def holds_float(filters: np.ndarray, kernel: np.ndarray) -> bool:
    """Whether a float filter is the kernel, but for a factor per output channel.

    Args:
        filters: (c_out, kh, kw, c_in).
        kernel: (kh, kw, c_in, c_out), of any scale.
    """
    expected = np.moveaxis(kernel, -1, 0)
    if filters.shape != expected.shape:
        return False
    product = np.sign(filters * expected).reshape(len(expected), -1)
    # Zeros, of a ternary kernel or of a channel that BatchNorm switched off, decide nothing.
    return bool(np.all((product.min(axis=1) >= 0) | (product.max(axis=1) <= 0)))


def lost_kernels(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    """Kernels of one model of which another lacks an output channel.

    A rewrite may put kernels one behind the other, scale them and turn all signs of an output
    channel round; it may not change one sign among others.

    Args:
        before, after: `binary_kernels` of the models.

    Returns:
        The names in `before`.
    """
    there = Counter(column for kernel in after.values() for column in _columns(kernel))
    lost = []
    for name, kernel in before.items():
        columns = Counter(_columns(kernel))
        if columns - there:
            lost.append(name)
        there -= columns
    return tuple(lost)


def _columns(kernel: np.ndarray) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """The shape and signs of each output channel, turned so that the first is positive."""
    for column in np.moveaxis(kernel, -1, 0):
        if column.any():  # a channel scaled to nothing has no signs to keep
            yield column.shape, np.packbits((column < 0) ^ (column.flat[0] < 0)).tobytes()
