"""Where a flatbuffer first computes something else than Keras: layer by layer.

Comparing two whole runs tensor by tensor would name the wrong place. Float sums are rounded in
another order, an activation within rounding of a sign's threshold falls to the other side, and
everything behind moves: in a deep network that happens on most images, and is no error. So every
operator is run alone, on what Keras computes in front of it, and its output is compared with
what Keras computes behind it. Then nothing spreads, and what is left is the operator's own
rounding.

The criterion. A float32 sum of K terms in another order differs by about sqrt(K) 6e-8 of its
size, 4e-6 for the largest kernels here, and ten times that where a BatchNormalization takes off a
mean. A flipped weight moves a binary sum by 2, where sums are a few sqrt(K): 3e-3 and more. So
no value may differ by more than `MAX_ERROR` of the layer's largest output; of a 1-bit output no
sign may differ whose Keras value lies farther than that from its threshold; and of an int8 output
no value by more than one step, since sums that fall between two steps are rounded either way.

The tensors of a flatbuffer carry the names of the layers fused into them. The last operator
that names a layer first computes its output; of several layers that it names, the one whose
output comes nearest is meant. What has no counterpart in Keras runs on to what has.
"""

from collections import Counter
from typing import Any

import numpy as np

from bitat_tf._keras import keras
from bitat_tf.convert.fold.reading import SIGNS
from bitat_tf.counts import WORD_BITS, packed_words
from bitat_tf.graph import Graph, Sweep, TensorId
from bitat_tf.quiet import XNNPACK_NOTE, held_stderr
from bitat_tf.results import LayerComparison, LayerParityReport
from bitat_tf.runtime import Runner, operator_name, read, tensor_shape, type_name, uses_lce
from bitat_tf.runtime.cut import computed_inputs
from bitat_tf.runtime.replay import run_operator

MAX_ERROR = 1e-4
"""Largest difference from Keras that a layer may show, as a share of its largest output."""

# Layers between the one that an operator is named after and the sign that it computes as bits.
_TO_SIGN = 4
# A step between two int8 values is a float32, and so is what Keras rounds to it.
_ONE_STEP = 1.001
_FAKE_QUANT = "quantization.fake_quant_with_min_max_vars"


def check_layers(
    model: Any, flatbuffer: bytes, images: np.ndarray, *, max_error: float = MAX_ERROR
) -> LayerParityReport:
    """Compare every operator of a flatbuffer with the Keras layer that it computes.

    Args:
        model: the Keras model that the flatbuffer computes layer by layer:
            `Conversion.model`, folded as the flatbuffer is.
        flatbuffer: what was made of it.
        images: float32, (n, height, width, channels), preprocessed as in training.
        max_error: criterion, share of a layer's largest output.

    Returns:
        The report; a failed criterion is in `first_divergence`, not an exception.

    Raises:
        ValueError: on wrong images, where `runtime.Runner` refuses the flatbuffer, and where no
            operator carries the name of a layer of the model.
        FloatingPointError: where an operator gives values that are not finite.
    """
    if not max_error > 0:
        raise ValueError(f"`max_error` must be positive. Received: {max_error!r}")
    runner = Runner(flatbuffer)
    runner.predict(images)  # refuses images that do not fit
    comparison = _Comparison(model, flatbuffer, images, runner.prepare(images), max_error)
    with held_stderr(XNNPACK_NOTE):
        report = comparison.run()
    if not report.layers:
        raise ValueError(
            f"No operator of the flatbuffer carries the name of a layer of `model` "
            f"({model.name!r}). Give the model that `convert_model` returns with it."
        )
    return report


def describe(report: LayerParityReport) -> str:
    """One sentence on the first layer that differs.

    Args:
        report: of `check_layers`.

    Returns:
        The sentence.
    """
    first = report.first_divergence
    if first is None:
        return (
            f"No layer differs by more than {report.max_error:g} of its largest output, of "
            f"{len(report.layers)} compared one by one."
        )
    signs = "" if first.sign_agreement is None else f", {first.sign_agreement:.2%} equal signs"
    return (
        f"The first layer that differs is {first.layer!r} (operator {first.operator}, "
        f"{first.type}): by {first.error_max:.1e} of its largest output{signs}."
    )


