"""What only a sign reads is only a threshold.

    sign(a x + b) = sign(x + b / a)          for a > 0: a BatchNorm becomes an addition
    sign(f(x) + c) = sign(x - f^-1(-c))      for a rising f: a PReLU, or a ReLU where c < 0

and the addition is then moved like any other (`shifts`). A BatchNorm straight behind a
convolution stays: the converter fuses it. With a < 0 it stays as well: turning the sign round
would turn its one-padding round.
"""

import numpy as np

from bitat_tf.convert.fold.network import (
    BATCHNORM,
    BINARY,
    CONVOLUTION,
    DENSE,
    DEPTHWISE,
    PRELU,
    RELU,
    SHIFT,
    SIGN,
    Network,
    Node,
    affine,
)

_FUSE_BATCHNORM = (BINARY, CONVOLUTION, DEPTHWISE, DENSE)


def to_thresholds(network: Network) -> list[str]:
    """Turn them into additions; returns the names of what went."""
    gone = []
    for sign in network.of_kind(SIGN):
        # A reader of many gives way only where all of them are signs: then each looks for itself.
        while (node := _in_front(network, sign)) is not None:
            gone.append(node.name)
    return list(dict.fromkeys(gone))


def _in_front(network: Network, sign: Node) -> Node | None:
    """Replace what stands in front of a sign's own addition; None where nothing can be."""
    addition = network.producer(sign.inputs[0])
    constant = np.zeros(1)
    if addition is not None and addition.kind == SHIFT:
        if network.only_reader(addition.output) is not sign:
            return None
        constant, source = addition.numbers["constant"], addition.inputs[0]
    else:
        addition, source = None, sign.inputs[0]
    node = network.producer(source)
    if node is None or network.only_reader(source) not in (sign, addition):
        return None
    threshold = _threshold(network, node, constant)
    if threshold is None:
        return None
    if addition is None:
        name = f"{node.name}_threshold"
        addition = Node(SHIFT, name, [source], [name])
        network.insert(addition, sign, network.shapes[source])
        sign.inputs = [addition.output]
    addition.numbers["constant"] = threshold
    network.bypass(node)
    return node


def _threshold(network: Network, node: Node, constant: np.ndarray) -> np.ndarray | None:
    """What to add to the node's input instead; None where nothing has the same sign."""
    if node.kind == BATCHNORM:
        before = network.producer(node.inputs[0])
        factor, offset = affine(node)
        fused = before is not None and before.kind in _FUSE_BATCHNORM
        if fused or np.any(factor <= 0):
            return None
        return (offset + constant) / factor
    if node.kind == PRELU:
        slope = node.numbers["slope"]
    elif node.kind == RELU:
        slope = np.zeros(network.channels(node.output))
    else:
        return None
    below = constant > 0  # the threshold lies where the slope counts
    if np.any((slope <= 0) & (below | (slope < 0))):
        return None
    return np.where(below, constant / np.where(slope > 0, slope, 1.0), constant)
