"""A network as a list of operations that can be edited: what all rewrites of the fold work on.

Keras' own graph cannot be changed in place, and says the same thing in several ways (an
activation within a convolution, a quantizer within another). Here each operation is one
`Node` with its numbers beside it, in float64 so that folding adds no rounding of its own;
`reading` makes a `Network` of a Keras model, and `writing` a Keras model of it.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bitat_tf.graph import Call, TensorId

# Operations that have numbers of their own, and the names of these numbers.
CONVOLUTION = "convolution"  # kernel (kh, kw, c_in, c_out), bias (c_out,)
DEPTHWISE = "depthwise"  # kernel (kh, kw, c_in, multiplier), bias
DENSE = "dense"  # kernel (inputs, outputs), bias
BINARY = "binary convolution"  # signs (kh, kw, c_in, c_out) in {-1, +1}, scale and bias (c_out,)
BATCHNORM = "batch norm"  # gamma, beta, mean, variance, each (channels,)
PRELU = "prelu"  # slope (channels,)
SHIFT = "shift"  # constant (channels,): x + constant
FAKE_QUANT = "fake quant"  # range (2,): x rounded to 8 bits between its two values
# ... and those that have none.
SIGN, ADD, CONCAT, RELU, FLATTEN = "sign", "add", "concat", "relu", "flatten"
AVERAGE_POOL, POOL, PASS = "average pool", "pool", "pass"
# Whatever else there is: run as it is, and nothing is known about it.
OTHER = "other"


@dataclass(eq=False)
class Node:
    """One operation.

    Attributes:
        kind: one of the constants above.
        name: of the Keras layer it becomes, unique.
        inputs: tensors it reads.
        outputs: tensors it makes; one, but for kind `OTHER`.
        numbers: by the names above, float64.
        layer: the Keras layer it was read from, whose configuration holds everything else.
        settings: changes of that configuration.
        call: of that layer; `OTHER` repeats it.
    """

    kind: str
    name: str
    inputs: list[TensorId]
    outputs: list[TensorId]
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    layer: Any = None
    call: Call | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> TensorId:
        """The one tensor it makes."""
        return self.outputs[0]

    def renamed(self, name: str, inputs: list[TensorId]) -> "Node":
        """A copy under another name, on other inputs, with an output of its own."""
        return dataclasses.replace(
            self,
            name=name,
            inputs=list(inputs),
            outputs=[name],
            numbers=dict(self.numbers),
            settings=dict(self.settings),
        )


class Network:
    """Operations in an order in which they can run, and questions about them.

    Attributes:
        nodes: sources first.
        inputs, outputs: tensors of the model.
        shapes: tensor -> shape without the batch.
    """

    def __init__(
        self,
        nodes: list[Node],
        inputs: tuple[TensorId, ...],
        outputs: tuple[TensorId, ...],
        shapes: dict[TensorId, tuple[int | None, ...]],
    ) -> None:
        self.nodes = nodes
        self.inputs = inputs
        self.outputs = list(outputs)
        self.shapes = shapes

    def channels(self, tensor: TensorId) -> int:
        """Size of a tensor's last dimension."""
        size = self.shapes[tensor][-1]
        if size is None:
            raise ValueError(f"Tensor {tensor} must have a known number of channels.")
        return size

    def elements(self, tensor: TensorId) -> int:
        """Number of a tensor's values for one image; unknown dimensions count once."""
        return int(np.prod([size or 1 for size in self.shapes[tensor]]))

    def of_kind(self, *kinds: str) -> list[Node]:
        """The nodes of these kinds, as they are now."""
        return [node for node in self.nodes if node.kind in kinds]

    def producer(self, tensor: TensorId) -> Node | None:
        """The node that makes a tensor; None of the model's inputs."""
        return next((node for node in self.nodes if tensor in node.outputs), None)

    def readers(self, tensor: TensorId) -> list[Node]:
        """The nodes that read a tensor."""
        return [node for node in self.nodes if tensor in node.inputs]

    def only_reader(self, tensor: TensorId) -> Node | None:
        """The one node that reads a tensor; None where there are more, or it is an output."""
        readers = self.readers(tensor)
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def insert(self, node: Node, before: Node, shape: tuple[int | None, ...]) -> None:
        """Put a new node, and the shape of what it makes, in front of another."""
        self.nodes.insert(self.nodes.index(before), node)
        self.shapes[node.output] = shape

    def bypass(self, node: Node) -> None:
        """Remove a node of one input; who read what it made reads its input instead."""
        self.redirect(node.output, node.inputs[0])
        self.nodes.remove(node)

    def redirect(self, old: TensorId, new: TensorId) -> None:
        """Let everybody who read one tensor read another."""
        for node in self.nodes:
            node.inputs = [new if tensor == old else tensor for tensor in node.inputs]
        self.outputs = [new if tensor == old else tensor for tensor in self.outputs]

    def prune(self) -> None:
        """Remove nodes that nobody reads."""
        for node in reversed(self.nodes):
            if not any(t in self.outputs or self.readers(t) for t in node.outputs):
                self.nodes.remove(node)


def affine(batchnorm: Node) -> tuple[np.ndarray, np.ndarray]:
    """A BatchNorm at inference as x -> factor * x + offset, (channels,) each."""
    numbers = batchnorm.numbers
    factor = numbers["gamma"] / np.sqrt(numbers["variance"] + batchnorm.layer.epsilon)
    return factor, numbers["beta"] - factor * numbers["mean"]
