"""The given model in the terms of the rules, and still the same function.

- Nested functional and Sequential models are put in their caller's place.
- A fused activation becomes a layer of its own, `{name}_activation`: between a convolution and
  its activation the BatchNormalization of a binary one must find room.
- A SeparableConv2D becomes `{name}_depthwise` and the 1x1 convolution `{name}_pointwise`.
- `x + y` of two tensors of one shape becomes an Add layer, `sum_1` and so on, so that it is known
  as a shortcut.

The same model gives the same layer names each time. That is how calibration finds a student's
layers in the float model that the user holds. Layers called more than once stay shared; what
`training` a nested model was called with is forgotten.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitat_tf._keras import keras, tf
from bitat_tf.binarize.refuse import readable
from bitat_tf.graph import Call, Graph, TensorId, clone, copy_weights

_layers = keras.layers

# How TensorFlow's `+` and `tf.add` are called in the configuration of their Keras layer.
_ADDITIONS = ("__operators__.add", "math.add")


@dataclass(frozen=True)
class Flat:
    """A model without nesting, fused activations and separable convolutions.

    Attributes:
        model: the given one itself where there was nothing to do.
        kinds: layer name -> class name of the given layer that it was made of.
    """

    model: Any
    kinds: Mapping[str, str]


def flatten(model: Any, example_input: Any = None) -> Flat:
    """The same function as a flat functional model, with weights of its own.

    Args:
        model: functional or Sequential; never changed.
        example_input: arrays whose sizes the inputs take where the model leaves them open.

    Returns:
        The flat model, and the class that each of its layers had in the given one.

    Raises:
        ValueError: when a layer cannot be made again from its configuration.
    """
    graph = Graph(model)
    sizes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    if example_input is not None:
        given = [tuple(np.shape(example)[1:]) for example in tf.nest.flatten(example_input)]
        changed, sizes = given != sizes, given
    else:
        changed = False
    if not changed and not any(_to_change(call) for call in graph.calls):
        kinds = {call.layer.name: type(call.layer).__name__ for call in graph.calls}
        return Flat(model, kinds)
    return _Flattener(model).flattened(graph, sizes)


def _to_change(call: Call) -> bool:
    layer = call.layer
    return readable(layer) or type(layer) is _layers.SeparableConv2D or _fused(layer) or _adds(call)


def _fused(layer: Any) -> bool:
    """Whether a convolution or dense layer applies an activation function itself."""
    return (
        type(layer) in (_layers.Conv2D, _layers.Dense, _layers.SeparableConv2D)
        and layer.activation is not keras.activations.linear
        and not isinstance(layer.activation, _layers.Layer)
    )


def _adds(call: Call) -> bool:
    """Whether it adds two tensors of one shape by TensorFlow's own operation."""
    if type(call.layer).__name__ != "TFOpLambda" or len(call.inputs) != 2:
        return False
    first, second = call.input_shapes
    return call.layer.get_config()["function"] in _ADDITIONS and first == second


