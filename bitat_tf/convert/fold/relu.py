"""ReLU moves in front of the BatchNorm where that is the same, so that LCE fuses it.

LCE fuses a ReLU with a convolution only directly, before scale and offset. With the BatchNorm
g v + h and h = 0,

    ReLU(g v) = |g| ReLU(sign(g) v)

so ReLU and BatchNorm change places where all offsets are 0, and a negative g turns the
kernel's signs of its output channel round. With h != 0 the two do not commute.
"""

import numpy as np

from bitat_tf.convert.fold.network import BATCHNORM, BINARY, RELU, Network, Node, affine

# A convolution's sums are whole numbers: an offset of this share of one is float rounding.
_ROUNDING = 1e-6


def relu_first(network: Network) -> list[str]:
    """Let them change places; returns the names of the ReLUs that moved."""
    moved = []
    for relu in network.of_kind(RELU):
        batchnorm = network.producer(relu.inputs[0])
        if batchnorm is None or batchnorm.kind != BATCHNORM:
            continue
        convolution = network.producer(batchnorm.inputs[0])
        if convolution is not None and _commute(network, convolution, batchnorm):
            _exchange(network, convolution, batchnorm, relu)
            moved.append(relu.name)
    return moved


def _commute(network: Network, convolution: Node, batchnorm: Node) -> bool:
    factor, offset = affine(batchnorm)
    return (
        convolution.kind == BINARY
        and bool(np.all(convolution.numbers["scale"] == 1))
        and not convolution.numbers["bias"].any()
        and bool(np.all(np.abs(offset) <= _ROUNDING * np.abs(factor)))
        and network.only_reader(convolution.output) is batchnorm
        and network.only_reader(batchnorm.output) is not None
    )


def _exchange(network: Network, convolution: Node, batchnorm: Node, relu: Node) -> None:
    factor, _ = affine(batchnorm)
    numbers = batchnorm.numbers
    numbers["gamma"] = np.abs(numbers["gamma"])
    numbers["mean"] = np.zeros_like(numbers["mean"])
    numbers["beta"] = np.zeros_like(numbers["beta"])
    convolution.numbers["signs"] = convolution.numbers["signs"] * np.where(factor < 0, -1.0, 1.0)
    between, end = batchnorm.output, relu.output
    relu.inputs, relu.outputs = [convolution.output], [between]
    batchnorm.inputs, batchnorm.outputs = [between], [end]
    network.nodes.remove(batchnorm)
    network.nodes.insert(network.nodes.index(relu) + 1, batchnorm)
