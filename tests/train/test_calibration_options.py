"""What each option of the calibration changes, and what it leaves."""

import sys

import numpy as np
import pytest

from bitat_tf import linalg
from bitat_tf._keras import keras
from bitat_tf.config import CalibrationConfig
from bitat_tf.graph import binary_units
from bitat_tf.layers import BitatConv2D
from bitat_tf.train import calibrate, copy_float_weights
from bitat_tf.train.fitting import fit_layer, solve
from bitat_tf.train.task_weights import task_weights

INPUTS, OUTPUTS = 24, 5


def config(**options):
    return CalibrationConfig(batches=3, batch_size=64, **options)


def tensor(model, layer_name, images):
    """A layer's output in a model."""
    return keras.Model(model.input, model.get_layer(layer_name).output)(images).numpy()


@pytest.fixture
def batches(images):
    return [images[:64], images[64:128], images[128:]]


# --- one layer ---------------------------------------------------------------------------------


@pytest.fixture
def layer():
    """A 1x1 convolution with a kernel of its own, as the teacher's would be."""
    made = BitatConv2D(OUTPUTS, 1, kernel_initializer=keras.initializers.RandomNormal(stddev=0.4))
    made.build((None, 4, 4, INPUTS))
    return made


def latent(layer):
    return layer.kernel.latent_variable.numpy().reshape(INPUTS, OUTPUTS).astype("float64")


def signs(layer):
    return np.where(latent(layer) < 0, -1.0, 1.0)


def correlated_moments(seed=0):
    """Inputs in {-1, +1} that depend on each other, and a target that depends on them."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(600, INPUTS)) @ rng.normal(size=(INPUTS, INPUTS))
    x = np.where(mixed < 0, -1.0, 1.0)
    t = x @ rng.normal(size=(INPUTS, OUTPUTS)) + rng.normal(size=(600, OUTPUTS))
    return linalg.moments(x, t)


def fit(layer, point, **options):
    batchnorm = keras.layers.BatchNormalization()
    batchnorm.build((None, 4, 4, OUTPUTS))
    record = fit_layer(layer, batchnorm, point, config(**options))
    return record, batchnorm


def scale(batchnorm):
    """alpha, from the BatchNorm that took it up."""
    return batchnorm.gamma.numpy() / np.sqrt(batchnorm.moving_variance.numpy() + batchnorm.epsilon)


def error(gram, real, signs):
    """Error of the best scaled signs for a real kernel, per column."""
    difference = real - signs * linalg.optimal_scale(gram, gram @ real, signs)
    return np.sum(difference * (gram @ difference), axis=0)


def test_the_diagonal_code_is_the_sign_of_the_compensated_kernel(layer):
    point = correlated_moments()
    real, _, _, _ = solve(point, config().ridge, max_block=INPUTS)
    _, batchnorm = fit(layer, point, code_search="diagonal")
    np.testing.assert_array_equal(signs(layer), np.where(real < 0, -1.0, 1.0))
    best = linalg.optimal_scale(point.correlation, point.target_correlation, signs(layer))
    np.testing.assert_allclose(scale(batchnorm), best, rtol=1e-4)


def test_the_search_under_the_correlation_beats_the_diagonal_one(layer):
    point = correlated_moments()
    diagonal, _ = fit(layer, point, code_search="diagonal")
    searched, _ = fit(layer, point)
    assert searched.unexplained_binary < diagonal.unexplained_binary
    assert searched.unexplained_real == diagonal.unexplained_real


def test_without_compensation_the_signs_stand_for_the_teacher_s_kernel_under_c(layer):
    point, teacher = correlated_moments(), latent(layer)
    _, _, _, strength = solve(point, config().ridge, max_block=INPUTS)
    gram = point.correlation + strength * np.eye(INPUTS)
    fit(layer, point, compensate=False)
    chosen = signs(layer)
    best = error(gram, teacher, chosen)
    plain = np.where(teacher < 0, -1.0, 1.0)
    assert np.all(best <= error(gram, teacher, plain) + 1e-9)
    assert np.sum(best) < 0.9 * np.sum(error(gram, teacher, plain))
    alpha = linalg.optimal_scale(gram, gram @ teacher, chosen)
    for k in range(INPUTS):  # no single flip helps at the scale that was found
        flipped = chosen.copy()
        flipped[k] *= -1
        difference = teacher - flipped * alpha
        assert np.all(np.sum(difference * (gram @ difference), axis=0) >= best - 1e-9)


def test_without_compensation_the_target_decides_the_scale_alone(layer):
    teacher = layer.kernel.latent_variable.numpy()
    point = correlated_moments()
    other = linalg.Moments(
        point.weight, point.x, -2.0 * point.t, point.xx, -2.0 * point.xt, 4.0 * point.tt
    )
    found = []
    for moments in (point, other):
        layer.kernel.latent_variable.assign(teacher)
        _, batchnorm = fit(layer, moments, compensate=False)
        found.append(signs(layer))
        best = linalg.optimal_scale(moments.correlation, moments.target_correlation, signs(layer))
        np.testing.assert_allclose(scale(batchnorm), best, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(*found)


def test_without_compensation_or_search_the_teacher_s_signs_stay(layer):
    before = signs(layer)
    record, _ = fit(layer, correlated_moments(), compensate=False, code_search="diagonal")
    np.testing.assert_array_equal(signs(layer), before)
    assert record.sign_changes == 0
    assert record.unexplained_binary == record.unexplained_sign


@pytest.mark.parametrize("margin", [0.05, 0.3, 0.7, 0.95])
@pytest.mark.parametrize("size", [1e-6, 1.0, 50.0])
def test_a_margin_is_the_mean_magnitude_and_leaves_the_signs(layer, margin, size):
    point = correlated_moments()
    point = linalg.Moments(
        point.weight, point.x, size * point.t, point.xx, size * point.xt, size**2 * point.tt
    )
    fit(layer, point)
    without = signs(layer)
    fit(layer, point, margin=margin)
    np.testing.assert_array_equal(signs(layer), without)
    # magnitudes are kept above 1e-4, which may lift the mean by as much
    assert np.abs(latent(layer)).mean() == pytest.approx(margin, abs=1e-4)
    assert np.abs(latent(layer)).max() <= 1


# --- the network -------------------------------------------------------------------------------


@pytest.fixture
def points(monkeypatch):
    """Moments that each layer was fitted to, by the layer's name, of the latest calibration."""
    seen = {}

    def watch(layer, batchnorm, point, config):
        seen[layer.name] = point
        return fit_layer(layer, batchnorm, point, config)

    monkeypatch.setattr(sys.modules[calibrate.__module__], "fit_layer", watch)
    return seen


