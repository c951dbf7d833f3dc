"""What LCE's converter makes of tiny networks, converting and not, and whether the audit sees it.

Each row's expectation is written down by hand from what is known of the converter (it looks for
a quantized input and a constant filter of one magnitude per output channel), not computed. Every
network goes through LCE's own converter, unfolded, and the audit of its flatbuffer must find as
many binary operators, as many of the float kinds, and name the same layers as missing.
"""

import importlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import larq_compute_engine as lce
import numpy as np
import pytest

from bitat_tf import runtime
from bitat_tf._keras import keras, tf
from bitat_tf.convert import (
    ConversionError,
    audit,
    binary_kernels,
    check_parity,
    export,
    strip,
)
from bitat_tf.quantizers import lq

layers = keras.layers
register = keras.saving.register_keras_serializable("bitat_corpus")

# What computes a convolution or dense layer, or pools in front of one.
KINDS = {
    "LceBconv2d",
    "LceBMaxPool2d",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "TRANSPOSE_CONV",
    "MAX_POOL_2D",
}


@dataclass(frozen=True)
class Row:
    """A network, and what must become of it.

    Attributes:
        build: the network.
        found: operators of the flatbuffer, of `KINDS`.
        missing: whether the audit misses the convolution "conv" among the binary ones.
        refused: whether the export names "conv" as not binary, though it is no convolution that
            an audit could look for.
    """

    build: Callable[[], Any]
    found: dict[str, int]
    missing: bool = False
    refused: bool = False


BINARY = {"LceBconv2d": 1}
FLOAT = {"CONV_2D": 1}


@register
class PerOutput(layers.Layer):
    """Signs times a scale per output channel, the first of which may be zero."""

    def __init__(self, first=0.5, **kwargs):
        super().__init__(**kwargs)
        self.first = first

    def call(self, kernel):
        scale = np.linspace(0.5, 2.0, kernel.shape[-1]).astype(np.float32)
        scale[0] = self.first
        return lq.quantizers.ste_sign(kernel) * scale

    def get_config(self):
        return {**super().get_config(), "first": self.first}


@register
class PerInput(layers.Layer):
    """Signs times a scale per input channel."""

    def call(self, kernel):
        scale = np.linspace(0.5, 2.0, kernel.shape[2]).astype(np.float32)
        return lq.quantizers.ste_sign(kernel) * scale[:, None]


def quant(filters=8, size=3, name="conv", **arguments):
    defaults = {
        "input_quantizer": "ste_sign",
        "kernel_quantizer": "ste_sign",
        "kernel_constraint": "weight_clip",
        "padding": "same",
        "pad_values": 1.0,
        "use_bias": False,
    }
    return lq.layers.QuantConv2D(filters, size, name=name, **{**defaults, **arguments})


def model(image, x):
    return keras.Model(image, layers.BatchNormalization(name="norm")(x))


def one(channels=32, **arguments):
    """A network of one binary convolution with these arguments."""

    def build():
        image = keras.Input((8, 8, channels))
        return model(image, quant(**arguments)(image))

    return build


def behind(function, **arguments):
    """A binary convolution of what a function makes of the image."""

    def build():
        image = keras.Input((8, 8, 32))
        return model(image, quant(**arguments)(function(image)))

    return build


def with_companion(layer, shape=(8, 8, 32)):
    """Another layer, and behind it a convolution that converts."""

    def build():
        image = keras.Input(shape)
        x = layer(image)
        while len(x.shape) < 4:
            x = layers.Reshape((1, *x.shape[1:]))(x)
        return model(image, quant(name="companion")(x))

    return build


def plain_signs():
    image = keras.Input((8, 8, 32))
    convolution = layers.Conv2D(8, 3, use_bias=False, name="plain")
    x = convolution(lq.quantizers.SteSign()(image))
    convolution.set_weights([np.where(convolution.get_weights()[0] < 0, -1.0, 1.0)])
    return model(image, quant(name="companion")(x))


def pooled_twice():
    image = keras.Input((8, 8, 32))
    x = layers.MaxPooling2D(2)(image)
    return model(image, layers.Add()([quant(32)(x), x]))


def dense_as_convolution():
    image = keras.Input((48,))
    x = quant(8, 1)(layers.Reshape((1, 1, 48))(image))
    return model(image, x)


