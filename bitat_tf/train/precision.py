"""Training steps in bfloat16, on the variables of a float32 model.

The model that is calibrated, kept, validated and saved stays a float32 one. Its twin has the same
layers under Keras's policy `mixed_bfloat16`, and as variables the very same objects: what one
learns, the other has. The twin is called in training steps only. Its last layer is float32.

float16 is not offered: its range needs a loss scale that skips steps, and here a step is also a
batch, a place in the schedule and in the checkpoints.
"""

from typing import Any

from bitat_tf._keras import tf
from bitat_tf.graph import Graph, clone, rebuild

_POLICY = "mixed_bfloat16"


def bfloat16_twin(model: Any) -> Any:
    """A functional model on the same variables that computes in bfloat16.

    BatchNorm's sums are float32 within, as Keras has them.

    Args:
        model: functional, with float32 layers.

    Returns:
        The twin. Its outputs are float32; other layers' are bfloat16.

    Raises:
        ValueError: when a layer cannot be made again from its configuration.
    """
    outputs = set(Graph(model).outputs)

    def exchange(call: Any) -> Any:
        last = not outputs.isdisjoint(call.outputs)
        twin = clone(call.layer, dtype="float32" if last else _POLICY)
        return _on_variables_of(call.layer, twin)

    return rebuild(model, exchange)


def _on_variables_of(layer: Any, twin: Any) -> Any:
    """A function that calls the twin, which takes the layer's variables when it is built."""
    # Larq wraps the kernel in a variable that quantizes; the twin's wraps the kernel itself.
    latent = [getattr(variable, "latent_variable", variable) for variable in layer.variables]
    own = {_name_in(variable.name): variable for variable in latent}

    def take(create: Any, **arguments: Any) -> Any:
        return own[_name_in(arguments["name"])]

    def call(*inputs: Any, **keywords: Any) -> Any:
        with tf.variable_creator_scope(take):
            return twin(*inputs, **keywords)

    return call


def _name_in(name: str) -> str:
    return name.partition(":")[0].rpartition("/")[2]
