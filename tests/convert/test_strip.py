import os
import subprocess
import sys

import numpy as np
import pytest

from bitat_tf import graph
from bitat_tf._keras import keras
from bitat_tf.convert import strip
from bitat_tf.layers import BitatConv2D, OrthonormalTransform, RSign
from bitat_tf.quantizers import lq

layers = keras.layers

# Loads a saved model as a user without this package would, and writes its outputs.
_LOAD_WITHOUT_PACKAGE = """
import sys
import larq, numpy, tensorflow as tf
model = tf.keras.models.load_model(sys.argv[1])
images = numpy.load(sys.argv[2])
numpy.save(sys.argv[3], model(images, training=False).numpy())
sys.exit("bitat_tf" in sys.modules)
"""


@pytest.fixture(scope="module")
def plain(student):
    return strip(student)


def test_outputs_are_equal_bit_for_bit(student, plain, images):
    expected = student(images, training=False).numpy()
    assert np.isfinite(expected).all()
    assert expected.std() > 0.1  # not a constant that anything would reproduce
    np.testing.assert_array_equal(plain(images, training=False).numpy(), expected)


def test_float_twin_is_stripped_to_the_same_outputs(twin, images):
    expected = twin(images, training=False).numpy()
    np.testing.assert_array_equal(strip(twin)(images, training=False).numpy(), expected)


def test_no_layer_of_this_package_is_left(student, plain):
    modules = {type(layer).__module__.split(".")[0] for layer in plain.layers}
    assert modules == {"tf_keras", "larq"}
    trained = sum(int(np.prod(weight.shape)) for weight in student.trainable_weights)
    shifts = sum(
        int(np.prod(weight.shape)) for weight in student.trainable_weights if "shift" in weight.name
    )
    assert sum(int(np.prod(w.shape)) for w in plain.trainable_weights) == trained - shifts


def test_convolutions_keep_name_latent_kernel_and_constraint(student, plain):
    for layer in student.layers:
        if isinstance(layer, BitatConv2D):
            stripped = plain.get_layer(layer.name)
            assert stripped.pad_values == 1.0
            assert type(stripped.kernel_constraint) is type(layer.kernel_constraint)
            assert stripped.kernel_constraint is not None
            np.testing.assert_array_equal(stripped.get_weights()[0], layer.get_weights()[0])


def test_dense_layer_of_signs_becomes_a_convolution_of_the_same_outputs():
    inputs = keras.Input((48,))
    arguments = {"input_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    x = lq.layers.QuantDense(
        32, kernel_quantizer="ste_sign", bias_initializer="ones", name="hidden", **arguments
    )(inputs)
    x = layers.BatchNormalization()(x)
    x = lq.layers.QuantDense(
        5, kernel_quantizer="ste_sign", activation="relu", use_bias=False, name="last", **arguments
    )(x)
    model = keras.Model(inputs, x)
    plain = strip(model)
    for name in ("hidden", "last"):
        assert type(plain.get_layer(name)) is lq.layers.QuantConv2D
    rows = np.random.default_rng(0).normal(size=(16, 48)).astype(np.float32)
    np.testing.assert_array_equal(plain(rows), model(rows))
    assert plain.output_shape == (None, 5)
    # Without a kernel quantizer it is an ordinary dense layer.
    float_dense = lq.layers.QuantDense(5, input_quantizer="ste_sign", name="float")(inputs)
    kept = strip(keras.Model(inputs, float_dense)).get_layer("float")
    assert type(kept) is lq.layers.QuantDense


def test_student_stays_as_it_was(images):
    inputs = keras.Input((8, 8, 4))
    outputs = BitatConv2D(4, 3, name="conv")(RSign(name="sign")(inputs))
    model = keras.Model(inputs, outputs)
    before = [weight.copy() for weight in model.get_weights()]
    plain = strip(model)
    plain.get_layer("conv").set_weights([np.zeros((3, 3, 4, 4), np.float32)])
    for weight, copy in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, copy)


@pytest.mark.timeout(120)
def test_saved_model_loads_with_larq_alone(plain, images, tmp_path):
    model, inputs, outputs = (tmp_path / n for n in ("plain.keras", "in.npy", "out.npy"))
    plain.save(model)
    np.save(inputs, images)
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run(
        [sys.executable, "-c", _LOAD_WITHOUT_PACKAGE, model, inputs, outputs],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    np.testing.assert_array_equal(np.load(outputs), plain(images, training=False).numpy())


def test_inactive_unit_is_refused_by_name():
    inputs = keras.Input((8, 8, 4))
    x = BitatConv2D(4, 3)(RSign(name="sign_1")(inputs))
    x = BitatConv2D(4, 3)(RSign(name="sign_2")(x))
    model = keras.Model(inputs, x)
    graph.binary_units(model)[1].activate(False)
    with pytest.raises(ValueError, match=r"'sign_2'.*switch it on"):
        strip(model)


def test_inactive_convolution_is_refused_by_name():
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, BitatConv2D(4, 3, name="conv_1")(RSign()(inputs)))
    model.get_layer("conv_1").active.assign(False)
    with pytest.raises(ValueError, match=r"'conv_1'.*with reals"):
        strip(model)


def test_student_within_a_model_is_refused():
    inputs = keras.Input((8, 8, 4))
    inner = keras.Model(inputs, BitatConv2D(4, 3, name="conv_1")(RSign()(inputs)))
    outer = keras.Input((8, 8, 4))
    with pytest.raises(ValueError, match="nested model"):
        strip(keras.Model(outer, inner(outer)))


def test_layer_without_a_plain_counterpart_is_refused_by_name():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, OrthonormalTransform(name="transform_1")(inputs))
    with pytest.raises(ValueError, match=r"'transform_1'.*no counterpart"):
        strip(model)
