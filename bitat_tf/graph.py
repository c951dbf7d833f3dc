"""A functional Keras model as an ordered list of layer calls.

Calibration and BatchNorm recomputation run a model call by call over cached batches, the
rewrites run it call by call on symbolic tensors, and both ask who reads a tensor. This file
is the only one that knows Keras's node objects.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bitat_tf._keras import keras, tf
from bitat_tf.layers import BitatConv2D, RSign, Shortcut
from bitat_tf.quantizers import AnnealedQuantizer

# A tensor of the graph is known by the id Keras itself gives it within its nodes.
TensorId = str


class Call:
    """One layer call in a functional model.

    Attributes:
        layer: the Keras layer.
        inputs: ids of the tensors it reads.
        outputs: ids of those it makes.
        input_shapes, output_shapes: of these tensors, batch included; unknown sizes are None.
        constants: what it is called with besides tensors and None.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        self.layer = node.layer
        self.inputs: tuple[TensorId, ...] = tuple(node.flat_input_ids)
        self.outputs: tuple[TensorId, ...] = tuple(node.flat_output_ids)
        self.input_shapes = _shapes(node.keras_inputs)
        self.output_shapes = _shapes(node.outputs)
        tensors = {id(tensor) for tensor in node.keras_inputs}
        self.constants = tuple(
            argument
            for argument in (*node.call_args, *node.call_kwargs.values())
            if argument is not None
            and tensors.isdisjoint(id(part) for part in tf.nest.flatten(argument))
        )

    def apply(self, values: dict[TensorId, Any], layer: Callable[..., Any] | None = None) -> None:
        """Compute the call's outputs from `values` and put them there.

        Args:
            values: tensor id -> tensor, real or symbolic.
            layer: what to call instead of the call's own layer.
        """
        # Keras takes one entry out for each time that the call reads the tensor.
        boxed = {key: [values[key]] * self.inputs.count(key) for key in self.inputs}
        arguments, keywords = self._node.map_arguments(boxed)
        result = (layer or self.layer)(*arguments, **keywords)
        values.update(zip(self.outputs, tf.nest.flatten(result), strict=True))


def _shapes(tensors: Any) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(tensor.shape) for tensor in tf.nest.flatten(tensors))


class Graph:
    """The calls of a functional or Sequential model, in an order in which they can run.

    Attributes:
        calls: all but the input layers, sources first.
        inputs, outputs: ids of the model's input and output tensors.
        consumers: tensor id -> calls that read it.

    Raises:
        ValueError: when the model is subclassed: its graph cannot be read.
    """

    def __init__(self, model: Any) -> None:
        nodes_by_depth = getattr(model, "_nodes_by_depth", None)
        if not nodes_by_depth:
            raise ValueError(
                f"`model` must be a functional or Sequential Keras model that has been built, so "
                f"that its graph can be read. Received: {type(model).__name__} {model.name!r}. "
                "Rebuild it as keras.Model(inputs, outputs)."
            )
        nodes = [n for depth in sorted(nodes_by_depth, reverse=True) for n in nodes_by_depth[depth]]
        self.calls = tuple(Call(node) for node in nodes if not node.is_input)
        self.inputs = tuple(str(id(t)) for t in tf.nest.flatten(model.inputs))
        self.outputs = tuple(str(id(t)) for t in tf.nest.flatten(model.outputs))
        self.consumers: dict[TensorId, list[Call]] = defaultdict(list)
        self.producer: dict[TensorId, Call] = {}
        for call in self.calls:
            for tensor in dict.fromkeys(call.inputs):
                self.consumers[tensor].append(call)
            for tensor in call.outputs:
                self.producer[tensor] = call

    def output_of(self, layer_name: str) -> TensorId | None:
        """The output of the first call of a layer; None where there is no such layer."""
        for call in self.calls:
            if call.layer.name == layer_name:
                return call.outputs[0]
        return None

    def only_consumer(self, tensor: TensorId) -> Call | None:
        """The one call that reads a tensor; None where there are more, or it is an output."""
        calls = self.consumers[tensor]
        return calls[0] if len(calls) == 1 and tensor not in self.outputs else None


