"""Zero padding in front of a "valid" convolution becomes one-padding inside it."""

from typing import Any

from bitat_tf._keras import keras
from bitat_tf.binarize.plan import Decision, Plan
from bitat_tf.graph import Call


class OnePadding:
    """Takes a ZeroPadding2D into the convolutions that read it, where that is "same" padding.

    One-padding costs LCE nothing. Where the geometry is another (Keras Applications pad one row
    more before some strided convolutions) the layer stays in front of the sign, which makes
    sign(0 + shift) of its zeros; LCE runs that too, with a PAD operator.
    """

    name = "one_padding"

    def apply(self, plan: Plan) -> None:
        """Plan it where all readers agree."""
        for padding in plan.of_type(keras.layers.ZeroPadding2D):
            output = padding.call.outputs[0]
            readers = [plan.decisions[c.layer.name] for c in plan.graph.consumers[output]]
            if (
                len(padding.calls) == 1
                and output not in plan.graph.outputs
                and readers
                and all(_absorbs(reader, padding.call) for reader in readers)
            ):
                padding.actions.append("moved behind the sign, as one-padding")
                for reader in readers:
                    reader.absorbed = padding.name
                    reader.actions.append("one-padding")


def _absorbs(reader: Decision, padding: Call) -> bool:
    layer: Any = reader.layer
    if not reader.binary or not isinstance(layer, keras.layers.Conv2D) or layer.padding != "valid":
        return False
    sizes = padding.input_shapes[0][1:3]
    geometry = zip(sizes, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
    return tuple(padding.layer.padding) == tuple(_same_padding(*axis) for axis in geometry)


def _same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """What "same" pads on either side of an axis."""
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2
