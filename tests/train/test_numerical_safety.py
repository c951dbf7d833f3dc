"""Calibration where the numbers give little to go by: finite, or refused in one clear line."""

import numpy as np
import pytest

from bitat_tf import linalg, models
from bitat_tf._keras import keras, tf
from bitat_tf.config import CalibrationConfig
from bitat_tf.graph import binary_units
from bitat_tf.train import calibrate, recompute_batchnorm
from bitat_tf.train.fitting import sum_moments
from bitat_tf.train.thresholds import thresholds

WEIGHTED = pytest.mark.parametrize("task_weights", [False, True])


def check_finite(student, result, images):
    """Weights, outputs and records are finite, and no layer leaves more than it found."""
    for weight in student.get_weights():
        assert np.all(np.isfinite(weight))
    assert np.all(np.isfinite(student(images)))
    for layer in result.layers:
        # a kernel of 0 leaves 1; the ridge and float32 sums are worth the rest
        assert -1e-6 <= layer.unexplained_real <= layer.unexplained_binary + 1e-6 <= 1 + 2e-6


@WEIGHTED
def test_dead_channels(tiny_student, tiny_teacher, images, task_weights):
    batchnorm = tiny_teacher.get_layer("stem_bn")
    gamma, *others = batchnorm.get_weights()
    gamma[::2] = 0  # every second channel is the same over all images
    batchnorm.set_weights([gamma, *others])
    config = CalibrationConfig(batches=2, task_weights=task_weights)
    result = calibrate(tiny_student, tiny_teacher, [images[:96], images[96:]], config=config)
    check_finite(tiny_student, result, images)
    importance = tiny_student.get_layer("block1_conv3x3").transform.importance.numpy()
    assert np.count_nonzero(importance > 1e-6) <= 9 * 4  # C has half its rank


@WEIGHTED
@pytest.mark.parametrize("target", ["joined", "branch"])
def test_constant_images(tiny_student, tiny_teacher, images, task_weights, target):
    constant = np.full((5, 8, 8, 1), 0.1, "float32")
    config = CalibrationConfig(task_weights=task_weights, target=target)
    result = calibrate(tiny_student, tiny_teacher, [constant, constant], config=config)
    check_finite(tiny_student, result, images)
    # what it was calibrated on it still answers as its teacher does
    np.testing.assert_allclose(tiny_student(constant), tiny_teacher(constant), atol=0.05)


@WEIGHTED
def test_batches_of_one_image_with_more_inputs_than_positions(
    tiny_student, tiny_teacher, images, task_weights
):
    singles = [images[:1], images[1:2]]
    config = CalibrationConfig(task_weights=task_weights, margin=0.3)
    result = calibrate(tiny_student, tiny_teacher, singles, config=config)
    assert any(layer.inputs > 2 * 4 * 4 for layer in result.layers)
    check_finite(tiny_student, result, images)
    recompute_batchnorm(tiny_student, singles)
    assert np.all(np.isfinite(tiny_student(images)))


@WEIGHTED
def test_a_target_that_does_not_vary(tiny_student, tiny_teacher, images, task_weights):
    batchnorm = tiny_teacher.get_layer("block1_bn3x3")
    gamma, *others = batchnorm.get_weights()
    batchnorm.set_weights([0 * gamma, *others])
    config = CalibrationConfig(target="branch", task_weights=task_weights)
    result = calibrate(tiny_student, tiny_teacher, [images], config=config)
    check_finite(tiny_student, result, images)
    (record,) = [layer for layer in result.layers if layer.name == "block1_conv3x3"]
    assert record.unexplained_binary == 0
    student = tiny_student.get_layer("block1_bn3x3")
    np.testing.assert_allclose(student.gamma, 0, atol=1e-6)
    np.testing.assert_allclose(student.beta, batchnorm.beta, rtol=1e-5)


def test_task_weights_that_are_all_zero_count_all_alike(tiny_student, tiny_teacher, images):
    head = tiny_teacher.get_layer("logits")
    head.set_weights([np.zeros_like(w) for w in head.get_weights()])  # no gradient comes down
    weights = []
    for task_weights in (False, True):
        config = CalibrationConfig(task_weights=task_weights)
        calibrate(tiny_student, tiny_teacher, [images], config=config)
        # V is left out: eigenvectors of importances that lie close together turn at the last bit.
        kept = [w for w in tiny_student.weights if "vectors" not in w.name]
        weights.append([w.numpy() for w in kept])
    for a, b in zip(*weights, strict=True):
        # A relative tolerance too: moving variances go into the hundreds, summed in any order.
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_moments_without_any_weight_are_refused():
    x = np.ones((4, 2))
    nothing, something = (x, x, np.zeros(4)), (x, x, np.ones(4))
    assert sum_moments([nothing, something]).weight == 4
    with pytest.raises(ValueError, match="All weights `omega` are 0"):
        sum_moments([nothing, nothing])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "uint8"])
def test_images_of_another_type_are_refused(tiny_student, tiny_teacher, images, dtype):
    before = tiny_student.get_weights()
    with pytest.raises(ValueError, match=rf"must be float32.*Received: {dtype}"):
        calibrate(tiny_student, tiny_teacher, [tf.cast(images, dtype)])
    for a, b in zip(before, tiny_student.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("binary", [False, True])
def test_models_in_half_precision_are_refused(
    tiny_options, tiny_student, tiny_teacher, images, policy, binary
):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        half = models.build("mobilenet_v1_react_nano", **tiny_options, binary=binary)
    finally:
        keras.mixed_precision.set_global_policy(before)
    student, teacher = (half, tiny_teacher) if binary else (tiny_student, half)
    with pytest.raises(ValueError, match=r"compute in float32.*'stem_conv' .*float16"):
        calibrate(student, teacher, [images])


def test_a_teacher_that_is_not_finite_is_refused(tiny_student, tiny_teacher, images):
    batchnorm = tiny_teacher.get_layer("block1_bn3x3")
    batchnorm.beta.assign(np.full(batchnorm.beta.shape, np.nan))
    with pytest.raises(ValueError, match="`t` holds NaN or infinity"):
        calibrate(tiny_student, tiny_teacher, [images])


def test_a_student_that_is_not_finite_is_refused(tiny_student, tiny_teacher, images):
    stem = tiny_student.get_layer("stem_conv")
    stem.set_weights([np.full_like(w, np.nan) for w in stem.get_weights()])
    last = binary_units(tiny_student)[-1].name
    with pytest.raises(ValueError, match="inputs of a sign hold NaN"):
        calibrate(tiny_student, tiny_teacher, [images], units=[last])


@pytest.mark.parametrize("rule", ["lloyd_max", "median"])
def test_a_constant_channel_s_threshold_is_its_value(rule):
    # exactly: then x - threshold is 0, one sign for all, and not the sign of rounding
    values = [np.full((3, 4, 4, 2), [0.1, -7.3], "float32") for _ in range(2)]
    for count in (1, 2):
        found = np.float32(thresholds(values, rule, count))
        np.testing.assert_array_equal(found, np.float32([[0.1, -7.3]] * count))


def test_a_kernel_of_a_dead_layer_has_scale_zero():
    x = np.ones((50, 6), "float32")
    t = np.random.default_rng(0).normal(1.0, 0.1, size=(50, 2)).astype("float32")
    point = linalg.moments(x, t)
    signs, alpha = linalg.binary_least_squares(
        point.correlation + 1e-6 * np.eye(6), point.target_correlation, np.zeros((6, 2))
    )
    assert set(np.unique(signs)) <= {-1.0, 1.0}
    np.testing.assert_allclose(alpha, 0.0, atol=1e-8)
