"""Average pooling over tiles becomes a depthwise convolution with a constant kernel.

    mean over a tile of p x q values = sum of value / (p q)

where the tiles fill the image and do not overlap, so that no border has fewer values. Motive:
TFLite's AVERAGE_POOL_2D goes over its input column by column and divides, on ARM 6.4 executed
instructions per value read, against 2.0 of an addition (reckoned from counts of an emulated
run). Its DEPTHWISE_CONV_2D makes one multiply-add per value, and over 2x2, a power of two,
rounds in the same way.
"""

import numpy as np

from bitat_tf._keras import keras
from bitat_tf.convert.fold.network import AVERAGE_POOL, DEPTHWISE, Network, Node


def pools_to_depthwise(network: Network) -> list[str]:
    """Replace them; returns their names."""
    replaced = [node for node in network.of_kind(AVERAGE_POOL) if _tiles(network, node)]
    for node in replaced:
        size = tuple(node.layer.pool_size)
        channels = network.channels(node.output)
        node.kind = DEPTHWISE
        node.layer = keras.layers.DepthwiseConv2D(size, size, name=node.name)
        node.numbers = {
            "kernel": np.full((*size, channels, 1), 1 / np.prod(size)),
            "bias": np.zeros(channels),
        }
    return [node.name for node in replaced]


def _tiles(network: Network, node: Node) -> bool:
    size = tuple(node.layer.pool_size)
    height, width, _ = network.shapes[node.inputs[0]]
    if height is None or width is None or size != tuple(node.layer.strides):
        return False
    return size != (1, 1) and height % size[0] == 0 and width % size[1] == 0
