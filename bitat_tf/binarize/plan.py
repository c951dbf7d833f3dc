"""What is to become of every layer: the rules write it down, `build` carries it out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bitat_tf._keras import keras
from bitat_tf.graph import Call, Graph, TensorId

_layers = keras.layers

# Convolutions of every kind (Keras has no public name for their base class) and dense layers.
KERNEL_LAYERS = (_layers.Conv2D.__bases__[0], _layers.Dense)

# What a shortcut brings: nothing, the very tensor that the layer reads, or that average-pooled.
Around = Literal["", "identity", "pool"]


@dataclass(frozen=True)
class Reason:
    """Why a layer stays float, and what its owner can do about it.

    Args:
        text: why, in a few words.
        remedy: what to change in the model; empty where nothing helps.
    """

    text: str
    remedy: str = ""


@dataclass
class Decision:
    """What becomes of one layer.

    Attributes:
        name: of the layer in the flat model.
        kind: class of the layer that the user gave.
        layer: in the flat model.
        calls: of the layer, in order.
        binary: whether it becomes an `RSign` and a `BitatConv2D`.
        reason: why it does not; None where that is no question.
        insert_batchnorm: whether it may get a BatchNormalization of its own.
        absorbed: name of the ZeroPadding2D in front that goes into it as one-padding.
        shortcut: around it.
        actions: what is done to the layer, for the report.
    """

    name: str
    kind: str
    layer: Any
    calls: list[Call]
    binary: bool = False
    reason: Reason | None = None
    insert_batchnorm: bool = False
    absorbed: str | None = None
    shortcut: Around = ""
    actions: list[str] = field(default_factory=list)

    @property
    def call(self) -> Call:
        """The first call; a binary layer has no other."""
        return self.calls[0]

    def make_binary(self, action: str) -> None:
        """Plan 1 bit, unless somebody has objected; a later rule may still do so.

        Args:
            action: what is done to the layer; for the report.
        """
        if self.reason is None:
            self.binary = True
            self.actions.append(action)

    def keep_float(self, reason: Reason) -> None:
        """Object: the first reason stands.

        Args:
            reason: why; for the report.
        """
        if self.reason is None:
            self.reason = reason
        self.binary = False
        self.absorbed, self.shortcut = None, ""
        self.actions.clear()


class Plan:
    """The decisions on all layers of a flat model, sources first.

    Args:
        model: flat.
        kinds: layer name -> class name of the layer that the user gave.

    Attributes:
        graph: of the model.
        decisions: layer name -> what becomes of it.
    """

    def __init__(self, model: Any, kinds: Mapping[str, str]) -> None:
        self.graph = Graph(model)
        self.decisions: dict[str, Decision] = {}
        for call in self.graph.calls:
            name = call.layer.name
            if name in self.decisions:
                self.decisions[name].calls.append(call)
            else:
                self.decisions[name] = Decision(name, kinds[name], call.layer, [call])

    def of_type(self, *classes: Any) -> Iterator[Decision]:
        """Decisions on the layers of exactly these classes.

        Args:
            *classes: of Keras layers; subclasses do not count.

        Returns:
            The decisions, in the order of the layers.
        """
        return (d for d in self.decisions.values() if type(d.layer) in classes)

    @property
    def binary(self) -> list[Decision]:
        """The layers that are to be binary, sources first."""
        return [d for d in self.decisions.values() if d.binary]

    def producer(self, tensor: TensorId) -> Call | None:
        """The call that makes a tensor; None of an input.

        Args:
            tensor: as `Call.inputs` and `Call.outputs` name it.

        Returns:
            The call, or None.
        """
        return self.graph.producer.get(tensor)

    def first_and_last(self) -> tuple[set[str], set[str]]:
        """Names of the layers with kernels before which, and behind which, there is no other."""
        calls = self.graph.calls
        weighted = {id(c) for c in calls if isinstance(c.layer, KERNEL_LAYERS)}
        below: set[TensorId] = set()
        first = set()
        for call in calls:
            behind = not below.isdisjoint(call.inputs)
            if id(call) in weighted and not behind:
                first.add(call.layer.name)
            if behind or id(call) in weighted:
                below.update(call.outputs)
        above: set[TensorId] = set()
        last = set()
        for call in reversed(calls):
            before = not above.isdisjoint(call.outputs)
            if id(call) in weighted and not before:
                last.add(call.layer.name)
            if before or id(call) in weighted:
                above.update(call.inputs)
        return first, last


def own_batchnorm(graph: Graph, call: Call) -> Any:
    """The BatchNormalization that alone reads a call's output, and reads nothing else.

    Returns:
        The layer; None where there is none over the last axis.
    """
    behind = graph.only_consumer(call.outputs[0])
    if behind is None or not isinstance(behind.layer, _layers.BatchNormalization):
        return None
    axis = behind.layer.axis
    axis = axis if isinstance(axis, int) else tuple(axis)[-1]
    times = sum(c.layer is behind.layer for c in graph.calls)
    return behind.layer if axis in (-1, len(call.output_shapes[0]) - 1) and times == 1 else None
