"""What a student becomes in the flatbuffer: operators with weights, and bytes, layer by layer.

Computed from the graph, without conversion. Measured against the audit on the models of
`tests/binarize`: the operators agree exactly, the size to some percent.

- A BatchNormalization right behind a convolution or dense layer is fused into it, any other is
  a product and a sum with a constant each. The threshold of an `RSign` is a sum, but is fused
  where it stands right behind such a BatchNormalization.
- LCE packs 32 input channels of a kernel into a word, and keeps a factor and an offset per
  output channel. A float operator keeps a bias.
- Every tensor, constants included, takes some hundred bytes besides its values.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bitat_tf._keras import keras, tf
from bitat_tf.binarize.plan import KERNEL_LAYERS
from bitat_tf.binarize.report import OperatorPrediction
from bitat_tf.counts import packed_words
from bitat_tf.graph import Call, Graph
from bitat_tf.layers import BitatConv2D, RSign, Shortcut

_layers = keras.layers

_FLOAT_BYTES = 4

# Fitted to the flatbuffers of tests/binarize: a tensor with its name, the operator that makes it
# included, and what a flatbuffer has besides.
BYTES_PER_TENSOR = 135
BYTES_PER_FILE = 1500

# These do nothing at inference.
_NO_OPERATOR = (_layers.Dropout, _layers.InputLayer, _layers.ActivityRegularization)

# Of a traced function's operations, those that become operators with weights.
_TRACED = {
    "Conv2D": "CONV_2D",
    "DepthwiseConv2dNative": "DEPTHWISE_CONV_2D",
    "MatMul": "FULLY_CONNECTED",
}


@dataclass(frozen=True)
class Prediction:
    """What one layer of the student becomes.

    Args:
        operators: with weights, in the order in which they run.
        size_bytes: of its operators, constants and tensors in the flatbuffer.
    """

    operators: tuple[OperatorPrediction, ...] = ()
    size_bytes: int = 0


def predict(student: Any) -> Mapping[str, Prediction]:
    """Layer name -> what it becomes.

    Args:
        student: functional model of fixed input size.
    """
    graph = Graph(student)
    found: dict[str, Prediction] = {}
    for call in graph.calls:
        prediction = _predict(graph, call)
        before = found.get(call.layer.name)
        if before is not None:  # a shared layer: every call an operator, the weights once
            size = before.size_bytes + BYTES_PER_TENSOR
            prediction = Prediction(before.operators + prediction.operators, size)
        found[call.layer.name] = prediction
    return found


def _predict(graph: Graph, call: Call) -> Prediction:
    layer = call.layer
    if isinstance(layer, BitatConv2D):
        return _binary(call)
    if isinstance(layer, KERNEL_LAYERS):
        operator = _float_operator(call)
        if operator is not None:
            outputs = call.output_shapes[0][-1]
            weights = sum(math.prod(w.shape) for w in layer.weights)
            weights += 0 if layer.use_bias else outputs
            return Prediction((operator,), weights * _FLOAT_BYTES + 3 * BYTES_PER_TENSOR)
    if isinstance(layer, _layers.BatchNormalization):
        return _batchnorm(graph, call)
    if isinstance(layer, RSign):
        if layer.thresholds == 1 and _is_fused(graph, call):
            return Prediction((), BYTES_PER_TENSOR)
        tensors = 3 if layer.thresholds == 1 else 4  # they are concatenated first
        constants = int(layer.shift.shape[0]) * _FLOAT_BYTES
        return Prediction((), constants + tensors * BYTES_PER_TENSOR)
    if isinstance(layer, Shortcut):
        return Prediction((), BYTES_PER_TENSOR)
    if isinstance(layer, _NO_OPERATOR) or _is_fused_activation(graph, call):
        return Prediction()
    size = sum(math.prod(w.shape) for w in layer.weights) * _FLOAT_BYTES
    size += (1 + len(layer.weights)) * BYTES_PER_TENSOR
    if type(layer).__module__.startswith("tf_keras.") and not isinstance(layer, _layers.Lambda):
        return Prediction((), size)
    return Prediction(_traced(call), size)


def _binary(call: Call) -> Prediction:
    kh, kw, c_in, c_out = (int(size) for size in call.layer.kernel.shape)
    words = c_out * kh * kw * packed_words(c_in)
    macs = math.prod(call.output_shapes[0][1:]) * kh * kw * c_in
    operator = OperatorPrediction("LceBconv2d", (c_out, kh, kw, c_in), macs)
    factor_and_offset = 2 * c_out
    size = (words + factor_and_offset) * _FLOAT_BYTES + 4 * BYTES_PER_TENSOR
    return Prediction((operator,), size)


def _float_operator(call: Call) -> OperatorPrediction | None:
    """The operator of a float convolution or dense layer; None where it is none of the audit's."""
    layer, output = call.layer, call.output_shapes[0]
    positions = math.prod(output[1:-1])
    if isinstance(layer, _layers.DepthwiseConv2D):
        kh, kw = layer.kernel_size
        shape = (output[-1], kh, kw, 1)
        return OperatorPrediction("DEPTHWISE_CONV_2D", shape, positions * math.prod(shape))
    if isinstance(layer, _layers.Dense):
        shape = (output[-1], 1, 1, int(layer.kernel.shape[0]))
        return OperatorPrediction("FULLY_CONNECTED", shape, positions * math.prod(shape))
    if type(layer) is _layers.Conv2D:
        kh, kw, c_in, c_out = (int(size) for size in layer.kernel.shape)
        return OperatorPrediction(
            "CONV_2D", (c_out, kh, kw, c_in), positions * math.prod((c_out, kh, kw, c_in))
        )
    return None


