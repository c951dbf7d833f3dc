"""Tracking at its steps and no others, on the student as it then is."""

import numpy as np
import pytest

from bitat_tf import linalg, train
from bitat_tf._keras import keras
from bitat_tf.graph import binary_units


def transforms(student):
    return {
        convolution.name: [weight.numpy() for weight in convolution.transform.weights]
        for unit in binary_units(student)
        for convolution in unit.convolutions
    }


def transform(student, name):
    return student.get_layer(name).transform


def changed(before, after):
    return {
        name
        for name in before
        if any(not np.array_equal(a, b) for a, b in zip(before[name], after[name], strict=True))
    }


@pytest.fixture
def calibrated(tiny_student, tiny_teacher, images):
    train.calibrate(tiny_student, tiny_teacher, [images])
    return tiny_student


def test_it_refreshes_every_layer_at_multiples_and_at_no_other_step(calibrated, images):
    tracking = train.Tracking(calibrated, [images[:64], images[64:]], 3)
    refreshed = []
    for step in range(7):
        before = transforms(calibrated)
        tracking.before_step(step)
        refreshed.append(len(changed(before, transforms(calibrated))))
    assert refreshed == [5, 0, 0, 5, 0, 0, 5]


def test_nothing_but_the_transforms_changes(calibrated, images):
    state = {w.name for name in transforms(calibrated) for w in transform(calibrated, name).weights}
    before = {w.name: np.asarray(w) for w in calibrated.weights}
    assert len(before) == len(calibrated.weights)
    outputs = calibrated(images, training=False).numpy()
    train.Tracking(calibrated, [images[:64]], 2).before_step(0)
    moved = {w.name for w in calibrated.weights if not np.array_equal(before[w.name], w)}
    assert moved == state
    np.testing.assert_array_equal(calibrated(images, training=False), outputs)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_the_average_is_of_what_the_layers_see_now(calibrated, images, momentum):
    layer = calibrated.get_layer("block2_conv3x3")
    probe = keras.Model(calibrated.input, calibrated.get_layer("block2_sign3x3").output)
    calibrated.get_layer("block1_sign3x3").shift.assign_add(
        np.full(layer.kernel.shape[2] // 2, 0.5)
    )
    old = layer.transform.correlation.numpy()
    # the second refresh takes the second batch
    train.Tracking(calibrated, [images[:64], images[64:]], 4, momentum=momentum).before_step(4)
    seen = linalg.batch_correlation(layer.patches(probe(images[64:])).numpy(), 1)
    expected = momentum * old + (1 - momentum) * seen
    correlation = layer.transform.correlation.numpy()
    np.testing.assert_allclose(correlation, expected, atol=1e-5)
    vectors, importance = layer.transform.vectors.numpy()[0], layer.transform.importance.numpy()[0]
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(vectors)), atol=1e-5)
    np.testing.assert_allclose(vectors @ np.diag(importance) @ vectors.T, correlation[0], atol=1e-5)


def test_layers_that_are_not_binary_yet_are_left_alone(calibrated, images):
    units = binary_units(calibrated)
    units[-1].activate(False)
    before = transforms(calibrated)
    train.Tracking(calibrated, [images], 1).before_step(0)
    names = {convolution.name for unit in units[:-1] for convolution in unit.convolutions}
    assert changed(before, transforms(calibrated)) == names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"refresh_steps": 0}, "`refresh_steps` must be at least 1"),
        ({"batches": 0}, "`batches` must be at least 1"),
        ({"momentum": 1.0}, "`momentum` must be at least 0 and below 1"),
        ({"dataset": []}, "`dataset` is empty"),
    ],
)
def test_refuses(tiny_student, images, arguments, message):
    with pytest.raises(ValueError, match=message):
        train.Tracking(tiny_student, **{"dataset": [images], "refresh_steps": 1, **arguments})


def test_a_float_network_has_nothing_to_track(tiny_teacher, images):
    with pytest.raises(ValueError, match="a model with binary convolutions"):
        train.Tracking(tiny_teacher, [images], 1)
