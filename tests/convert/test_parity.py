import numpy as np
import pytest

from bitat_tf._keras import keras
from bitat_tf.convert import check_parity, export_float

layers = keras.layers


def classifier(scale=1.0, bias=0.0):
    inputs = keras.Input((4, 4, 3))
    head = layers.Dense(2, name="head")
    model = keras.Model(inputs, head(layers.Flatten()(inputs)))
    head.set_weights([scale * head.get_weights()[0], np.array([bias, 0.0], np.float32)])
    return model


def small_images(count=20):
    return np.random.default_rng(0).normal(size=(count, 4, 4, 3)).astype(np.float32)


def test_flatbuffer_agrees_with_its_student(student, flatbuffer, images):
    classes = student(images, training=False).numpy().argmax(axis=1)
    assert len(np.unique(classes)) >= 3  # or agreement would say little
    report = check_parity(student, flatbuffer, images)
    assert report.passed
    assert report.images == 64
    assert report.agreement >= 0.995
    # Float rounding in the middle of the distribution; only flipped signs may exceed it.
    assert 0 < report.error_median < 1e-5
    assert report.error_median <= report.error_p90 <= report.error_p99 <= report.error_max
    expected = np.abs(student(images, training=False).numpy()).max()
    assert report.output_scale == pytest.approx(expected)


def test_network_with_the_opposite_answers_fails_the_criterion():
    model = classifier()
    flatbuffer = export_float(model)
    head = model.get_layer("head")
    head.set_weights([-weight for weight in head.get_weights()])
    report = check_parity(model, flatbuffer, small_images())
    assert report.agreement == 0.0
    assert not report.passed


def test_other_network_has_errors_beyond_rounding(twin, flatbuffer, images):
    report = check_parity(twin, flatbuffer, images)
    assert not report.passed
    assert report.error_median > 0.05


def test_error_is_relative_to_the_largest_output():
    model = classifier()
    flatbuffer = export_float(model)
    head = model.get_layer("head")
    kernel, bias = head.get_weights()
    head.set_weights([2 * kernel, bias])
    report = check_parity(model, flatbuffer, small_images())
    assert report.agreement == 1.0  # doubling the logits moves no class
    assert report.error_max == pytest.approx(0.5, abs=1e-5)


def test_criterion_decides(student, flatbuffer, images):
    assert check_parity(student, flatbuffer, images, min_agreement=0.5).min_agreement == 0.5
    for share in (0.0, 1.1):
        with pytest.raises(ValueError, match=r"min_agreement.*Received"):
            check_parity(student, flatbuffer, images, min_agreement=share)


def test_outputs_that_are_not_finite_are_refused():
    model = classifier()
    flatbuffer = export_float(model)
    head = model.get_layer("head")
    head.set_weights([head.get_weights()[0], np.array([np.nan, 0.0], np.float32)])
    message = "`model` gives outputs that are not finite for 20 of 20"
    with pytest.raises(FloatingPointError, match=message):
        check_parity(model, flatbuffer, small_images())
    with pytest.raises(FloatingPointError, match="`flatbuffer` gives outputs that are not finite"):
        check_parity(classifier(), export_float(model), small_images())


def test_all_zero_outputs_are_refused():
    model = classifier(scale=0.0)
    with pytest.raises(ValueError, match="only zeros"):
        check_parity(model, export_float(model), small_images())


def test_number_of_classes_must_match():
    inputs = keras.Input((4, 4, 3))
    other = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(inputs)))
    with pytest.raises(ValueError, match=r"\(20, 2\) and \(20, 3\)"):
        check_parity(classifier(), export_float(other), small_images())
