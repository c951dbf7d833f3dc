"""The int8 twin is int8 throughout and computes nearly what the float one does."""

import numpy as np
import pytest

from bitat_tf._keras import keras
from bitat_tf.convert import audit, export_float, export_int8
from bitat_tf.convert.prelu import prelu_to_convolution
from bitat_tf.runtime import Runner


@pytest.fixture
def images():
    """For the tiny networks: 128 images that vary smoothly."""
    coarse = np.random.default_rng(1).normal(size=(128, 4, 4, 1))
    return np.kron(coarse, np.ones((1, 2, 2, 1))).astype(np.float32)


@pytest.mark.parametrize("io", ["float32", "int8"])
def test_an_int8_twin_computes_in_int8(tiny_teacher, images, io):
    calibration, test = images[:64], images[64:128]
    flatbuffer = export_int8(tiny_teacher, calibration, io=io)
    report = audit(flatbuffer)
    assert (report.input_type, report.output_type) == (io.upper(), io.upper())
    inner = {op.output_type for op in report.ops if op.type not in ("QUANTIZE", "DEQUANTIZE")}
    assert inner == {"INT8"}
    expected = Runner(export_float(tiny_teacher)).predict(test)
    found = Runner(flatbuffer).predict(test)
    scale = np.abs(expected).max()
    assert np.isfinite(found).all()
    # 8 bits a tensor through a dozen layers; a wrong range would be off by far more.
    assert np.median(np.abs(found - expected)) < 0.05 * scale
    assert len(flatbuffer) < len(export_float(tiny_teacher))


def _prelu(slopes):
    inputs = keras.Input((4, 4, 3))
    layer = keras.layers.PReLU(shared_axes=(1, 2))
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights([np.array(slopes, np.float32).reshape(1, 1, 3)])
    return model


def test_prelu_as_a_convolution_is_the_same_function():
    model = _prelu([0.25, -0.5, 1.0])
    images = np.random.default_rng(0).normal(size=(8, 4, 4, 3)).astype(np.float32)
    rewritten = prelu_to_convolution(model)
    assert not [layer for layer in rewritten.layers if isinstance(layer, keras.layers.PReLU)]
    np.testing.assert_allclose(rewritten(images), model(images), atol=1e-6)  # float32 rounding
    types = [op.type for op in audit(export_int8(model, images)).ops]
    assert types == ["QUANTIZE", "DEPTHWISE_CONV_2D", "ADD", "DEQUANTIZE"]


def test_a_slope_above_1_stays_a_prelu():
    rewritten = prelu_to_convolution(_prelu([0.25, 1.5, 0.0]))
    assert [type(layer).__name__ for layer in rewritten.layers] == ["InputLayer", "PReLU"]


def test_the_same_images_give_the_same_bytes(tiny_teacher, images):
    first, again = (export_int8(tiny_teacher, images[:8]) for _ in range(2))
    assert first == again


def test_what_cannot_be_int8_is_refused(tiny_teacher, tiny_student, images):
    with pytest.raises(ValueError, match="has binary convolutions"):
        export_int8(tiny_student, images)
    with pytest.raises(ValueError, match="`calibration_images` must have shape"):
        export_int8(tiny_teacher, images[:, :4])
    with pytest.raises(ValueError, match="`calibration_images` must be finite"):
        export_int8(tiny_teacher, np.full_like(images, np.nan))
    with pytest.raises(ValueError, match="`io` must be"):
        export_int8(tiny_teacher, images, io="int16")
