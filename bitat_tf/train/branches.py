"""Where the output of a binary convolution goes, found from the graph."""

from dataclasses import dataclass
from typing import Any

from bitat_tf._keras import keras
from bitat_tf.graph import Call, Graph, TensorId
from bitat_tf.layers import Shortcut


@dataclass(frozen=True)
class Branch:
    """Where a convolution's output goes: its BatchNorm, and the tensor to be matched.

    Attributes:
        batchnorm: the layer behind the convolution.
        target: name of the layer whose output in the teacher is the target.
        end: name of the student's layer whose output is to match it.
        others: student tensors that the target holds besides this branch (its shortcut).
        join: the teacher's own addition at the end of the branch, None where there is none. An
            added `Shortcut`, which the teacher lacks, is none: the target is the teacher's
            branch, less what the shortcut brings.
    """

    batchnorm: Any
    target: str
    end: str
    others: tuple[TensorId, ...]
    join: Call | None


def find_branch(graph: Graph, call: Call) -> Branch:
    """Follow a binary convolution to its BatchNorm and, if that ends in one, its addition.

    Raises:
        ValueError: when no BatchNormalization follows.
    """
    behind = graph.only_consumer(call.outputs[0])
    if behind is None or not isinstance(behind.layer, keras.layers.BatchNormalization):
        raise ValueError(
            f"Layer {call.layer.name!r} must be followed by a BatchNormalization alone, which "
            "takes up its scale and mean."
        )
    join = graph.only_consumer(behind.outputs[0])
    if join is None or not isinstance(join.layer, keras.layers.Add):
        return Branch(behind.layer, behind.layer.name, behind.layer.name, (), None)
    others = tuple(key for key in join.inputs if key != behind.outputs[0])
    if isinstance(join.layer, Shortcut):
        return Branch(behind.layer, behind.layer.name, join.layer.name, others, None)
    return Branch(behind.layer, join.layer.name, join.layer.name, others, join)
