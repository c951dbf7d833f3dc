"""Layers that do nothing at inference: f(x) = x, as Dropout and a linear activation."""

from bitat_tf.convert.fold.network import PASS, Network


def drop_identities(network: Network) -> list[str]:
    """Remove them; returns their names."""
    nodes = network.of_kind(PASS)
    for node in nodes:
        network.bypass(node)
    return [node.name for node in nodes]
