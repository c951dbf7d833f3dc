"""int8 ends: what is int8, what is not, and that Keras computes what the flatbuffer does."""

from collections import Counter

import numpy as np
import pytest

from bitat_tf._keras import keras
from bitat_tf.convert import (
    ConversionError,
    audit,
    check_parity,
    convert_model,
    export,
    fold,
    strip,
)
from bitat_tf.convert.ends import int8_operators, quantize_ends
from bitat_tf.layers import BitatConv2D, RSign
from bitat_tf.runtime import Runner

layers = keras.layers


@pytest.fixture(scope="module")
def int8(student, images):
    return convert_model(student, ends="int8", calibration_images=images)


def test_stem_and_classifier_are_int8_and_the_rest_is_as_before(int8, flatbuffer):
    before = Counter(op.type for op in audit(flatbuffer).ops)
    after = Counter(op.type for op in int8.audit.ops)
    assert after - before == {"QUANTIZE": 2, "DEQUANTIZE": 2}
    assert before - after == {}
    assert int8_operators(int8.flatbuffer) == 2
    assert int8_operators(flatbuffer) == 0
    types = {op.type: op.output_type for op in int8.audit.ops}
    assert types["CONV_2D"] == types["FULLY_CONNECTED"] == "INT8"
    assert types["LceBconv2d"] == types["DEPTHWISE_CONV_2D"] == types["PRELU"] == "FLOAT32"
    assert (int8.audit.input_type, int8.audit.output_type) == ("FLOAT32", "FLOAT32")


def test_keras_computes_what_the_flatbuffer_does(int8, images):
    # What is left are sums between two int8 values; a sign behind one may flip.
    report = check_parity(int8.model, int8.flatbuffer, images, min_agreement=0.95)
    assert report.passed
    assert report.error_median < 0.02


def test_weights_shrink_to_a_quarter(student, int8, flatbuffer):
    floats = {op.type: op.size_bytes for op in audit(flatbuffer).ops}
    bytes_ = {op.type: op.size_bytes for op in int8.audit.ops}
    weights = 27 * 12
    assert floats["CONV_2D"] - bytes_["CONV_2D"] == 3 * weights


def test_same_model_and_images_make_the_same_bytes(student, images, int8):
    assert export(student, ends="int8", calibration_images=images) == int8.flatbuffer


def test_int8_input_and_output(student, images, int8):
    content = export(student, ends="int8", io="int8", calibration_images=images)
    report = audit(content)
    assert (report.input_type, report.output_type) == ("INT8", "INT8")
    assert len(report.ops) == len(int8.audit.ops) - 2
    runner = Runner(content)
    assert (runner.input_type, runner.output_type) == ("INT8", "INT8")
    assert runner.prepare(images[:1]).dtype == runner.invoke(runner.prepare(images[:1])).dtype
    # The same sums, with the same rounding in another place.
    floats = Runner(int8.flatbuffer)
    assert floats.input_type == "FLOAT32"
    np.testing.assert_allclose(runner.predict(images), floats.predict(images), atol=1e-5)


def test_a_range_of_outliers_only_is_cut(student, images):
    folded = fold(strip(student))
    spoilt = images.copy()
    spoilt[0, 0, 0, 0] = 1000.0
    model, names = quantize_ends(folded, spoilt)
    assert names == ("stem_conv", "logits")
    outputs = model(images, training=False).numpy()
    assert np.isfinite(outputs).all()
    step = np.unique(np.diff(np.unique(outputs)))
    assert step.min() > 1e-4  # 256 values at most
    assert len(np.unique(outputs)) <= 256


def test_a_deep_stem_is_int8_as_a_whole_and_a_shortcut_is_not(nets_images):
    model, images = nets_images
    made = convert_model(model, ends="int8", calibration_images=images)
    kinds = [op.type for op in made.audit.ops]
    # The chain of the stem stays int8: nothing is converted between its convolutions.
    start = kinds.index("CONV_2D")
    assert kinds[start - 1 : start + 4] == [
        "QUANTIZE",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "CONV_2D",
        "DEQUANTIZE",
    ]
    assert int8_operators(made.flatbuffer) == 4
    shortcut = [op for op in made.audit.ops if op.type == "CONV_2D"][-1]
    assert shortcut.output_type == "FLOAT32"


@pytest.fixture(scope="module")
def nets_images():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(layers.Conv2D(8, 1)(layers.BatchNormalization()(x)))
    y = layers.BatchNormalization()(BitatConv2D(8, 3)(RSign()(x)))
    x = layers.Add()([y, layers.Conv2D(8, 1, name="shortcut")(x)])
    y = layers.BatchNormalization()(BitatConv2D(8, 3)(RSign()(x)))
    outputs = layers.Dense(4)(layers.GlobalAveragePooling2D()(layers.Add()([x, y])))
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(np.float32)
    return keras.Model(image, outputs), images


def test_without_a_classifier_int8_output_is_refused(images):
    image = keras.Input(images.shape[1:])
    x = layers.Conv2D(8, 3)(image)
    x = layers.BatchNormalization()(BitatConv2D(8, 3)(RSign()(x)))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    with pytest.raises(ConversionError, match="FLOAT32, not INT8"):
        export(model, ends="int8", io="int8", calibration_images=images)


def test_model_without_float_ends_is_refused(images):
    image = keras.Input(images.shape[1:])
    x = layers.BatchNormalization()(BitatConv2D(8, 3)(RSign()(image)))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    with pytest.raises(ValueError, match="no stem or classifier"):
        export(model, ends="int8", calibration_images=images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ends": "int4"}, "`ends` must be 'float32' or 'int8'. Received: 'int4'"),
        ({"io": "uint8"}, "`io` must be"),
        ({"ends": "int8"}, "calibration_images=None"),
        ({"calibration_images": np.zeros((1, 16, 16, 3), np.float32)}, "only with it"),
        ({"io": "int8"}, "io='int8' needs ends='int8'"),
        (
            {"ends": "int8", "calibration_images": np.zeros((1, 8, 8, 3), np.float32)},
            r"shape \(n, 16, 16, 3\). Received: \(1, 8, 8, 3\)",
        ),
        (
            {"ends": "int8", "calibration_images": np.zeros((4, 16, 16, 3), np.float32)},
            "not all equal",
        ),
    ],
)
def test_arguments_that_contradict_are_refused(student, options, message):
    with pytest.raises(ValueError, match=message):
        export(student, **options)
