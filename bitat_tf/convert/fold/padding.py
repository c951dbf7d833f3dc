"""A 1x1 convolution pads nothing, and says so.

"same" and "valid" are the same for it, whatever `pad_values` is. Motive: with zeros, larq's
default, LCE plans a correction and writes no bits for a next convolution; with -1 the
convolution stays float.

A larger convolution that does read zeros is left as it is: one-padding differs from it by a
constant at every position of the border, which no BatchNorm can hold. Build such networks with
`pad_values=1.0`, as `BitatConv2D` does.
"""

from bitat_tf.convert.fold.network import BINARY, Network


def drop_padding(network: Network) -> list[str]:
    """Make 1x1 convolutions "valid" that would pad otherwise than with ones; their names."""
    changed = [
        node
        for node in network.of_kind(BINARY)
        if node.layer.padding == "same"
        and tuple(node.layer.kernel_size) == (1, 1)
        and node.layer.pad_values != 1
    ]
    for node in changed:
        node.settings["padding"] = "valid"
    return [node.name for node in changed]