BITS = {"input_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
DEPTHWISE = {"depthwise_quantizer": "ste_sign", "depthwise_constraint": "weight_clip"}
POINTWISE = {"pointwise_quantizer": "ste_sign", "pointwise_constraint": "weight_clip"}

ROWS = {
    # converts
    "valid padding": Row(one(padding="valid"), BINARY),
    "zero padding": Row(one(pad_values=0.0), BINARY),
    "one padding": Row(one(), BINARY),
    "1x1": Row(one(size=1), BINARY),
    "strides": Row(one(strides=2), BINARY),
    "dilation": Row(one(dilation_rate=2), BINARY),
    "3 channels in": Row(one(channels=3), BINARY),
    "33 channels in": Row(one(channels=33), BINARY),
    "7 channels out": Row(one(filters=7), BINARY),
    "approx_sign kernel": Row(one(kernel_quantizer="approx_sign"), BINARY),
    "swish_sign kernel": Row(one(kernel_quantizer="swish_sign"), BINARY),
    "magnitude_aware_sign kernel": Row(one(kernel_quantizer="magnitude_aware_sign"), BINARY),
    "scale per output channel": Row(one(kernel_quantizer=PerOutput()), BINARY),
    "bias": Row(one(use_bias=True, bias_initializer="ones"), BINARY),
    "plain convolution of signs": Row(plain_signs, {"LceBconv2d": 2}),
    "pool in front": Row(behind(layers.MaxPooling2D(2)), {"LceBMaxPool2d": 1, **BINARY}),
    "dense as a 1x1 convolution": Row(dense_as_convolution, BINARY),
    "32 channels per group": Row(one(channels=64, groups=2), BINARY),
    # converts, but for the pool
    "pool with two readers": Row(pooled_twice, {"MAX_POOL_2D": 1, **BINARY}),
    # stays float
    "minus-one padding": Row(one(pad_values=-1.0), FLOAT, missing=True),
    "binary weights only": Row(one(input_quantizer=None), FLOAT, missing=True),
    "binary activations only": Row(
        with_companion(quant(kernel_quantizer=None, kernel_constraint=None)), {**FLOAT, **BINARY}
    ),
    "ternary kernel": Row(one(kernel_quantizer="ste_tern"), FLOAT, missing=True),
    "scale per input channel": Row(one(kernel_quantizer=PerInput()), FLOAT, missing=True),
    "a zero output channel": Row(one(kernel_quantizer=PerOutput(0.0)), FLOAT, missing=True),
    "heaviside input": Row(one(input_quantizer="ste_heaviside"), FLOAT, missing=True),
    "heaviside kernel": Row(one(kernel_quantizer="ste_heaviside"), FLOAT, missing=True),
    "DoReFa": Row(one(input_quantizer=lq.quantizers.DoReFa(1)), FLOAT, missing=True),
    "tf.sign": Row(behind(tf.sign, input_quantizer=None), FLOAT, missing=True),
    "tf.where": Row(
        behind(
            layers.Lambda(lambda x: tf.where(x >= 0, tf.ones_like(x), -tf.ones_like(x))),
            input_quantizer=None,
        ),
        FLOAT,
        missing=True,
    ),
    "16 channels per group": Row(one(channels=32, groups=2), FLOAT, missing=True),
    "depthwise": Row(
        with_companion(
            lq.layers.QuantDepthwiseConv2D(
                3, input_quantizer="ste_sign", use_bias=False, name="conv", **DEPTHWISE
            )
        ),
        {"DEPTHWISE_CONV_2D": 1, **BINARY},
        refused=True,
    ),
    "separable": Row(
        with_companion(
            lq.layers.QuantSeparableConv2D(
                8, 3, input_quantizer="ste_sign", name="conv", **DEPTHWISE, **POINTWISE
            )
        ),
        {"DEPTHWISE_CONV_2D": 1, "CONV_2D": 1, **BINARY},
        refused=True,
    ),
    "transposed": Row(
        with_companion(
            lq.layers.QuantConv2DTranspose(
                8, 3, kernel_quantizer="ste_sign", use_bias=False, name="conv", **BITS
            )
        ),
        {"TRANSPOSE_CONV": 1, **BINARY},
        refused=True,
    ),
    "one-dimensional": Row(
        with_companion(
            lq.layers.QuantConv1D(8, 3, kernel_quantizer="ste_sign", name="conv", **BITS), (8, 32)
        ),
        {"CONV_2D": 1, **BINARY},
        refused=True,
    ),
    "dense": Row(
        with_companion(
            lq.layers.QuantDense(8, kernel_quantizer="ste_sign", name="conv", **BITS), (48,)
        ),
        {"LceBconv2d": 2},
    ),
}


@pytest.fixture
def made(monkeypatch):
    """The flatbuffers that `export` made, whether it then refused them or not."""
    module = importlib.import_module("bitat_tf.convert.export")
    convert_plain, contents = module.convert_plain, []

    def keep(*arguments):
        contents.append(convert_plain(*arguments))
        return contents[-1]

    monkeypatch.setattr(module, "convert_plain", keep)
    return contents


@pytest.mark.parametrize("name", ROWS)
def test_the_audit_says_what_became_binary(name, made):
    row = ROWS[name]
    network = row.build()
    if row.missing or row.refused:
        with pytest.raises(ConversionError, match=r"1 of . convolutions meant to be .*: conv \("):
            export(network, fold=False)
    else:
        export(network, fold=False)
    (content,) = made
    report = audit(content, binary_kernels(strip(network)))
    assert Counter(op.type for op in report.ops if op.type in KINDS) == row.found
    assert [text.split(" (")[0] for text in report.missing] == ["conv"] * row.missing
    assert [op.type for op in report.ops if op.binary] == ["LceBconv2d"] * row.found.get(
        "LceBconv2d", 0
    )


def test_dense_layers_of_signs_fold_and_compute_the_same():
    x = image = keras.Input((4, 4, 3))
    x = layers.Flatten()(x)
    for index, units in enumerate((64, 5)):
        dense = lq.layers.QuantDense(
            units, kernel_quantizer="magnitude_aware_sign", name=f"dense_{index}", **BITS
        )
        # Without a shift sums of 0 are frequent, and Keras rounds them to either side.
        shift = keras.initializers.RandomNormal(stddev=0.3, seed=index)
        x = layers.BatchNormalization(beta_initializer=shift)(dense(x))
    network = keras.Model(image, x)
    content = export(network)
    kinds = Counter(op.type for op in audit(content).ops)
    assert kinds["LceBconv2d"] == 2
    assert "FULLY_CONNECTED" not in kinds
    images = np.random.default_rng(0).normal(size=(64, 4, 4, 3)).astype(np.float32)
    assert check_parity(network, content, images).error_median < 1e-5


@pytest.mark.parametrize(
    "build",
    [
        one(input_quantizer="ste_tern"),
        behind(lq.quantizers.SteTern(name="conv"), name="behind", input_quantizer=None),
    ],
    ids=["by name", "layer"],
)
def test_ternary_activations_are_refused_because_the_converter_mistakes_them(build, made, tmp_path):
    with pytest.raises(ConversionError, match="ternary activations of conv for signs"):
        export(build())
    assert made == []


def test_a_quantizer_as_a_function_is_refused_because_keras_cannot_make_the_layer_again():
    with pytest.raises(ValueError, match=r"`input_quantizer` of layer 'conv' .* by name"):
        export(one(input_quantizer=lq.quantizers.ste_sign)())


def test_the_converter_mistakes_ternary_activations(tmp_path):
    # Why they are refused, though the audit finds every bit of the kernel in an LceBconv2d.
    network = one(input_quantizer="ste_tern")()
    tf.saved_model.save(network, str(tmp_path))
    content = lce.convert_saved_model(str(tmp_path))
    assert audit(content, binary_kernels(network)).missing == ()
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 32)).astype(np.float32)
    expected = network(images, training=False).numpy()
    wrong = np.abs(runtime.Runner(content).predict(images) - expected)
    assert wrong.max() > 0.1 * np.abs(expected).max()


def open_size():
    image = keras.Input((None, None, 32))
    return model(image, quant()(image))


def test_unknown_size_is_refused_before_the_converter_breaks_the_graph(made, tmp_path):
    with pytest.raises(ValueError, match="fixed size"):
        export(open_size())
    assert made == []
    # What it would have made: an operator nobody has, and no LceBconv2d. The audit and the child
    # process see it; this process does not load it.
    tf.saved_model.save(open_size(), str(tmp_path))
    content = lce.convert_saved_model(str(tmp_path))
    report = audit(content, binary_kernels(open_size()))
    assert report.binary_convolutions == 0
    with pytest.raises(ValueError, match="The interpreter refuses"):
        runtime.probe(content)