class _Comparison:
    """Keras and the flatbuffer, walked through side by side."""

    def __init__(
        self, model: Any, flatbuffer: bytes, images: np.ndarray, prepared: np.ndarray, limit: float
    ) -> None:
        self._read = read(flatbuffer)
        self._subgraph = self._read.subgraphs[0]
        self._lce = uses_lce(flatbuffer)
        self._names = _Names(Graph(model), self._read)
        self._sweep = Sweep(self._names.graph, [images])
        self._images = len(images)
        self._limit = limit
        # Tensors of the flatbuffer, as Keras computes them where it does.
        self._values = {int(self._subgraph.inputs[0]): prepared}
        self._readers = Counter(
            i for operator in self._subgraph.operators for i in self._inputs(operator)
        )

    def _inputs(self, operator: Any) -> tuple[int, ...]:
        return computed_inputs(self._read, operator)

    def run(self) -> LayerParityReport:
        operators = self._subgraph.operators
        wanted = [self._names.candidates(index) for index in range(len(operators))]
        for tensors in wanted:
            for tensor in tensors:
                self._hold(tensor)
        layers, uncompared = [], []
        for index, operator in enumerate(operators):
            inputs = self._inputs(operator)
            # Of a SPLIT, whose outputs are no layer's, all are needed.
            found, *others = (
                run_operator(
                    self._read,
                    index,
                    [self._values[i] for i in inputs],
                    lce=self._lce,
                    output=output,
                )
                for output in range(len(operator.outputs))
            )
            self._forget(inputs)
            kind = operator_name(self._read, operator)
            if found.dtype.kind == "f" and not np.isfinite(found).all():
                raise FloatingPointError(
                    f"Operator {index} ({kind}) gives values that are not finite."
                )
            output = self._subgraph.tensors[operator.outputs[0]]
            matches = [self._match(output, found, tensor) for tensor in wanted[index]]
            for tensor in wanted[index]:
                self._release(tensor)
            if matches:
                best = min(matches, key=lambda match: match.error_max)
                layers.append(best.record(index, kind))
                found = best.value
            else:
                uncompared.append(f"{index} {kind}")
            for tensor, value in zip(operator.outputs, (found, *others), strict=True):
                self._values[int(tensor)] = value
        return LayerParityReport(self._images, self._limit, tuple(layers), tuple(uncompared))

    def _forget(self, inputs: tuple[int, ...]) -> None:
        for tensor in inputs:
            self._readers[tensor] -= 1
            if not self._readers[tensor]:
                del self._values[tensor]

    def _keras(self, tensor: TensorId) -> np.ndarray:
        return np.asarray(self._sweep.compute(tensor)[0])

    def _hold(self, tensor: TensorId) -> None:
        for held in (tensor, *self._names.before_sign(tensor)):
            self._sweep.hold(held)

    def _release(self, tensor: TensorId) -> None:
        for held in (tensor, *self._names.before_sign(tensor)):
            self._sweep.release(held)

    def _match(self, output: Any, found: np.ndarray, tensor: TensorId) -> "_Match":
        name, expected = self._names.layer(tensor), self._keras(tensor)
        if type_name(output) == "INT32":
            (before,) = self._names.before_sign(tensor)
            return _Match.of_bits(name, expected, found, self._keras(before), self._limit)
        if type_name(output) == "INT8":
            step = float(output.quantization.scale[0])
            zero = int(output.quantization.zeroPoint[0])
            return _Match.of_int8(name, expected, found, step, zero)
        return _Match.of_floats(name, expected, found, self._limit)


class _Match:
    """An operator's output beside a Keras layer's.

    Attributes:
        value: what Keras has, as the flatbuffer stores it.
    """

    def __init__(
        self,
        layer: str,
        value: np.ndarray,
        errors: np.ndarray,
        passed: bool,
        signs: float | None = None,
    ) -> None:
        self.layer = layer
        self.value = value
        self.error_max = float(errors.max())
        self._error_p99 = float(np.quantile(errors, 0.99))
        self._passed = passed
        self._signs = signs

    @classmethod
    def of_floats(
        cls, layer: str, expected: np.ndarray, found: np.ndarray, limit: float
    ) -> "_Match":
        errors = np.abs(found - expected) / _scale(expected)
        return cls(layer, expected, errors, bool(errors.max() <= limit))

    @classmethod
    def of_int8(
        cls, layer: str, expected: np.ndarray, found: np.ndarray, step: float, zero: int
    ) -> "_Match":
        stored = np.clip(np.round(expected / step) + zero, -128, 127).astype(np.int8)
        apart = np.abs((found.astype(np.float32) - zero) * step - expected)
        passed = bool(apart.max() <= _ONE_STEP * step)
        return cls(layer, stored, apart / _scale(expected), passed)

    @classmethod
    def of_bits(
        cls, layer: str, signs: np.ndarray, found: np.ndarray, before: np.ndarray, limit: float
    ) -> "_Match":
        negative = signs < 0
        octets = np.ascontiguousarray(found).view(np.uint8)
        bits = np.unpackbits(octets, axis=-1, bitorder="little")[..., : negative.shape[-1]]
        differs = bits.astype(bool) != negative
        errors = np.where(differs, np.abs(before) / _scale(before), 0.0)
        passed = bool(errors.max() <= limit)
        return cls(layer, _packed(negative), errors, passed, float(1 - differs.mean()))

    def record(self, operator: int, kind: str) -> LayerComparison:
        return LayerComparison(
            operator,
            kind,
            self.layer,
            self.error_max,
            self._error_p99,
            self._signs,
            self._passed,
        )


