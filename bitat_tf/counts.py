"""What a Keras model costs, counted from its graph: parameters, multiply-accumulates, OPs, bytes.

Needs no conversion, so it tells what a network will cost before it is trained. The field's
measure for binary networks is

    OPs = BOPs / 64 + FLOPs

(Bi-Real, arXiv 1808.00278; ReActNet, arXiv 2003.03488): 64 one-bit multiply-accumulates take one
instruction. Both numbers are multiply-accumulates, in those papers as here: ReActNet-A's 87 M
OPs are 4.82 G / 64 + 12 M.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bitat_tf._keras import keras
from bitat_tf.graph import Call, Graph
from bitat_tf.layers import RSign
from bitat_tf.quantizers import lq

WORD_BITS = 32
"""LCE packs this many values of the input channels into one int32."""
_FLOAT_BYTES = 4

_BINARY_OPERATIONS_PER_INSTRUCTION = 64


@dataclass(frozen=True)
class LayerCount:
    """What one layer costs.

    Attributes:
        name: of the layer.
        kind: its class, e.g. `"BitatConv2D"`.
        binary: whether it is a convolution meant to be LceBconv2d.
        parameters: numbers that ship; see `Counts`.
        macs: multiply-accumulates for one image, all its calls together.
        size_bytes: of the parameters on the device: a bit per weight of a binary kernel, its
            input channels filled up to words of 32; four bytes of everything else.
    """

    name: str
    kind: str
    binary: bool
    parameters: int
    macs: int
    size_bytes: int


@dataclass(frozen=True)
class Counts:
    """What a model costs, layer by layer, in an order in which they can run.

    Parameters are what ships: kernels (fixed ones too), biases, slopes and shifts, and two of a
    BatchNorm, in which scale, offset, mean and variance end. What only training needs (latent
    weights, transforms, switches) counts nothing.

    Args:
        layers: of every layer with parameters or multiply-accumulates.
    """

    layers: tuple[LayerCount, ...]

    @property
    def parameters(self) -> int:
        """All parameters, 1-bit ones included."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def binary_parameters(self) -> int:
        """Parameters of the binary convolutions."""
        return sum(layer.parameters for layer in self.layers if layer.binary)

    @property
    def binary_macs(self) -> int:
        """1-bit multiply-accumulates for one image (BOPs)."""
        return sum(layer.macs for layer in self.layers if layer.binary)

    @property
    def float_macs(self) -> int:
        """All other multiply-accumulates for one image (FLOPs)."""
        return sum(layer.macs for layer in self.layers if not layer.binary)

    @property
    def ops(self) -> float:
        """BOPs / 64 + FLOPs, as Bi-Real Net (arXiv 1808.00278) and ReActNet count operations."""
        return self.binary_macs / _BINARY_OPERATIONS_PER_INSTRUCTION + self.float_macs

    @property
    def size_bytes(self) -> int:
        """Of all parameters; a flatbuffer holds its graph besides."""
        return sum(layer.size_bytes for layer in self.layers)


def count(model: Any) -> Counts:
    """Count what a model costs.

    Multiply-accumulates are counted for convolutions (ordinary, depthwise, separable,
    transposed) and Dense layers, whatever stands in for them in Larq included; those of pooling,
    additions and activations are not, as in the papers.

    Args:
        model: functional or Sequential, with models nested in it or without, binary or not. (The
            shifts of a model that `convert.strip` made are constants of its graph, no parameters.)

    Returns:
        One record per layer; a layer that is called more than once has its parameters once and
        the multiply-accumulates of all calls.

    Raises:
        ValueError: when the model's graph cannot be read, or the spatial size of a layer that
            must be counted is unknown.

    Examples:
        `count(models.build("resnet18", classes=1000)).ops`
    """
    records: dict[int, LayerCount] = {}
    for key, record in _records(Graph(model).calls):
        before = records.get(key)
        if before is None:
            records[key] = record
        else:
            records[key] = LayerCount(
                record.name,
                record.kind,
                record.binary,
                record.parameters,
                before.macs + record.macs,
                record.size_bytes,
            )
    return Counts(tuple(records.values()))


def packed_words(channels: int) -> int:
    """Words that hold a bit of each of so many channels, the last one filled up.

    Args:
        channels: number of input channels.

    Returns:
        Number of 32-bit words.
    """
    return -(-channels // WORD_BITS)


def is_binary(layer: Any) -> bool:
    """Whether a layer is a convolution that is meant to become LceBconv2d.

    These are `QuantConv2D`, and `BitatConv2D` among them, with a kernel quantizer. LCE has no
    other binary layer.

    Args:
        layer: of Keras or Larq.

    Returns:
        True or False.
    """
    return isinstance(layer, lq.layers.QuantConv2D) and layer.kernel_quantizer is not None


def _records(calls: Iterable[Call]) -> Iterable[tuple[int, LayerCount]]:
    """A record for each call, with the identity of its layer."""
    for call in calls:
        if isinstance(call.layer, keras.Model):
            yield from _records(Graph(call.layer).calls)
        else:
            yield id(call.layer), _record(call)


def _record(call: Call) -> LayerCount:
    layer = call.layer
    parameters = _parameters(layer)
    size = _FLOAT_BYTES * parameters
    if is_binary(layer):
        kh, kw, c_in, c_out = layer.kernel.shape
        words = kh * kw * c_out * packed_words(c_in)
        size += _FLOAT_BYTES * (words - kh * kw * c_in * c_out)
    return LayerCount(
        layer.name, type(layer).__name__, is_binary(layer), parameters, _macs(call), size
    )


def _parameters(layer: Any) -> int:
    if isinstance(layer, keras.layers.BatchNormalization):
        return 2 * int(layer.moving_mean.shape[0])
    if isinstance(layer, RSign):
        return _size(layer.shift)
    if isinstance(layer, lq.layers.QuantConv2D):
        return _size(layer.kernel) + (_size(layer.bias) if layer.use_bias else 0)
    return sum(_size(weight) for weight in layer.weights)


def _size(weight: Any) -> int:
    return math.prod(weight.shape)


_layers = keras.layers

# What is summed at each position, and whether the positions are the input's; the first that fits.
_KERNELS: tuple[tuple[Any, Callable[[Any], int], bool], ...] = (
    (_layers.Conv2DTranspose, lambda layer: _size(layer.kernel), True),
    (
        _layers.SeparableConv2D,
        lambda layer: _size(layer.depthwise_kernel) + _size(layer.pointwise_kernel),
        False,
    ),
    (_layers.DepthwiseConv2D, lambda layer: _size(layer.depthwise_kernel), False),
    (_layers.Conv2D, lambda layer: _size(layer.kernel), False),
    (_layers.Dense, lambda layer: _size(layer.kernel), False),
)


def _macs(call: Call) -> int:
    layer = call.layer
    for kind, kernel_size, of_input in _KERNELS:
        if isinstance(layer, kind):
            (shape,) = call.input_shapes if of_input else call.output_shapes
            positions = [side for side in shape[1:-1] if side is not None]
            if len(positions) < len(shape) - 2:
                raise ValueError(
                    f"`model` must have an input of fixed size to be counted. Received: layer "
                    f"{layer.name!r} with the shape {shape}. Rebuild it with the size it will see "
                    "on the device."
                )
            return kernel_size(layer) * math.prod(positions)
    return 0
