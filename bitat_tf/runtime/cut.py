"""One operator cut out of a flatbuffer and replicated: what it costs alone.

A flatbuffer with n copies of an operator, all of which read the same inputs, takes t_n; then
(t_11 - t_1) / 10 is the time of one copy. What a run costs besides, copying input and output
and starting it, is in both and cancels.
"""

import copy
from typing import Any

import numpy as np

from bitat_tf.runtime.packing import pack
from bitat_tf.runtime.schema import schema

_SHAPE = schema.BuiltinOperator.SHAPE


def cut_out(model: Any, index: int, copies: int, output: int = 0) -> bytes:
    """A flatbuffer of one operator, `copies` times.

    Its inputs are what the operator reads and is no constant; its output is one of the first copy.
    The other copies are read by SHAPE operators, which cost next to nothing: a delegate would
    leave out what nobody reads, and an interpreter copy what is an output.

    Args:
        model: a flatbuffer as `runtime.read` gives it; it is not changed.
        index: of the operator, in execution order.
        copies: at least 1.
        output: which of the operator's outputs.

    Raises:
        ValueError: on a number out of range, or when the operator reads no tensor that is
            computed.
    """
    graph = model.subgraphs[0]
    if not 0 <= index < len(graph.operators):
        raise ValueError(
            f"`index` must be that of one of {len(graph.operators)} operators. Received: {index}"
        )
    if copies < 1:
        raise ValueError(f"`copies` must be at least 1. Received: {copies}")
    operator = graph.operators[index]
    small = _Flatbuffer(model)
    taken = {i: small.take(i) for i in operator.inputs if i >= 0}  # x + x reads one tensor twice
    read = [taken.get(i, -1) for i in operator.inputs]
    inputs = [taken[i] for i in computed_inputs(model, operator)]
    if not inputs:
        raise ValueError(f"`index` must be that of an operator with an input. Received: {index}")
    firsts = []
    for _ in range(copies):
        written = [small.add(graph.tensors[i]) for i in operator.outputs]
        small.append(operator, read, written)
        firsts.append(written[output])
    for first in firsts[1:]:
        small.append_shape(first)
    return small.pack(inputs, firsts[:1])


def computed_inputs(model: Any, operator: Any) -> tuple[int, ...]:
    """The tensors that an operator reads and that are no constants, each once, in its order.

    They are the inputs of what `cut_out` makes, in this order.
    """
    tensors = model.subgraphs[0].tensors
    return tuple(
        dict.fromkeys(
            int(i) for i in operator.inputs if i >= 0 and not _is_constant(model, tensors[i])
        )
    )


def _is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and not np.isscalar(data) and len(data) > 0


class _Flatbuffer:
    """A new flatbuffer that takes tensors and operators over from another."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._graph = schema.SubGraphT()
        self._graph.name, self._graph.tensors, self._graph.operators = b"main", [], []
        self._buffers = [schema.BufferT()]  # buffer 0 is the empty one
        shape = schema.OperatorCodeT()
        shape.builtinCode = shape.deprecatedBuiltinCode = _SHAPE
        shape.version = 1
        self._codes = [*source.operatorCodes, shape]

    def take(self, index: int) -> int:
        """A tensor of the source, with its constant if it is one; its new index."""
        tensor = self._source.subgraphs[0].tensors[index]
        new = self.add(tensor)
        if _is_constant(self._source, tensor):
            self._graph.tensors[new].buffer = len(self._buffers)
            self._buffers.append(self._source.buffers[tensor.buffer])
        return new

    def add(self, tensor: Any) -> int:
        """A tensor like this one, without content; its index."""
        made = copy.copy(tensor)
        made.buffer, made.isVariable = 0, False
        made.name = f"tensor_{len(self._graph.tensors)}".encode()
        self._graph.tensors.append(made)
        return len(self._graph.tensors) - 1

    def append(self, operator: Any, inputs: list[int], outputs: list[int]) -> None:
        """The same operator on other tensors."""
        made = copy.copy(operator)
        made.inputs, made.outputs = inputs, outputs
        self._graph.operators.append(made)

    def append_shape(self, tensor: int) -> None:
        """An operator that reads the tensor's shape."""
        result = schema.TensorT()
        result.shape = [len(self._graph.tensors[tensor].shape)]
        result.type = schema.TensorType.INT32
        made = schema.OperatorT()
        made.opcodeIndex = len(self._codes) - 1
        made.builtinOptionsType = schema.BuiltinOptions.ShapeOptions
        made.builtinOptions = schema.ShapeOptionsT()
        made.builtinOptions.outType = schema.TensorType.INT32
        self.append(made, [tensor], [self.add(result)])

    def pack(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The bytes."""
        self._graph.inputs, self._graph.outputs = inputs, outputs
        model = schema.ModelT()
        model.version, model.description = self._source.version, b"one operator"
        model.operatorCodes, model.subgraphs = self._codes, [self._graph]
        model.buffers = self._buffers
        return pack(model)
