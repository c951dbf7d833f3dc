"""What a flatbuffer really contains, read through the schema.

The converter leaves a convolution float without a word where one of its conditions is not
met (docs: what becomes LceBconv2d). So the intended kernels are looked up in the flatbuffer by
content (`kernels`), which also proves that it holds the bits that were trained.
"""

import math
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flatbuffers import flexbuffers

from bitat_tf.convert.kernels import find_packed, holds_float
from bitat_tf.convert.lce_operators import missing_on_android
from bitat_tf.convert.size import break_down
from bitat_tf.counts import WORD_BITS, Counts
from bitat_tf.results import AuditReport, OpRecord
from bitat_tf.runtime import REMEDY, operator_name, read, tensor_shape, type_name

BINARY_CONVOLUTION = "LceBconv2d"
"""Type of LCE's binary convolution in a flatbuffer."""
_FLOAT_CONVOLUTION = "CONV_2D"
# All of these have their weights as the second input, of so many dimensions.
_WITH_KERNEL = {
    BINARY_CONVOLUTION: 4,
    _FLOAT_CONVOLUTION: 4,
    "DEPTHWISE_CONV_2D": 4,
    "FULLY_CONNECTED": 2,
}


def audit(
    flatbuffer: bytes,
    intended: Mapping[str, np.ndarray] | None = None,
    counts: Counts | None = None,
) -> AuditReport:
    """Read a flatbuffer's operators, and check that the intended convolutions are binary.

    Multiply-accumulates are counted for convolutions (binary, float, depthwise) and dense
    layers; a constant that several operators read counts for the first of them.

    Args:
        flatbuffer: content of a `.tflite` file.
        intended: `binary_kernels` of the Keras model it was made from, (kh, kw, c_in, c_out) each;
            None checks nothing.
        counts: `counts.count` of that model, which the size is compared with; None compares
            with the flatbuffer's own kernels and constants.

    Returns:
        The report; `missing` names every intended convolution whose kernel no LceBconv2d holds,
        with what holds it instead.

    Raises:
        ValueError: when it is not a whole TFLite flatbuffer.
    """
    model = read(flatbuffer)
    graph = model.subgraphs[0]
    counted: set[int] = set()
    ops = [_Op(model, graph, operator) for operator in graph.operators or []]
    records = tuple(op.record(index, counted) for index, op in enumerate(ops))
    first, last = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    return AuditReport(
        ops=records,
        size_bytes=len(flatbuffer),
        input_shape=tensor_shape(first),
        input_type=type_name(first),
        output_shape=tensor_shape(last),
        output_type=type_name(last),
        missing=tuple(_missing(ops, intended or {})),
        size=break_down(model, len(flatbuffer), records, counts),
        warnings=missing_on_android(model),
    )


