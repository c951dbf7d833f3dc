"""Parallel branches of one input that end in a concatenation become one branch.

    [W_a^T x, W_b^T x] = [W_a, W_b]^T x
    [f_a(x), f_b(y)]   = f_ab([x, y])            per channel: BatchNorm, shift, ReLU, PReLU
    [x + u, y + v]     = [x, y] + [u, v]

Applied from the concatenation upwards, ReActNet's doubling of channels (two 1x1 convolutions,
each with BatchNorm and shortcut, concatenated) becomes one convolution with twice the outputs,
one BatchNorm, one sum. Its shortcut is concatenated with itself, which copies as many values as
the concatenation that went.
"""

import numpy as np

from bitat_tf.convert.fold.network import (
    ADD,
    BATCHNORM,
    BINARY,
    CONCAT,
    CONVOLUTION,
    PRELU,
    RELU,
    SHIFT,
    Network,
    Node,
)
from bitat_tf.graph import TensorId

_CONVOLUTIONS = (BINARY, CONVOLUTION)
_PER_CHANNEL = (BATCHNORM, SHIFT, PRELU, RELU)


# What must be the same of two convolutions that become one.
_GEOMETRY = ("kernel_size", "strides", "padding", "dilation_rate", "pad_values")


def merge_branches(network: Network) -> list[str]:
    """Merge where all branches of a concatenation allow it; returns the merged names."""
    merged = []
    for concat in network.of_kind(CONCAT):
        if _mergeable(network, concat.inputs):
            joiner = _Joiner(network, concat)
            network.redirect(concat.output, joiner.join(concat.inputs))
            network.prune()
            merged += joiner.convolutions
    return merged


def _mergeable(network: Network, tensors: list[TensorId]) -> bool:
    """Whether what makes these tensors comes down to convolutions of one input."""
    nodes = [network.producer(tensor) for tensor in tensors]
    made = [node for node in nodes if node is not None]
    apart = len(set(tensors)) == len(tensors) == len(made)
    if not apart or len({node.kind for node in made}) > 1:
        return False
    if any(network.only_reader(tensor) is None for tensor in tensors):
        return False
    kind = made[0].kind
    if kind in _CONVOLUTIONS:
        return len({(node.inputs[0], _geometry(node)) for node in made}) == 1
    if kind == BATCHNORM and len({node.layer.epsilon for node in made}) > 1:
        return False
    if kind in _PER_CHANNEL:
        return _mergeable(network, [node.inputs[0] for node in made])
    if kind == ADD:
        operands = [_convolved(network, node) for node in made]
        return None not in operands and _mergeable(network, [t for t in operands if t])
    return False


def _geometry(node: Node) -> tuple[object, ...]:
    return tuple(node.settings.get(key, getattr(node.layer, key, None)) for key in _GEOMETRY)


def _convolved(network: Network, add: Node) -> TensorId | None:
    """The operand of a sum of two that a convolution was made for, if there is one."""
    for tensor in add.inputs if len(set(add.inputs)) == len(add.inputs) == 2 else ():
        node = network.producer(tensor) if network.only_reader(tensor) is add else None
        while node is not None and node.kind in _PER_CHANNEL:
            node = network.producer(node.inputs[0])
        if node is not None and node.kind in _CONVOLUTIONS:
            return tensor
    return None


class _Joiner:
    """Makes the merged branch in front of a concatenation."""

    def __init__(self, network: Network, concat: Node) -> None:
        self.convolutions: list[str] = []
        self._network = network
        self._concat = concat

    def join(self, tensors: list[TensorId]) -> TensorId:
        """One tensor in place of the concatenation of these, which are mergeable."""
        nodes = [node for node in map(self._network.producer, tensors) if node is not None]
        first = nodes[0]
        if first.kind == ADD:
            convolved = [_convolved(self._network, node) or "" for node in nodes]
            others = [
                tensor
                for node, operand in zip(nodes, convolved, strict=True)
                for tensor in node.inputs
                if tensor != operand
            ]
            inputs = [self.join(convolved), self._together(others, nodes)]
        elif first.kind in _CONVOLUTIONS:
            inputs = [first.inputs[0]]
        else:
            inputs = [self.join([node.inputs[0] for node in nodes])]
        node = first.renamed(_joint_name(nodes), inputs)
        for key in node.numbers:
            node.numbers[key] = np.concatenate([n.numbers[key] for n in nodes], axis=-1)
        if first.kind in _CONVOLUTIONS:
            self.convolutions.append(node.name)
        return self._put(node, tensors)

    def _together(self, tensors: list[TensorId], sums: list[Node]) -> TensorId:
        name = f"{_joint_name(sums)}_shortcut"
        return self._put(Node(CONCAT, name, tensors, [name]), tensors)

    def _put(self, node: Node, tensors: list[TensorId]) -> TensorId:
        channels = sum(self._network.channels(tensor) for tensor in tensors)
        shape = (*self._network.shapes[tensors[0]][:-1], channels)
        self._network.insert(node, self._concat, shape)
        return node.output


def _joint_name(nodes: list[Node]) -> str:
    return "_and_".join(node.name for node in nodes)
