"""Stem and classifier in int8, the binary layers between them untouched.

A small binary net's float weights are in its ends. `fake_quant` in the Keras graph, with ranges
calibrated on images, makes the converter compute a convolution or dense layer in int8; it
quantizes the weights itself. They are rounded here already, as it will do it, so that the Keras
model computes what the device does, but for sums that fall between two values. Whether the
converter took the hint is read from the flatbuffer's types.

What is an end: a layer with a float kernel that every binary convolution depends on (the stem,
however deep), or that depends on all of them (the classifier). A convolution on a shortcut or
between binary layers is neither. int8 in front of a sign rounds values near its threshold to
the other side; that is why it goes no further.
"""

from typing import Any

import numpy as np

from bitat_tf.convert.fold.network import (
    BINARY,
    CONVOLUTION,
    DENSE,
    DEPTHWISE,
    FAKE_QUANT,
    RELU,
    Network,
    Node,
)
from bitat_tf.convert.fold.reading import read
from bitat_tf.convert.fold.writing import write
from bitat_tf.graph import Graph, Sweep, TensorId
from bitat_tf.runtime import operator_name, type_name
from bitat_tf.runtime import read as read_flatbuffer

_KERNELS = (CONVOLUTION, DEPTHWISE, DENSE)
_OPERATORS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
_BATCH = 64

# Share of the values cut off at either end of a range. The steps between grow with the range,
# and a few outliers would make them coarse: on CIFAR-10 nano the stem's range shrinks by 40 %,
# and flatbuffer and Keras then agree on 99.5 instead of 98.0 % of 2,000 images.
_CUT = 1e-4


def quantize_ends(model: Any, calibration_images: np.ndarray) -> tuple[Any, tuple[str, ...]]:
    """A model whose stem and classifier the converter makes int8.

    Args:
        model: of plain Keras and Larq layers, best folded: the BatchNorms of the ends should be
            in their kernels.
        calibration_images: float32, (n, height, width, channels), preprocessed as in training.
            The ranges hold what they lead to, but for a few outliers; 0 always lies within.

    Returns:
        The new model, and the names of the layers that are to be int8.

    Raises:
        ValueError: when there is no such layer, or the images do not fit the model.
    """
    plain = write(read(model), model)  # one operation a layer
    network = read(plain)
    ends = _ends(network)
    if not ends:
        raise ValueError(
            f"`model` ({model.name!r}) has no stem or classifier with a float kernel: no "
            "convolution or dense layer lies before or behind all binary ones."
        )
    tensors = list(dict.fromkeys(t for node in ends for t in _borders(network, node)))
    for tensor, limits in _ranges(plain, tensors, calibration_images).items():
        _insert(network, tensor, limits)
    for node in ends:
        node.numbers["kernel"] = _rounded(node)
    return write(network, plain), tuple(node.name for node in ends)


def int8_operators(flatbuffer: bytes) -> int:
    """How many convolutions and dense layers read, multiply and write int8."""
    model = read_flatbuffer(flatbuffer)
    graph = model.subgraphs[0]
    count = 0
    for operator in graph.operators or []:
        if operator_name(model, operator) in _OPERATORS:
            used = (*operator.inputs[:2], *operator.outputs)
            count += {type_name(graph.tensors[index]) for index in used} == {"INT8"}
    return count


def _ends(network: Network) -> list[Node]:
    binary = {id(node) for node in network.of_kind(BINARY)}
    below: dict[int, set[int]] = {}  # node -> the binary convolutions it depends on
    made: dict[TensorId, set[int]] = {}
    for node in network.nodes:
        below[id(node)] = {key for tensor in node.inputs for key in made.get(tensor, set())}
        own = {id(node)} & binary
        made |= dict.fromkeys(node.outputs, below[id(node)] | own)
    above: dict[int, set[int]] = {}  # node -> the binary convolutions that depend on it
    read_by: dict[TensorId, set[int]] = {}
    for node in reversed(network.nodes):
        above[id(node)] = {key for tensor in node.outputs for key in read_by.get(tensor, set())}
        own = {id(node)} & binary
        for tensor in node.inputs:
            read_by[tensor] = read_by.get(tensor, set()) | above[id(node)] | own
    return [
        node for node in network.of_kind(*_KERNELS) if binary in (above[id(node)], below[id(node)])
    ]


def _borders(network: Network, node: Node) -> tuple[TensorId, TensorId]:
    """What an int8 operator reads and writes; a ReLU behind it is fused with it."""
    reader = network.only_reader(node.output)
    fused = reader is not None and reader.kind == RELU
    return node.inputs[0], reader.output if reader is not None and fused else node.output


def check_images(model: Any, images: np.ndarray) -> None:
    """Raise a ValueError unless `calibration_images` fit the model's input and are finite."""
    expected = tuple(model.input_shape[1:])
    if getattr(images, "ndim", 0) != 4 or images.shape[1:] != expected or not len(images):
        shape = getattr(images, "shape", type(images).__name__)
        raise ValueError(
            f"`calibration_images` must have shape (n, {', '.join(map(str, expected))}). "
            f"Received: {shape}"
        )
    if not np.isfinite(images).all():
        raise ValueError("`calibration_images` must be finite. Received: NaN or infinite values")


def _ranges(
    model: Any, tensors: list[TensorId], images: np.ndarray
) -> dict[TensorId, tuple[float, float]]:
    check_images(model, images)
    graph = Graph(model)
    limits: dict[TensorId, list[np.ndarray]] = {tensor: [] for tensor in tensors}
    for start in range(0, len(images), _BATCH):
        sweep = Sweep(graph, [images[start : start + _BATCH].astype(np.float32)])
        for tensor in tensors:
            sweep.hold(tensor)
        for tensor in tensors:
            cut = 0.0 if tensor in graph.outputs else _CUT  # the best class is an outlier
            limits[tensor].append(np.quantile(sweep.compute(tensor)[0], (cut, 1 - cut)))
            sweep.release(tensor)
    return {tensor: _limits(np.mean(found, axis=0)) for tensor, found in limits.items()}


def _limits(found: np.ndarray) -> tuple[float, float]:
    low, high = map(float, found)
    if not (np.isfinite(found).all() and high > low):
        raise ValueError(
            "`calibration_images` must lead to values that are finite and not all equal. "
            f"Received: values from {low} to {high} at an end of the network."
        )
    return min(low, 0.0), max(high, 0.0)  # 0 must be exact: convolutions pad with it


def _rounded(node: Node) -> np.ndarray:
    """The kernel in steps of 1/127 of its largest magnitude.

    Per output channel of a convolution, and of the whole of a dense layer: as TFLite's
    converter does it.
    """
    kernel = node.numbers["kernel"]
    axes = {CONVOLUTION: (0, 1, 2), DEPTHWISE: (0, 1), DENSE: None}[node.kind]
    step = np.abs(kernel).max(axis=axes, keepdims=True) / 127
    return np.round(kernel / np.where(step > 0, step, 1.0)) * step


def _insert(network: Network, tensor: TensorId, limits: tuple[float, float]) -> None:
    """Let everybody who reads a tensor read it as 8 bits can hold it."""
    producer = network.producer(tensor)
    name = f"{producer.name if producer is not None else 'input'}_int8"
    node = Node(FAKE_QUANT, name, [tensor], [name], {"range": np.array(limits)})
    position = 0 if producer is None else network.nodes.index(producer) + 1
    network.redirect(tensor, node.output)
    node.inputs = [tensor]
    network.nodes.insert(position, node)
    network.shapes[node.output] = network.shapes[tensor]
