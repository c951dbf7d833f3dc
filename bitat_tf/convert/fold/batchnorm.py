"""A BatchNorm behind a float convolution or dense layer goes into kernel and bias.

    g (W^T x + b) + h = (W diag(g))^T x + (g b + h)

The converter does the same; here because the kernel that int8 rounds must be the final one.
"""

import numpy as np

from bitat_tf.convert.fold.network import (
    BATCHNORM,
    CONVOLUTION,
    DENSE,
    DEPTHWISE,
    Network,
    Node,
    affine,
)


def fold_batchnorms(network: Network) -> list[str]:
    """Fold them; returns their names."""
    folded = []
    for node in network.of_kind(CONVOLUTION, DEPTHWISE, DENSE):
        reader = network.only_reader(node.output)
        if reader is not None and reader.kind == BATCHNORM:
            _fold(node, *affine(reader))
            network.bypass(reader)
            folded.append(reader.name)
    return folded


def _fold(node: Node, factor: np.ndarray, offset: np.ndarray) -> None:
    numbers = node.numbers
    kernel = numbers["kernel"]
    outputs = kernel.shape[-2:] if node.kind == DEPTHWISE else kernel.shape[-1:]
    numbers["kernel"] = kernel * factor.reshape(outputs)
    numbers["bias"] = numbers["bias"] * factor + offset
