"""The classifier at the end of a network, and its logits, with or without a softmax behind."""

from typing import Any

from bitat_tf._keras import keras
from bitat_tf.graph import Call, Graph, TensorId


def head_of(graph: Graph, output: TensorId) -> Call | None:
    """The Dense layer behind a model's output, or behind the softmax that makes it.

    Args:
        graph: of the model.
        output: one of its outputs.

    Returns:
        Its call; None where it is not a linear Dense layer with a bias on flat features.
    """
    call = graph.producer.get(output)
    if call is not None and is_softmax(call.layer):
        call = graph.producer.get(call.inputs[0])
    if call is None or type(call.layer) is not keras.layers.Dense:
        return None
    head = call.layer
    linear = head.activation is keras.activations.linear
    once = sum(other.layer is head for other in graph.calls) == 1
    return call if linear and head.use_bias and once and len(call.input_shapes[0]) == 2 else None


def is_softmax(layer: Any) -> bool:
    """Whether a layer is Keras' Softmax, or an Activation of that name."""
    return isinstance(layer, keras.layers.Softmax) or (
        isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.softmax
    )


def ends_in_softmax(model: Any) -> bool:
    """Whether a model gives probabilities, not logits, by a layer of its own."""
    graph = Graph(model)
    last = graph.producer.get(graph.outputs[0])
    return last is not None and is_softmax(last.layer)


def logits_of(model: Any) -> Any:
    """A model's first output, symbolic; where a softmax layer makes it, what that layer reads."""
    if not ends_in_softmax(model):
        return model.outputs[0]
    graph = Graph(model)
    return graph.producer[graph.outputs[0]].layer.input
