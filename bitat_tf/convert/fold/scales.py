"""The scale of a binary kernel moves into the BatchNorm behind it.

    BN(alpha v) = gamma (alpha v - mean) / sigma + beta = BN'(v),
    gamma' = gamma alpha, mean' = mean / alpha

and through what stands between and keeps the order of values, because alpha >= 0:
ReLU(alpha v) = alpha ReLU(v), and so for pooling. Where alpha = 0, whatever v is, the channel
is the constant BN(0): gamma' = 0, beta' = BN(0).

Motive: LCE leaves a whole convolution float where one channel of its kernel is all zero, and
fuses a ReLU only with a kernel of +-1.
"""

import numpy as np

from bitat_tf.convert.fold.network import (
    AVERAGE_POOL,
    BATCHNORM,
    BINARY,
    POOL,
    RELU,
    Network,
    Node,
    affine,
)

_HOMOGENEOUS = (RELU, POOL, AVERAGE_POOL)


def move_scales(network: Network) -> list[str]:
    """Make kernels +-1 that have a BatchNorm behind them; returns their names."""
    moved = []
    for node in network.of_kind(BINARY):
        scale, bias = node.numbers["scale"], node.numbers["bias"]
        batchnorm = _batchnorm_behind(network, node)
        dead_with_bias = np.any((scale == 0) & (bias != 0))
        if batchnorm is not None and np.any(scale != 1) and not dead_with_bias:
            _move(node, batchnorm)
            moved.append(node.name)
    return moved


def _batchnorm_behind(network: Network, node: Node) -> Node | None:
    reader = network.only_reader(node.output)
    while reader is not None and reader.kind in _HOMOGENEOUS:
        reader = network.only_reader(reader.output)
    return reader if reader is not None and reader.kind == BATCHNORM else None


def _move(node: Node, batchnorm: Node) -> None:
    scale, numbers = node.numbers["scale"], batchnorm.numbers
    _, at_zero = affine(batchnorm)
    dead = scale == 0
    divisor = np.where(dead, 1.0, scale)
    numbers["gamma"] = numbers["gamma"] * scale
    numbers["mean"] = np.where(dead, 0.0, numbers["mean"] / divisor)
    numbers["beta"] = np.where(dead, at_zero, numbers["beta"])
    node.numbers["bias"] = node.numbers["bias"] / divisor
    node.numbers["scale"] = np.ones_like(scale)