class Sweep:
    """A model run call by call over several batches at once, in inference mode.

    Every tensor is computed once per batch and dropped after its last reader, so memory holds
    the widest cut of the network and not all of it.

    Args:
        graph: of the model.
        batches: input batches; for several inputs, tuples of them.
        before: told of each call just before it runs, when its inputs are there; it may
            change the layer, or `compute` further tensors.
    """

    def __init__(
        self,
        graph: Graph,
        batches: Sequence[Any],
        before: Callable[[Call], None] | None = None,
    ) -> None:
        self.graph = graph
        self._before = before
        self._done: set[int] = set()
        self._readers = Counter(key for call in graph.calls for key in dict.fromkeys(call.inputs))
        self._readers.update(graph.outputs)
        self._values: list[dict[TensorId, Any]] = [
            dict(zip(graph.inputs, tf.nest.flatten(batch), strict=True)) for batch in batches
        ]

    def hold(self, tensor: TensorId) -> None:
        """Keep a tensor until `release`; once for each later `release`."""
        self._readers[tensor] += 1

    def release(self, tensor: TensorId) -> None:
        """Let go of a tensor; it is dropped when nobody reads or holds it any more."""
        self._readers[tensor] -= 1
        if self._readers[tensor] <= 0:
            for values in self._values:
                values.pop(tensor, None)

    def compute(self, tensor: TensorId) -> list[Any]:
        """A tensor's value for each batch, running whatever it needs that has not run yet.

        Raises:
            KeyError: when the tensor was there and has been dropped.
        """
        producer = self.graph.producer.get(tensor)
        if producer is not None:
            self.run(producer)
        return [values[tensor] for values in self._values]

    def run(self, call: Call) -> None:
        """Run one call on all batches, and first those that it depends on; never twice."""
        if id(call) in self._done:
            return
        for ancestor in self._pending(call):
            if id(ancestor) in self._done:  # a `before` may have run it meanwhile
                continue
            if self._before is not None:
                self._before(ancestor)
            self._done.add(id(ancestor))
            for values in self._values:
                ancestor.apply(values)
            for tensor in dict.fromkeys(ancestor.inputs):
                self.release(tensor)

    def run_all(self) -> list[Any]:
        """Run every call that has not run yet; the first output's value for each batch."""
        for call in self.graph.calls:
            self.run(call)
        return self.compute(self.graph.outputs[0])

    def _pending(self, call: Call) -> list[Call]:
        """The calls that must run for `call`, itself last, in an order in which they can."""
        needed = {id(call)}
        for candidate in reversed(self.graph.calls):
            if id(candidate) in needed:
                for tensor in candidate.inputs:
                    producer = self.graph.producer.get(tensor)
                    if producer is not None and id(producer) not in self._done:
                        needed.add(id(producer))
        return [c for c in self.graph.calls if id(c) in needed and id(c) not in self._done]


def rebuild(model: Any, replace: Callable[[Call], Callable[..., Any] | None]) -> Any:
    """A new functional model with the same graph and some layers exchanged.

    Layers that are not exchanged are cloned from their configuration and take a copy of the
    weights, so the given model is never touched. Layers called more than once stay shared.

    Args:
        model: functional or Sequential.
        replace: for a call, what to put in its place (a layer, or any function from its
            inputs to its outputs), or None to clone the layer. Asked once per layer.

    Returns:
        The new model, inputs and outputs in the same order and structure.
    """
    graph = Graph(model)
    made: dict[int, Callable[..., Any]] = {}
    copied: list[tuple[Any, Any]] = []
    values: dict[TensorId, Any] = {}
    new_inputs = []
    for key, tensor in zip(graph.inputs, tf.nest.flatten(model.inputs), strict=True):
        new = keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.node.layer.name)
        values[key] = new
        new_inputs.append(new)
    for call in graph.calls:
        if id(call.layer) not in made:
            exchanged = replace(call)
            if exchanged is None:
                exchanged = clone(call.layer)
                copied.append((call.layer, exchanged))
            made[id(call.layer)] = exchanged
        call.apply(values, made[id(call.layer)])
    for old, new in copied:
        copy_weights(old, new)
    outputs = [values[key] for key in graph.outputs]
    return keras.Model(
        tf.nest.pack_sequence_as(model.input, new_inputs),
        tf.nest.pack_sequence_as(model.output, outputs),
        name=model.name,
    )