class _Flattener:
    """One flattening: the layers made so far, and the weights they are to take."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.names = _flat_names(model)
        self.taken = {*self.names.values(), *model.input_names}
        self.kinds: dict[str, str] = {}
        self._sums = 0
        self._made: dict[int, Callable[..., Any]] = {}
        self._copied: list[tuple[Any, Any]] = []
        self._weights: list[tuple[Any, list[np.ndarray]]] = []

    def flattened(self, graph: Graph, sizes: list[tuple[int, ...]]) -> Flat:
        inputs = [
            keras.Input(size, dtype=tensor.dtype, name=tensor.node.layer.name)
            for size, tensor in zip(sizes, self.model.inputs, strict=True)
        ]
        values: dict[TensorId, Any] = dict(zip(graph.inputs, inputs, strict=True))
        self._run(graph, values)
        for old, new in self._copied:
            copy_weights(old, new)
        for layer, weights in self._weights:
            layer.set_weights(weights)
        outputs = [values[key] for key in graph.outputs]
        model = keras.Model(
            tf.nest.pack_sequence_as(self.model.input, inputs),
            tf.nest.pack_sequence_as(self.model.output, outputs),
            name=self.model.name,
        )
        return Flat(model, self.kinds)

    def _run(self, graph: Graph, values: dict[TensorId, Any]) -> None:
        for call in graph.calls:
            if readable(call.layer):
                inner = Graph(call.layer)
                given = [values[key] for key in call.inputs]
                inside = dict(zip(inner.inputs, given, strict=True))
                self._run(inner, inside)
                values.update(zip(call.outputs, (inside[k] for k in inner.outputs), strict=True))
            else:
                if id(call.layer) not in self._made:
                    self._made[id(call.layer)] = self._make(call)
                call.apply(values, self._made[id(call.layer)])

    def _make(self, call: Call) -> Callable[..., Any]:
        layer, name = call.layer, self.names[id(call.layer)]
        if _adds(call):
            # Not after the operation, whose name counts all that the process has ever made.
            self._sums += 1
            add = _layers.Add(name=self._new_name(f"sum_{self._sums}", layer))
            return lambda x, y, **_: add([x, y])
        if type(layer) is _layers.SeparableConv2D:
            made = self._separable(layer, name)
        else:
            made = clone(layer, name=name, **({"activation": "linear"} if _fused(layer) else {}))
            self._copied.append((layer, made))
            self.kinds[name] = type(layer).__name__
        if not _fused(layer):
            return made
        activation = _layers.Activation(
            layer.activation, name=self._new_name(f"{name}_activation", layer)
        )
        return lambda x, **_: activation(made(x))

    def _separable(self, layer: Any, name: str) -> Callable[..., Any]:
        depthwise = _layers.DepthwiseConv2D(
            layer.kernel_size,
            layer.strides,
            layer.padding,
            depth_multiplier=layer.depth_multiplier,
            dilation_rate=layer.dilation_rate,
            use_bias=False,
            name=self._new_name(f"{name}_depthwise", layer),
        )
        pointwise = _layers.Conv2D(
            layer.filters,
            1,
            use_bias=layer.use_bias,
            name=self._new_name(f"{name}_pointwise", layer),
        )
        first, *rest = layer.get_weights()
        self._weights += [(depthwise, [first]), (pointwise, rest)]
        return lambda x, **_: pointwise(depthwise(x))

    def _new_name(self, wanted: str, origin: Any) -> str:
        """A name that no layer has, for one made of `origin`."""
        name = _unused(wanted, self.taken)
        self.taken.add(name)
        self.kinds[name] = type(origin).__name__
        return name


def _flat_names(model: Any) -> dict[int, str]:
    """id of every layer, those of nested models too -> its name in the flat model.

    The layers of the model itself keep their names, and so do those inside whose name nobody
    else has; the others take the nested model's name in front.
    """
    found = list(_all_layers(model, ()))
    counts = Counter(layer.name for layer, _ in found)
    keeps = [(layer, p) for layer, p in found if not p or counts[layer.name] == 1]
    names = {id(layer): layer.name for layer, _ in keeps}
    taken = {*names.values(), *model.input_names}
    for layer, path in found:
        if id(layer) not in names:
            names[id(layer)] = _unused("_".join((*path, layer.name)), taken)
            taken.add(names[id(layer)])
    return names


def _all_layers(
    model: Any, path: tuple[str, ...], seen: set[int] | None = None
) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Every layer once, and the nested models it stands in, in the order of the calls."""
    seen = set() if seen is None else seen
    for call in Graph(model).calls:
        if id(call.layer) in seen:
            continue
        seen.add(id(call.layer))
        if readable(call.layer):
            yield from _all_layers(call.layer, (*path, call.layer.name), seen)
        else:
            yield call.layer, path


def _unused(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name
