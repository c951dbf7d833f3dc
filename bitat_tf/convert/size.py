"""What the bytes of a flatbuffer are, and why it is larger or smaller than its weights.

A binary network's weights shrink to a thirty-second, and what was small beside them is not any
more: names, the description of the graph, the packing into whole words, a float stem. The
difference between the file and what its parameters take is taken apart without a remainder, and
where it is more than `STATED_SHARE` of the latter, every cause of weight gets a sentence.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bitat_tf.counts import Counts
from bitat_tf.results import OpRecord, SizeBreakdown
from bitat_tf.runtime import operator_name, type_name

# Of the predicted size. Below it nobody wonders.
STATED_SHARE = 0.10
# Of the difference, that a cause must make up to be named.
_CAUSE_SHARE = 0.10

_FLOAT_BYTES = 4
# Operators whose second input is a kernel.
_KERNELS = {
    "LceBconv2d",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "TRANSPOSE_CONV",
}
_BY_TYPE = {"INT32": "binary", "FLOAT32": "float", "INT8": "int8"}


def break_down(
    model: Any, size_bytes: int, ops: Sequence[OpRecord], counts: Counts | None = None
) -> SizeBreakdown:
    """Take the size of a flatbuffer apart.

    Args:
        model: as `runtime.read` gives it.
        size_bytes: of the file.
        ops: its operators.
        counts: of the model it was made from, if known.
    """
    kinds = _kinds(model)
    sums = dict.fromkeys(("binary", "float", "int8", "constants", "metadata", "unused"), 0)
    for index, kind in kinds.items():
        sums[kind] += _length(model.buffers[index])
    bits = sum(math.prod(op.kernel_shape) for op in ops if op.binary)
    rest = sums["float"] + sums["int8"] + sums["constants"]
    predicted = math.ceil(bits / 8) + rest
    if counts is not None:
        floats = counts.parameters - counts.binary_parameters
        predicted = math.ceil(counts.binary_parameters / 8) + _FLOAT_BYTES * floats
    size = SizeBreakdown(
        binary_kernels=sums["binary"],
        float_kernels=sums["float"],
        int8_kernels=sums["int8"],
        constants=sums["constants"],
        metadata=sums["metadata"],
        unused=sums["unused"],
        graph=size_bytes - sum(sums.values()),
        duplicates=_duplicates(model, kinds),
        predicted=predicted,
    )
    causes = _causes(size, math.ceil(bits / 8), counts, _tensors(model), len(ops))
    notes = _notes(size_bytes - predicted, predicted, causes)
    return SizeBreakdown(**{**vars(size), "notes": notes})


def _kinds(model: Any) -> dict[int, str]:
    """The kind of every buffer that has content."""
    kinds: dict[int, str] = {}
    for graph in model.subgraphs:
        for operator in graph.operators or []:
            name = operator_name(model, operator)
            for position, index in enumerate(operator.inputs):
                if index < 0:
                    continue
                tensor = graph.tensors[index]
                is_kernel = position == 1 and name in _KERNELS
                kind = _BY_TYPE.get(type_name(tensor), "constants") if is_kernel else "constants"
                # One that is both is a kernel.
                if is_kernel or tensor.buffer not in kinds:
                    kinds[tensor.buffer] = kind
    for entry in model.metadata or []:
        kinds[entry.buffer] = "metadata"
    full = {index for index, buffer in enumerate(model.buffers) if _length(buffer)}
    return {index: kinds.get(index, "unused") for index in sorted(full)}


def _length(buffer: Any) -> int:
    data = buffer.data
    return 0 if data is None or isinstance(data, int) else len(data)


def _duplicates(model: Any, kinds: dict[int, str]) -> int:
    """Bytes of kernels and constants that another buffer holds already."""
    seen: set[bytes] = set()
    twice = 0
    for index, kind in kinds.items():
        if kind in ("metadata", "unused"):
            continue
        content = np.asarray(model.buffers[index].data, np.uint8).tobytes()
        digest = hashlib.sha256(content).digest()
        twice += len(content) if digest in seen else 0
        seen.add(digest)
    return twice


def _tensors(model: Any) -> int:
    return sum(len(graph.tensors or []) for graph in model.subgraphs)


def _causes(
    size: SizeBreakdown, bit_bytes: int, counts: Counts | None, tensors: int, operators: int
) -> dict[str, int]:
    """Why -> bytes; together the difference between the file and what is predicted."""
    causes = {
        f"the graph itself: {tensors} tensors with name and shape, {operators} operators": (
            size.graph
        ),
        "input channels of binary kernels that are filled up to words of 32": (
            size.binary_kernels - bit_bytes
        ),
        "metadata: labels, preprocessing, recipe and what the converter notes": size.metadata,
        "buffers that no operator reads": size.unused,
    }
    if counts is None:
        return causes
    bits = math.ceil(counts.binary_parameters / 8)
    left_float = bit_bytes - bits  # negative where binary weights are not stored as bits
    floats = _FLOAT_BYTES * (counts.parameters - counts.binary_parameters)
    saved = (_FLOAT_BYTES - 1) * size.int8_kernels
    # What is stored in 4 bytes though the model has it as binary weights.
    wrongly = max(0, -left_float) * 8 * _FLOAT_BYTES
    stored = size.float_kernels + size.constants + size.int8_kernels
    extra = stored + saved - wrongly - floats - size.duplicates
    return causes | {
        "kernels meant to be binary that are stored as floats": wrongly + left_float
        if left_float < 0
        else 0,
        "binary kernels that the model does not have": max(0, left_float),
        "kernels in int8 instead of float32": -saved,
        "the same constants stored more than once": size.duplicates,
        "constants that the graph needs beside the model's parameters (thresholds, factors and "
        "offsets of channels)"
        if extra > 0
        else "parameters that were folded into others": extra,
    }


def _notes(difference: int, predicted: int, causes: dict[str, int]) -> tuple[str, ...]:
    if abs(difference) <= STATED_SHARE * predicted:
        return ()
    least = _CAUSE_SHARE * abs(difference)
    named = sorted(causes.items(), key=lambda cause: -abs(cause[1]))
    return tuple(
        f"{number / 1024:+.1f} KiB: {cause}." for cause, number in named if abs(number) >= least
    )