class _Op:
    """One operator with the constants it reads."""

    def __init__(self, model: Any, graph: Any, operator: Any) -> None:
        self.type = operator_name(model, operator)
        self.inputs = [graph.tensors[i] for i in _or_empty(operator.inputs) if i >= 0]
        self.output = graph.tensors[operator.outputs[0]]
        self.name = (self.output.name or b"").decode(errors="replace")
        self._buffers = model.buffers
        self._taken: set[int] = set()
        self._options = _or_empty(operator.customOptions)
        self._check_rank()
        self.kernel = self._kernel() if self.type in _WITH_KERNEL else None

    @property
    def binary(self) -> bool:
        return self.type == BINARY_CONVOLUTION

    def take(self, kernel: np.ndarray) -> bool:
        """Whether this convolution was made from the kernel (kh, kw, c_in, c_out).

        If so its output channels are taken, and no other kernel can be found in them.
        """
        if self.kernel is None:
            return False
        if self.binary:
            writes_bits = type_name(self.output) == "INT32"
            starts = find_packed(self.kernel, kernel, writes_bits)
        else:
            starts = (0,) if holds_float(self.kernel, kernel) else ()
        for start in starts:
            channels = set(range(start, start + kernel.shape[-1]))
            if channels.isdisjoint(self._taken):
                self._taken |= channels
                return True
        return False

    def record(self, index: int, counted: set[int]) -> OpRecord:
        """The record; buffers in `counted` are counted already, and its own join them."""
        size = 0
        for tensor in self.inputs:
            data = self._buffers[tensor.buffer].data
            if data is not None and tensor.buffer not in counted:
                size += len(data)
                counted.add(tensor.buffer)
        shape = self._kernel_shape()
        return OpRecord(
            index=index,
            type=self.type,
            name=self.name,
            output_shape=tensor_shape(self.output),
            output_type=type_name(self.output),
            kernel_shape=shape,
            binary=self.binary,
            macs=self._positions() * math.prod(shape) if shape and not self._averages() else 0,
            size_bytes=size,
            pooling=self._averages(),
        )

    def _check_rank(self) -> None:
        if self.type in _WITH_KERNEL and len(self.inputs) > 1:
            shape = tensor_shape(self.inputs[1])
            if len(shape) != _WITH_KERNEL[self.type]:
                raise ValueError(
                    f"The flatbuffer is corrupt: {self.type} {self.name!r} has weights of shape "
                    f"{shape}. {REMEDY}"
                )

    def _averages(self) -> bool:
        if self.type != "DEPTHWISE_CONV_2D" or self.kernel is None:
            return False
        share = np.float32(1 / math.prod(self.kernel.shape[1:3]))
        return bool(np.all(self.kernel == share))

    def _kernel(self) -> np.ndarray | None:
        """The weights as stored; None where they are computed while running, or quantized."""
        tensor = self.inputs[1] if len(self.inputs) > 1 else None
        data = None if tensor is None else self._buffers[tensor.buffer].data
        dtype = {"FLOAT32": "<f4", "INT32": "<i4"}.get("" if tensor is None else type_name(tensor))
        if data is None or dtype is None:
            return None
        return np.frombuffer(bytes(data), dtype).reshape(tensor_shape(tensor))

    def _kernel_shape(self) -> tuple[int, ...]:
        """(c_out, kh, kw, c_in), with the true c_in of a packed kernel; () of other operators."""
        if self.type not in _WITH_KERNEL or len(self.inputs) < 2:
            return ()
        stored = tensor_shape(self.inputs[1])
        if self.type == "FULLY_CONNECTED":
            return (stored[0], 1, 1, stored[1])
        if self.type == "DEPTHWISE_CONV_2D":
            return (stored[3], stored[1], stored[2], 1)
        if self.binary:
            # Groups are whole words, so only a single group can fill its last word in part.
            channels = self._custom("channels_in")
            return (*stored[:3], min(channels, stored[3] * WORD_BITS))
        return stored

    def _custom(self, key: str) -> int:
        try:
            return int(flexbuffers.Loads(bytes(self._options))[key])
        # What the reader of options raises where they are damaged, or lead round in a circle.
        except (
            KeyError,
            IndexError,
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
            struct.error,
        ) as err:
            raise ValueError(
                f"The options of {self.type} {self.name!r} are corrupt. {REMEDY}"
            ) from err

    def _positions(self) -> int:
        """How often the kernel is applied: batch * height * width of the output."""
        return math.prod(tensor_shape(self.output)[:-1])


def _or_empty(vector: Any) -> Any:
    """The reader gives None or 0 for a vector that is left out."""
    return [] if vector is None or np.isscalar(vector) else vector


def _missing(ops: Iterable[_Op], intended: Mapping[str, np.ndarray]) -> Iterable[str]:
    """Match every intended kernel with output channels of its own; those without, explained."""
    binary = [op for op in ops if op.type == BINARY_CONVOLUTION]
    others = [op for op in ops if op.type == _FLOAT_CONVOLUTION]
    for name, kernel in intended.items():
        if any(op.take(kernel) for op in binary):
            continue
        instead = next((op for op in others if op.take(kernel)), None)
        found = f"{instead.type} {instead.name!r}" if instead else "no operator with its kernel"
        yield f"{name} (found: {found})"
