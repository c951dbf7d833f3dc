"""Networks with parameters as untamed as training may leave them, and what equal means here."""

from types import SimpleNamespace

import numpy as np
import pytest

from bitat_tf._keras import keras
from bitat_tf.convert.fold.reading import SIGNS
from bitat_tf.graph import Graph, Sweep
from bitat_tf.layers import BitatConv2D, RPReLU, RSign
from bitat_tf.quantizers import lq

# Sums of order 1 to 10 are rounded to about 1e-6 in float32; a value closer than this to a
# sign's threshold may fall to its other side.
BORDERLINE = 1e-5

ONES = {"padding": "same", "pad_values": 1.0, "use_bias": False}
KERNEL = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}


def binary_convolution(filters, size=3, **arguments):
    return lq.layers.QuantConv2D(filters, size, **{**ONES, **KERNEL, **arguments})


def sign():
    return lq.quantizers.SteSign()


def untamed(model, seed):
    """Random weights everywhere: gammas of both signs, slopes, biases."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        weights = layer.get_weights()
        if isinstance(layer, BitatConv2D | RSign | RPReLU):
            for weight in layer.trainable_weights:
                weight.assign(rng.normal(scale=0.4, size=weight.shape))
            continue
        if isinstance(layer, keras.layers.BatchNormalization):
            size = len(weights[-1])
            gamma = [rng.uniform(0.5, 1.5, size) * rng.choice([-1, 1], size)] * layer.scale
            beta = [rng.normal(size=size)] * layer.center
            weights = [*gamma, *beta, rng.normal(size=size), rng.uniform(0.5, 2, size)]
        elif isinstance(layer, keras.layers.PReLU):
            weights = [rng.uniform(0.05, 1.5, weight.shape) for weight in weights]
        else:
            weights = [rng.normal(scale=0.4, size=weight.shape) for weight in weights]
        layer.set_weights(weights)
    return model


def distance_to_thresholds(model, images):
    """For each image the smallest magnitude that any sign of the model sees."""
    smallest = np.full(len(images), np.inf)

    def look(call):
        quantizer = getattr(call.layer, "input_quantizer", None)
        if isinstance(call.layer, SIGNS) or quantizer is not None:
            seen = np.abs(sweep.compute(call.inputs[0])[0]).reshape(len(images), -1).min(axis=1)
            np.minimum(smallest, seen, out=smallest)

    sweep = Sweep(Graph(model), [images], before=look)
    sweep.run_all()
    return smallest


def check_equal(model, folded, images):
    """Outputs within 1e-4 of the largest, on all images without a borderline sign."""
    expected, actual = (m(images, training=False).numpy() for m in (model, folded))
    assert np.isfinite(expected).all()
    scale = np.abs(expected).max()
    assert expected.std(axis=0).max() > 1e-3 * scale  # not a constant that anything reproduces
    clear = distance_to_thresholds(model, images) > BORDERLINE
    assert clear.mean() >= 0.5
    np.testing.assert_allclose(actual[clear], expected[clear], rtol=0, atol=1e-4 * scale)


def additions(model):
    """Names of the layers that add a constant."""
    return [layer.name for layer in model.layers if type(layer).__name__ == "TFOpLambda"]


@pytest.fixture(scope="session")
def nets():
    """What builds, spoils and compares networks."""
    return SimpleNamespace(
        additions=additions,
        binary_convolution=binary_convolution,
        check_equal=check_equal,
        sign=sign,
        untamed=untamed,
    )


@pytest.fixture(scope="session")
def small_images():
    return np.random.default_rng(5).normal(size=(32, 8, 8, 3)).astype(np.float32)
