"""PReLU by operators that are fast in int8, which TFLite's own PRELU is not.

    PReLU(x) = x + ReLU(-(1 - slope) x)        where slope <= 1

for x >= 0 the ReLU is 0, and for x < 0 it is (slope - 1) x. That is a depthwise 1x1 convolution,
with which the converter fuses the ReLU, and an addition; XNNPACK has both in int8. PRELU in int8
is a loop with a branch for every value: measured on this host, 90 % of the time of the CIFAR-10
nano net's int8 twin. In float32 XNNPACK's PRELU is the faster one.
"""

from typing import Any

import numpy as np

from bitat_tf._keras import keras
from bitat_tf.convert.fold.network import ADD, DEPTHWISE, PRELU, RELU, Network, Node
from bitat_tf.convert.fold.reading import read
from bitat_tf.convert.fold.writing import write


def prelu_to_convolution(model: Any) -> Any:
    """A new model without PReLU, but for those with a slope above 1, and not on images.

    Args:
        model: of plain Keras layers, such as `fold` returns; not changed.
    """
    network = read(model)
    for node in network.of_kind(PRELU):
        if len(network.shapes[node.output]) == 3 and np.all(node.numbers["slope"] <= 1):
            _replace(network, node)
    return write(network, model)


def _replace(network: Network, node: Node) -> None:
    (source,) = node.inputs
    shape = network.shapes[node.output]
    channels = network.channels(source)
    scale, relu = f"{node.name}_scale", f"{node.name}_relu"
    slope = np.broadcast_to(node.numbers["slope"], (channels,))
    numbers = {"kernel": (slope - 1).reshape(1, 1, channels, 1), "bias": np.zeros(channels)}
    layer = keras.layers.DepthwiseConv2D(1, name=scale)
    network.insert(Node(DEPTHWISE, scale, [source], [scale], numbers, layer), node, shape)
    network.insert(Node(RELU, relu, [scale], [relu]), node, shape)
    node.kind, node.inputs, node.numbers, node.layer = ADD, [source, relu], {}, None
