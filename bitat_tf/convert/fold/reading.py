"""From a Keras model to a `Network`.

What is said in several ways is brought to one: a quantizer or activation within a layer
becomes a node of its own, a constant that is added by an operator a `SHIFT`. A layer that is
called more than once, or whose configuration no rewrite knows, stays `OTHER`.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from bitat_tf._keras import keras, tf
from bitat_tf.convert.fold.network import (
    ADD,
    AVERAGE_POOL,
    BATCHNORM,
    BINARY,
    CONCAT,
    CONVOLUTION,
    DENSE,
    DEPTHWISE,
    FLATTEN,
    OTHER,
    PASS,
    POOL,
    PRELU,
    RELU,
    SHIFT,
    SIGN,
    Network,
    Node,
)
from bitat_tf.graph import Call, Graph
from bitat_tf.quantizers import lq

layers = keras.layers

# Forward, all of them are Larq's sign.
SIGNS = (lq.quantizers.SteSign, lq.quantizers.ApproxSign, lq.quantizers.SwishSign)

# How unequal the magnitudes of one output channel may be, as LCE's converter has it.
_SAME_MAGNITUDE = 5e-3

_PLAIN = {
    layers.Add: ADD,
    layers.Flatten: FLATTEN,
    layers.AveragePooling2D: AVERAGE_POOL,
    layers.MaxPooling2D: POOL,
    layers.GlobalAveragePooling2D: POOL,
    layers.GlobalMaxPooling2D: POOL,
    layers.Dropout: PASS,
}
_SUMS = ("math.add", "__operators__.add")


def read(model: Any) -> Network:
    """The network of a functional or Sequential model; the model is not changed.

    Raises:
        ValueError: when the model is subclassed.
    """
    graph = Graph(model)
    shapes = {str(id(tensor)): tuple(tensor.shape[1:]) for tensor in tf.nest.flatten(model.inputs)}
    network = Network([], graph.inputs, graph.outputs, shapes)
    calls = Counter(id(call.layer) for call in graph.calls)
    for call in graph.calls:
        batchless = (shape[1:] for shape in call.output_shapes)
        shapes.update(zip(call.outputs, batchless, strict=True))
        # Weights that are shared must stay shared, so nothing may be folded into them.
        shared = calls[id(call.layer)] > 1 and bool(call.layer.weights)
        network.nodes += _other(call) if shared else _nodes(call, shapes)
    _name_apart(network, {call.layer.name for call in graph.calls})
    return network


def _name_apart(network: Network, names: set[str]) -> None:
    """A layer without weights may be called twice; each call becomes a layer of its own."""
    seen: set[str] = set()
    for node in network.nodes:
        if node.kind == OTHER:  # stays one layer, however often it is called
            continue
        name, count = node.name, 1
        while node.name in seen or (count > 1 and node.name in names):
            count += 1
            node.name = f"{name}_{count}"
        seen.add(node.name)


def _nodes(call: Call, shapes: dict[str, tuple[int | None, ...]]) -> list[Node]:
    layer, kind = call.layer, type(call.layer)
    if len(call.outputs) != 1 or shapes[call.outputs[0]][-1:] in ((), (None,)):
        return _other(call)
    if kind in _PLAIN and getattr(layer, "data_format", "channels_last") == "channels_last":
        return [_node(_PLAIN[kind], call)]
    # Keras does not export the class of its own layer for a TensorFlow operation.
    read_layer = _operation if kind.__name__ == "TFOpLambda" else _READERS.get(kind)
    nodes = read_layer(call) if read_layer else None
    if nodes is None:
        return _other(call)
    for node in nodes[:-1]:  # what a layer computes on the way has no shape in Keras
        source = call.inputs[0] if node.kind == SIGN else call.outputs[0]
        shapes[node.output] = shapes[source]
    return nodes


def _other(call: Call) -> list[Node]:
    return [
        Node(OTHER, call.layer.name, list(call.inputs), list(call.outputs), {}, call.layer, call)
    ]


def _node(kind: str, call: Call, **numbers: Any) -> Node:
    arrays = {name: np.asarray(value, np.float64) for name, value in numbers.items()}
    return Node(
        kind, call.layer.name, list(call.inputs), list(call.outputs), arrays, call.layer, call
    )


def _sign(call: Call) -> list[Node]:
    return [_node(SIGN, call)]


def _relu(call: Call) -> list[Node] | None:
    layer = call.layer
    plain = layer.max_value is None and not layer.negative_slope and not layer.threshold
    return [_node(RELU, call)] if plain else None


def _activation(call: Call) -> list[Node] | None:
    kind = {"relu": RELU, "linear": PASS}.get(_name_of(call.layer.activation))
    return [_node(kind, call)] if kind else None


def _prelu(call: Call) -> list[Node] | None:
    slope = call.layer.alpha.numpy()
    if slope.size != slope.shape[-1]:
        return None
    return [_node(PRELU, call, slope=slope.reshape(-1))]


def _concat(call: Call) -> list[Node] | None:
    rank = len(call.output_shapes[0])
    return [_node(CONCAT, call)] if call.layer.axis in (-1, rank - 1) else None


def _batchnorm(call: Call) -> list[Node] | None:
    layer = call.layer
    rank = len(call.output_shapes[0])
    if list(layer.axis) != [rank - 1]:
        return None
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    gamma = layer.gamma.numpy() if layer.scale else np.ones_like(mean)
    beta = layer.beta.numpy() if layer.center else np.zeros_like(mean)
    return [_node(BATCHNORM, call, gamma=gamma, beta=beta, mean=mean, variance=variance)]


def _weighted(kind: str) -> Callable[[Call], list[Node] | None]:
    """A reader of float layers with a kernel, a bias and perhaps an activation."""

    def read_layer(call: Call) -> list[Node] | None:
        layer = call.layer
        if getattr(layer, "data_format", "channels_last") != "channels_last":
            return None
        if getattr(layer, "groups", 1) != 1:
            return None
        kernel = layer.depthwise_kernel if kind == DEPTHWISE else layer.kernel
        bias = layer.bias.numpy() if layer.use_bias else np.zeros(_channels(call))
        node = _node(kind, call, kernel=kernel.numpy(), bias=bias)
        return _then(call, node, layer.activation)

    return read_layer


def _binary(call: Call) -> list[Node] | None:
    layer = call.layer
    if layer.groups != 1 or layer.data_format != "channels_last" or not layer.kernel_quantizer:
        return None
    kernel = np.asarray(layer.kernel_quantizer(layer.kernel.latent_variable), np.float64)
    sizes = np.abs(kernel).reshape(-1, kernel.shape[-1])
    scale = sizes.mean(axis=0)
    if np.any(np.abs(sizes - scale) > _SAME_MAGNITUDE * scale):
        return None
    if layer.input_quantizer is not None and not isinstance(layer.input_quantizer, SIGNS):
        return None
    bias = layer.bias.numpy() if layer.use_bias else np.zeros(kernel.shape[-1])
    # Of a channel whose scale is 0 the signs are lost, and do not matter.
    signs = np.where(kernel < 0, -1.0, 1.0)
    node = _node(BINARY, call, signs=signs, scale=scale, bias=bias)
    nodes = _then(call, node, layer.activation)
    if nodes is None or layer.input_quantizer is None:
        return nodes
    name = f"{layer.name}_input_sign"
    sign = Node(SIGN, name, list(call.inputs), [name])
    node.inputs = [sign.output]
    return [sign, *nodes]


def _then(call: Call, node: Node, activation: Any) -> list[Node] | None:
    """A layer's node, and its activation behind it."""
    name = _name_of(activation)
    if name == "linear":
        return [node]
    layer = layers.Activation(activation, name=f"{node.name}_{name}")
    node.outputs = [f"{node.name}_linear"]
    kind = RELU if name == "relu" else OTHER
    return [node, Node(kind, layer.name, list(node.outputs), list(call.outputs), {}, layer)]


