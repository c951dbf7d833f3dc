"""From a `Network` back to a Keras model of plain Keras and Larq layers."""

from typing import Any

import numpy as np

from bitat_tf._keras import keras, tf
from bitat_tf.convert.fold.network import (
    ADD,
    BATCHNORM,
    BINARY,
    CONCAT,
    CONVOLUTION,
    DENSE,
    DEPTHWISE,
    FAKE_QUANT,
    OTHER,
    PRELU,
    RELU,
    SHIFT,
    SIGN,
    Network,
    Node,
)
from bitat_tf.convert.strip import adder, operation
from bitat_tf.quantizers import KERNEL_QUANTIZER, lq

_FAKE_QUANT = "quantization.fake_quant_with_min_max_vars"
_KERNELS = (CONVOLUTION, DEPTHWISE, DENSE)


def write(network: Network, model: Any) -> Any:
    """The Keras model of a network.

    Args:
        network: to write.
        model: that the network was read from; its inputs, their names and its structure.

    Returns:
        A new functional model; layers keep their names.
    """
    values: dict[str, Any] = {}
    inputs = []
    for key, tensor in zip(network.inputs, tf.nest.flatten(model.inputs), strict=True):
        values[key] = keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.node.layer.name)
        inputs.append(values[key])
    shared: dict[int, Any] = {}
    for node in network.nodes:
        arguments = [values[tensor] for tensor in node.inputs]
        if node.kind == OTHER:
            values.update(zip(node.outputs, _repeat(node, arguments, shared), strict=True))
        elif node.kind == SHIFT:
            constant = node.numbers["constant"].astype(np.float32)
            values[node.output] = adder(node.name, constant)(*arguments)
        elif node.kind == FAKE_QUANT:
            low, high = map(float, node.numbers["range"])
            values[node.output] = operation(node.name, _FAKE_QUANT, low, high)(*arguments)
        else:
            layer = _layer(node)
            values[node.output] = layer(arguments if len(arguments) > 1 else arguments[0])
            layer.set_weights(_weights(node))
    outputs = [values[tensor] for tensor in network.outputs]
    return keras.Model(
        tf.nest.pack_sequence_as(model.inputs, inputs),
        tf.nest.pack_sequence_as(model.outputs, outputs),
        name=model.name,
    )


def _repeat(node: Node, arguments: list[Any], shared: dict[int, Any]) -> list[Any]:
    """The original call on new tensors; a layer called twice is cloned once."""
    new = id(node.layer) not in shared
    if new:
        shared[id(node.layer)] = type(node.layer).from_config(node.layer.get_config())
    layer = shared[id(node.layer)]
    if node.call is None:
        made = [layer(*arguments)]
    else:
        values = dict(zip(node.call.inputs, arguments, strict=True))
        node.call.apply(values, layer)
        made = [values[tensor] for tensor in node.call.outputs]
    if new:
        layer.set_weights(node.layer.get_weights())
    return made


def _layer(node: Node) -> Any:
    """A new Keras layer of the node's name."""
    if node.kind == SIGN:
        return lq.quantizers.SteSign(name=node.name)
    if node.kind == ADD:
        return keras.layers.Add(name=node.name)
    if node.kind == RELU:
        return keras.layers.ReLU(name=node.name)
    if node.kind == CONCAT:
        return keras.layers.Concatenate(name=node.name)
    config = {**node.layer.get_config(), **node.settings, "name": node.name}
    if node.kind in (*_KERNELS, BINARY):
        config |= {"activation": None, "use_bias": bool(node.numbers["bias"].any())}
        if node.kind in (CONVOLUTION, BINARY):
            config["filters"] = len(node.numbers["bias"])
    if node.kind == BINARY:
        config |= {"input_quantizer": None, "kernel_quantizer": _kernel_quantizer(node)}
    if node.kind == BATCHNORM:
        config |= {"center": True, "scale": True}
    return type(node.layer).from_config(config)


def _kernel_quantizer(node: Node) -> str:
    return KERNEL_QUANTIZER if np.all(node.numbers["scale"] == 1) else "magnitude_aware_sign"


def _weights(node: Node) -> list[np.ndarray]:
    numbers = node.numbers
    weights: list[np.ndarray] = []
    if node.kind in _KERNELS:
        weights = [numbers["kernel"]]
    elif node.kind == BINARY:
        weights = [numbers["signs"] * numbers["scale"]]
    elif node.kind == BATCHNORM:
        weights = [numbers[key] for key in ("gamma", "beta", "mean", "variance")]
    elif node.kind == PRELU:
        weights = [numbers["slope"].reshape((1,) * (len(node.layer.alpha.shape) - 1) + (-1,))]
    if "bias" in numbers and numbers["bias"].any():
        weights.append(numbers["bias"])
    return [weight.astype(np.float32) for weight in weights]