def clone(layer: Any, **changes: Any) -> Any:
    """A layer of the same class and configuration, with weights of its own.

    Args:
        layer: any Keras layer.
        **changes: to its configuration, such as `name`.

    Raises:
        ValueError: when the layer cannot be made from its own configuration.
    """
    try:
        return type(layer).from_config({**layer.get_config(), **changes})
    except (NotImplementedError, TypeError, ValueError) as err:
        reason = " ".join(str(err).split())[:200]
        raise ValueError(
            f"Layer {layer.name!r} ({type(layer).__name__}) cannot be made again from its "
            f"configuration: {reason} Give its class a `get_config` that returns all arguments of "
            "its constructor."
        ) from err


def copy_weights(old: Any, new: Any) -> None:
    """All weights of a layer into its clone."""
    new.set_weights(old.get_weights())
    # A Normalization computes from values that it derives from its weights.
    if isinstance(new, keras.layers.Normalization):
        new.finalize_state()


@dataclass(frozen=True)
class BinaryUnit:
    """What becomes binary together: an `RSign` and all binary convolutions that read it.

    Attributes:
        name: of the sign layer; how schedules and reports call the unit.
        sign: the `RSign` layer.
        convolutions: the `BitatConv2D` layers behind it.
        shortcuts: the `Shortcut` layers at the ends of their branches.
    """

    name: str
    sign: Any
    convolutions: tuple[Any, ...]
    shortcuts: tuple[Any, ...] = ()

    @property
    def active(self) -> bool:
        """Whether the unit computes with 1 bit."""
        return bool(self.sign.active.numpy())

    def activate(self, active: bool) -> None:
        """Switch the unit to 1 bit, or back to reals.

        Args:
            active: True for 1 bit.
        """
        for layer in (self.sign, *self.convolutions, *self.shortcuts):
            layer.active.assign(active)

    @property
    def annealed(self) -> tuple[AnnealedQuantizer, ...]:
        """The quantizers of its layers that change with the training's progress."""
        quantizers = (self.sign.quantizer, *(c.kernel_quantizer for c in self.convolutions))
        return tuple(q for q in quantizers if isinstance(q, AnnealedQuantizer))

    @property
    def binary(self) -> bool:
        """Whether it is active, and no quantizer has reals left to pass."""
        return self.active and all(quantizer.binary for quantizer in self.annealed)


def binary_units(model: Any) -> tuple[BinaryUnit, ...]:
    """The binary units of a model, bottom to top; empty when it has none.

    Args:
        model: functional, as `bitat_tf.binarize` or `bitat_tf.models.build` makes it.

    Returns:
        A unit for each `RSign` with the `BitatConv2D` layers that read it.

    Raises:
        ValueError: when the model is not functional.
    """
    graph = Graph(model)
    units = []
    for call in graph.calls:
        if isinstance(call.layer, RSign):
            readers = graph.consumers[call.outputs[0]]
            readers = [c for c in readers if isinstance(c.layer, BitatConv2D)]
            if readers:
                convolutions = tuple(c.layer for c in readers)
                shortcuts = tuple(s for c in readers if (s := _shortcut(graph, c)) is not None)
                units.append(BinaryUnit(call.layer.name, call.layer, convolutions, shortcuts))
    return tuple(units)


def _shortcut(graph: Graph, call: Call) -> Any:
    """The `Shortcut` behind a convolution's BatchNorm, None where there is none."""
    behind: Call | None = call
    for _ in range(2):
        behind = behind and graph.only_consumer(behind.outputs[0])
    return behind.layer if behind and isinstance(behind.layer, Shortcut) else None