def _channels(call: Call) -> int:
    """Of what a call makes; `_nodes` lets no call pass that does not know them."""
    return call.output_shapes[0][-1] or 0


def _name_of(activation: Any) -> str:
    return getattr(activation, "__name__", type(activation).__name__)


def _operation(call: Call) -> list[Node] | None:
    """A TensorFlow operation in Keras' graph, of which sums and ReLU are known."""
    function = getattr(call.layer, "symbol", "") or ""
    function = function.removeprefix("tf.")
    if function == "nn.relu" and len(call.inputs) == 1:
        return [_node(RELU, call)]
    if function not in _SUMS:
        return None
    if len(call.inputs) == 2:
        same = len(set(call.input_shapes)) == 1  # no broadcasting
        return [_node(ADD, call)] if same else None
    (constant,) = call.constants or (None,)
    channels = _channels(call)
    if constant is None or np.size(constant) not in (1, channels):
        return None
    if np.size(constant) > 1 and np.shape(constant)[-1] != channels:
        return None
    return [_node(SHIFT, call, constant=np.broadcast_to(np.reshape(constant, -1), channels))]


_READERS: dict[type, Callable[[Call], list[Node] | None]] = {
    **dict.fromkeys(SIGNS, _sign),
    layers.ReLU: _relu,
    layers.Activation: _activation,
    layers.PReLU: _prelu,
    layers.Concatenate: _concat,
    layers.BatchNormalization: _batchnorm,
    layers.Conv2D: _weighted(CONVOLUTION),
    layers.DepthwiseConv2D: _weighted(DEPTHWISE),
    layers.Dense: _weighted(DENSE),
    lq.layers.QuantConv2D: _binary,
}