def _batchnorm(graph: Graph, call: Call) -> Prediction:
    if _follows_kernel(graph, call):
        return Prediction()
    constants = 2 * int(call.output_shapes[0][-1]) * _FLOAT_BYTES
    return Prediction((), constants + 4 * BYTES_PER_TENSOR)


def _follows_kernel(graph: Graph, call: Call) -> bool:
    """Whether it alone reads a linear convolution or dense layer."""
    before = graph.producer.get(call.inputs[0])
    return (
        before is not None
        and isinstance(before.layer, KERNEL_LAYERS)
        and before.layer.activation is keras.activations.linear
        and graph.only_consumer(call.inputs[0]) is not None
    )


def _is_fused(graph: Graph, call: Call) -> bool:
    """Whether a sign's shift goes into the convolution in front."""
    before = graph.producer.get(call.inputs[0])
    return (
        before is not None
        and isinstance(before.layer, _layers.BatchNormalization)
        and _follows_kernel(graph, before)
        and graph.only_consumer(call.inputs[0]) is not None
    )


def _is_fused_activation(graph: Graph, call: Call) -> bool:
    """Whether a ReLU goes into the operator in front."""
    layer = call.layer
    relu = isinstance(layer, _layers.ReLU) or (
        isinstance(layer, _layers.Activation) and layer.activation is keras.activations.relu
    )
    before = graph.producer.get(call.inputs[0])
    if not relu or before is None or graph.only_consumer(call.inputs[0]) is None:
        return False
    if isinstance(before.layer, _layers.BatchNormalization) and _follows_kernel(graph, before):
        # LCE fuses it only in front of the BatchNormalization.
        kernel = graph.producer[before.inputs[0]].layer
        return not isinstance(kernel, BitatConv2D)
    return True


def _traced(call: Call) -> tuple[OperatorPrediction, ...]:
    """The operators of a layer that the graph does not show, found by tracing it."""
    try:
        arguments = [tf.TensorSpec((1, *shape[1:])) for shape in call.input_shapes]
        function = tf.function(lambda *x: call.layer(*x)).get_concrete_function(*arguments)
    except (TypeError, ValueError):
        return ()
    found = []
    for operation in function.graph.get_operations():
        kind = _TRACED.get(operation.type)
        if kind is not None:
            found.append(_traced_operator(kind, operation))
    return tuple(found)


def _traced_operator(kind: str, operation: Any) -> OperatorPrediction:
    kernel = tuple(operation.inputs[1].shape)
    output = tuple(operation.outputs[0].shape)
    if kind == "FULLY_CONNECTED":
        shape = (kernel[-1], 1, 1, kernel[0])
    elif kind == "CONV_2D":
        shape = (kernel[3], *kernel[:3])
    else:
        shape = (kernel[2] * kernel[3], kernel[0], kernel[1], 1)
    return OperatorPrediction(kind, shape, math.prod(output[:-1]) * math.prod(shape))