@pytest.mark.parametrize("target", ["joined", "branch"])
def test_a_layer_s_target_is_the_one_that_was_asked_for(
    tiny_student, tiny_teacher, batches, images, points, target
):
    calibrate(tiny_student, tiny_teacher, batches, config=config(target=target))
    for name in ("block1_conv3x3", "block1_conv1x1b", "block2_conv1x1"):
        if target == "branch":
            want = tensor(tiny_teacher, name.replace("conv", "bn"), images)
        else:
            joined = name.replace("conv", "add")
            branch = tensor(tiny_student, name.replace("conv", "bn"), images)
            shortcut = tensor(tiny_student, joined, images) - branch
            want = tensor(tiny_teacher, joined, images) - shortcut
        np.testing.assert_allclose(points[name].mean_t, want.mean((0, 1, 2)), atol=1e-4)
        np.testing.assert_allclose(points[name].target_variance, want.var((0, 1, 2)), rtol=1e-3)


@pytest.mark.parametrize("binary_below", [False, True])
def test_the_targets_differ_exactly_when_the_student_s_shortcut_does(
    tiny_student, tiny_teacher, batches, points, binary_below
):
    below, unit, *above = binary_units(tiny_student)
    found = {}
    for target in ("joined", "branch"):
        copy_float_weights(tiny_student, tiny_teacher)
        below.activate(binary_below)
        for other in (unit, *above):
            other.activate(False)
        options = config(target=target)
        calibrate(tiny_student, tiny_teacher, batches, config=options, units=[unit.name])
        (convolution, *_) = unit.convolutions
        found[target] = points[convolution.name].target_correlation
    same = np.allclose(found["joined"], found["branch"], atol=1e-5)
    assert same != binary_below


def test_task_weights_weigh_the_positions_of_the_layer_s_target(
    tiny_student, tiny_teacher, batches, images, labels, points
):
    dataset = list(zip(batches, np.split(labels, 3), strict=True))
    calibrate(tiny_student, tiny_teacher, dataset, config=config(task_weights=True))
    joined = "block2_add3x3"
    (omega,) = task_weights(tiny_teacher, [joined], [images], [labels])[joined]
    layer = tiny_student.get_layer("block2_conv3x3")
    x = layer.patches(tensor(tiny_student, "block2_sign3x3", images)).numpy()
    shortcut = tensor(tiny_student, joined, images) - tensor(tiny_student, "block2_bn3x3", images)
    t = (tensor(tiny_teacher, joined, images) - shortcut).reshape(-1, layer.filters)
    want, got = linalg.moments(x, t, omega), points["block2_conv3x3"]
    np.testing.assert_allclose(got.correlation, want.correlation, atol=1e-4)
    np.testing.assert_allclose(got.target_correlation, want.target_correlation, atol=1e-4)
    plain = linalg.moments(x, t)
    assert np.abs(plain.correlation - want.correlation).max() > 1e-2


def test_task_weights_take_labels_or_the_teacher_s_answers(
    tiny_student, tiny_teacher, batches, labels
):
    answers = [np.argmax(tiny_teacher(batch), axis=-1) for batch in batches]
    others = np.split(labels, 3)
    weights = []
    for dataset in (
        batches,
        list(zip(batches, answers, strict=True)),
        list(zip(batches, others, strict=True)),
    ):
        calibrate(tiny_student, tiny_teacher, dataset, config=config(task_weights=True))
        weights.append(tiny_student.get_weights())
    own, told, other = weights
    for a, b in zip(own, told, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(own, other, strict=True))


def test_labels_do_not_matter_without_task_weights(tiny_student, tiny_teacher, batches, labels):
    weights = []
    for dataset in (batches, list(zip(batches, np.split(labels, 3), strict=True))):
        calibrate(tiny_student, tiny_teacher, dataset, config=config())
        weights.append(tiny_student.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