class _Names:
    """Which Keras tensors an operator's output may be, by the names that it carries."""

    def __init__(self, graph: Graph, model: Any) -> None:
        self.graph = graph
        self._subgraph = model.subgraphs[0]
        calls = Counter(call.layer.name for call in graph.calls)
        # Of a layer called twice, or a model within the model, a name says too little.
        self._calls = {
            call.layer.name: call
            for call in graph.calls
            if calls[call.layer.name] == 1
            and len(call.outputs) == 1
            and not isinstance(call.layer, keras.Model)
        }
        named = [self._layers(operator) for operator in self._subgraph.operators]
        last = {names[0]: index for index, names in enumerate(named) if names}
        self._named = [
            names if names and last[names[0]] == index else [] for index, names in enumerate(named)
        ]

    def layer(self, tensor: TensorId) -> str:
        return str(self.graph.producer[tensor].layer.name)

    def before_sign(self, tensor: TensorId) -> tuple[TensorId, ...]:
        """What a sign reads; nothing of other layers."""
        call = self.graph.producer[tensor]
        return call.inputs[:1] if isinstance(call.layer, SIGNS) else ()

    def candidates(self, index: int) -> list[TensorId]:
        """The Keras tensors that an operator's output may be."""
        operator = self._subgraph.operators[index]
        output = self._subgraph.tensors[operator.outputs[0]]
        kind, shape = type_name(output), tensor_shape(output)
        if int(operator.outputs[0]) in [int(i) for i in self._subgraph.outputs]:
            found = list(self.graph.outputs[:1])
        else:
            found = [self._calls[name].outputs[0] for name in self._named[index]]
        if kind == "INT32":
            signs = (self._sign_behind(tensor) for tensor in found)
            found = [tensor for tensor in signs if tensor is not None]
            return [t for t in dict.fromkeys(found) if _packed_shape(self._shape(t)) == shape[1:]]
        if kind == "INT8":
            found = [self._rounded(tensor) for tensor in found]
        return [t for t in dict.fromkeys(found) if self._shape(t) == shape[1:]]

    def _layers(self, operator: Any) -> list[str]:
        """The layers in an output's name, such as `net/norm_1/mul;net/conv_1/Conv2D`."""
        name = self._subgraph.tensors[operator.outputs[0]].name or b""
        found = []
        for part in name.decode(errors="replace").split(";"):
            scope, _, rest = part.partition("/")
            layer = rest.split("/")[0] if scope else ""
            if "/" not in rest and layer not in self._calls:  # cut off within the layer's name
                begun = [known for known in self._calls if layer and known.startswith(layer)]
                layer = begun[0] if len(begun) == 1 else ""
            if layer in self._calls:
                found.append(layer)
        return list(dict.fromkeys(found))

    def _shape(self, tensor: TensorId) -> tuple[Any, ...]:
        return self.graph.producer[tensor].output_shapes[0][1:]

    def _sign_behind(self, tensor: TensorId) -> TensorId | None:
        """The tensor itself if it is a sign's, else the sign's at the end of its one way on."""
        for _ in range(_TO_SIGN):
            if isinstance(self.graph.producer[tensor].layer, SIGNS):
                return tensor
            call = self.graph.only_consumer(tensor)
            if call is None or len(call.outputs) != 1:
                return None
            tensor = call.outputs[0]
        return None

    def _rounded(self, tensor: TensorId) -> TensorId:
        """A tensor as the fake-quant operation behind it rounds it; itself without one."""
        for call in self.graph.consumers[tensor]:
            if str(getattr(call.layer, "symbol", "")).endswith(_FAKE_QUANT):
                return call.outputs[0]
        return tensor


def _scale(values: np.ndarray) -> float:
    """The largest magnitude; 1 where all are 0."""
    return float(np.abs(values).max()) or 1.0


def _packed_shape(shape: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*shape[:-1], packed_words(shape[-1]))


def _packed(negative: np.ndarray) -> np.ndarray:
    """Signs as LCE packs them: bit i of word j is set where channel 32 j + i is negative."""
    channels = negative.shape[-1]
    fill = packed_words(channels) * WORD_BITS - channels
    filled = np.pad(negative, [(0, 0)] * (negative.ndim - 1) + [(0, fill)])
    octets = np.packbits(filled, axis=-1, bitorder="little")
    return np.ascontiguousarray(octets).view(np.int32)
