"""Calibration against what it promises, measured on the network itself."""

import numpy as np
import pytest

from bitat_tf import graph, linalg, models
from bitat_tf._keras import keras, tf
from bitat_tf.config import CalibrationConfig
from bitat_tf.layers import BitatConv2D, RSign
from bitat_tf.train import calibrate
from bitat_tf.train.thresholds import thresholds
from bitat_tf.train.transfer import copy_float_weights

CONFIG = CalibrationConfig(batches=3, batch_size=64)


def tensor(model, layer_name, images):
    """A layer's output in a model."""
    return keras.Model(model.input, model.get_layer(layer_name).output)(images).numpy()


@pytest.fixture
def batches(images):
    return [images[:64], images[64:128], images[128:]]


def test_the_recorded_residual_is_the_one_the_network_has(
    tiny_student, tiny_teacher, batches, images
):
    result = calibrate(tiny_student, tiny_teacher, batches, config=CONFIG)
    assert result.images == len(images)
    for layer, add in (("block1_conv3x3", "block1_add3x3"), ("block2_conv1x1", "block2_add1x1")):
        want = tensor(tiny_teacher, add, images)
        got = tensor(tiny_student, add, images)
        shortcut = got - tensor(tiny_student, layer.replace("conv", "bn"), images)
        residual = np.var(want - got, axis=(0, 1, 2)).sum()
        total = np.var(want - shortcut, axis=(0, 1, 2)).sum()
        (record,) = [r for r in result.layers if r.name == layer]
        assert residual / total == pytest.approx(record.unexplained_binary, rel=1e-3)
        np.testing.assert_allclose(want.mean((0, 1, 2)), got.mean((0, 1, 2)), atol=1e-4)


def test_every_layer_is_better_than_plain_signs_and_above_its_floor(
    tiny_student, tiny_teacher, batches
):
    result = calibrate(tiny_student, tiny_teacher, batches, config=CONFIG)
    assert {layer.name for layer in result.layers} == {
        c.name for unit in graph.binary_units(tiny_student) for c in unit.convolutions
    }
    for layer in result.layers:
        assert layer.unexplained_real - 1e-9 <= layer.unexplained_binary
        assert layer.unexplained_binary < layer.unexplained_sign
        assert 0 <= layer.sign_changes <= 1


def test_batchnorm_statistics_are_those_of_the_calibration_data(
    tiny_student, tiny_teacher, batches, images
):
    calibrate(tiny_student, tiny_teacher, batches, config=CONFIG)
    z = tensor(tiny_student, "block2_conv3x3", images)
    bn = tiny_student.get_layer("block2_bn3x3")
    np.testing.assert_allclose(bn.moving_mean, z.mean((0, 1, 2)), atol=1e-3)
    np.testing.assert_allclose(bn.moving_variance, z.var((0, 1, 2)), rtol=1e-3)


def test_the_transform_that_a_layer_carries_diagonalises_its_inputs(
    tiny_student, tiny_teacher, batches, images
):
    calibrate(tiny_student, tiny_teacher, batches, config=CONFIG)
    layer = tiny_student.get_layer("block2_conv3x3")
    patches = layer.patches(tensor(tiny_student, "block2_sign3x3", images))
    rotated = layer.transform(patches).numpy()
    covariance = np.cov(rotated.T, bias=True)
    importance = layer.transform.importance.numpy().ravel()
    np.testing.assert_allclose(covariance, np.diag(importance), atol=1e-3 * importance.max())


def test_latent_signs_are_the_chosen_ones_and_never_zero(tiny_student, tiny_teacher, batches):
    calibrate(tiny_student, tiny_teacher, batches, config=CONFIG)
    for unit in graph.binary_units(tiny_student):
        for convolution in unit.convolutions:
            latent = np.abs(convolution.kernel.latent_variable.numpy())
            assert latent.min() > 0
            assert latent.max() <= 1


def test_calibration_is_deterministic(tiny_options, tiny_teacher, batches):
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        student = models.build("mobilenet_v1_react_nano", **tiny_options)
        calibrate(student, tiny_teacher, batches, config=CONFIG)
        weights.append(student.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_labels_are_ignored_and_only_the_asked_number_of_batches_is_read(
    tiny_student, tiny_teacher, images, labels
):
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(32).repeat()
    assert calibrate(tiny_student, tiny_teacher, dataset, config=CONFIG).images == 96


def test_one_image_batches_and_dead_inputs_stay_finite(tiny_student, tiny_teacher, images):
    constant = np.zeros_like(images[:1])
    calibrate(tiny_student, tiny_teacher, [constant, constant], config=CONFIG)
    assert np.all(np.isfinite(tiny_student(images)))
    for weight in tiny_student.get_weights():
        assert np.all(np.isfinite(weight))


def test_chosen_units_leave_the_others_as_they_are(tiny_student, tiny_teacher, batches):
    units = graph.binary_units(tiny_student)
    for unit in units:
        unit.activate(False)
    before = tiny_student.get_layer("block2_conv3x3").kernel.latent_variable.numpy()
    result = calibrate(tiny_student, tiny_teacher, batches, config=CONFIG, units=[units[1].name])
    assert {layer.name for layer in result.layers} == {"block1_conv1x1a", "block1_conv1x1b"}
    assert [unit.active for unit in units] == [False, True, False, False]
    np.testing.assert_array_equal(
        before, tiny_student.get_layer("block2_conv3x3").kernel.latent_variable.numpy()
    )


def two_branch_model(binary):
    """An addition whose two sides are both binary convolutions: each is the other's shortcut."""
    image = keras.Input((8, 8, 4))
    sides = []
    for side in "ab":
        y = RSign(name=f"sign_{side}")(image) if binary else image
        kind = BitatConv2D if binary else keras.layers.Conv2D
        arguments = {} if binary else {"padding": "same", "use_bias": False}
        y = kind(4, 3, name=f"conv_{side}", **arguments)(y)
        sides.append(keras.layers.BatchNormalization(name=f"bn_{side}")(y))
    y = keras.layers.Add(name="add")(sides)
    pooled = keras.layers.GlobalAveragePooling2D()(y)
    return keras.Model(image, keras.layers.Dense(3, name="head")(pooled))


def test_two_binary_branches_into_one_addition():
    teacher, student = two_branch_model(False), two_branch_model(True)
    images = np.random.default_rng(0).normal(size=(128, 8, 8, 4)).astype("float32")
    result = calibrate(student, teacher, [images], config=CONFIG)
    assert {layer.name for layer in result.layers} == {"conv_a", "conv_b"}
    want, got = tensor(teacher, "add", images), tensor(student, "add", images)
    assert np.var(want - got) < 0.6 * np.var(want)


def test_a_wide_kernel_is_calibrated_in_blocks(tiny_options, tiny_teacher, batches):
    keras.utils.set_random_seed(3)
    student = models.build("mobilenet_v1_react_nano", **tiny_options, max_block=24)
    result = calibrate(student, tiny_teacher, batches, config=CONFIG)
    assert student.get_layer("block2_conv3x3").transform.vectors.shape == (6, 24, 24)
    for layer in result.layers:
        assert layer.unexplained_binary < layer.unexplained_sign


def test_the_refitted_head_beats_the_teacher_s(tiny_student, tiny_teacher, batches, images):
    errors = []
    for fit_head in (False, True):
        config = CalibrationConfig(batches=3, fit_head=fit_head)
        calibrate(tiny_student, tiny_teacher, batches, config=config)
        errors.append(np.mean((tiny_student(images) - tiny_teacher(images)) ** 2))
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("rule", "expected"), [("zero", 0.0), ("median", 1.0), ("lloyd_max", None)]
)
def test_threshold_rules(rule, expected):
    values = [np.random.default_rng(0).exponential(size=(4, 6, 6, 2)) for _ in range(2)]
    (got,) = thresholds(values, rule)
    rows = np.concatenate(values).reshape(-1, 2)
    if rule == "median":
        expected = np.median(rows, axis=0)
    elif rule == "lloyd_max":
        expected = linalg.lloyd_max_threshold(rows)
    np.testing.assert_allclose(got, np.broadcast_to(expected, 2))


def test_rules_for_several_thresholds():
    values = [np.random.default_rng(0).exponential(size=(4, 6, 6, 2)) for _ in range(2)]
    rows = np.concatenate(values).reshape(-1, 2)
    np.testing.assert_allclose(
        thresholds(values, "median", 3), np.quantile(rows, [0.25, 0.5, 0.75], axis=0)
    )
    np.testing.assert_allclose(
        thresholds(values, "lloyd_max", 3), linalg.lloyd_max_thresholds(rows, 3)
    )
    with pytest.raises(ValueError, match="all 3 thresholds of a channel the same"):
        thresholds(values, "zero", 3)


def test_a_second_threshold_explains_more_of_every_layer(
    tiny_options, tiny_teacher, batches, images
):
    explained = {}
    for count in (1, 2):
        student = models.build("mobilenet_v1_react_nano", **tiny_options, thresholds=count)
        copy_float_weights(student, tiny_teacher)
        for unit in graph.binary_units(student):
            unit.activate(False)
        # switched off, it computes what the teacher does
        np.testing.assert_allclose(student(images), tiny_teacher(images), atol=1e-4)
        result = calibrate(student, tiny_teacher, batches)
        explained[count] = {layer.name: layer.unexplained_real for layer in result.layers}
    first = next(iter(explained[1]))
    assert explained[2][first] < 0.8 * explained[1][first]
    assert sum(explained[2].values()) < 0.9 * sum(explained[1].values())


def test_refuses_what_it_cannot_calibrate(tiny_student, tiny_teacher, batches, images):
    with pytest.raises(ValueError, match="no binary layer"):
        calibrate(tiny_teacher, tiny_teacher, batches)
    with pytest.raises(ValueError, match="is empty"):
        calibrate(tiny_student, tiny_teacher, [])
    with pytest.raises(ValueError, match="NaN"):
        calibrate(tiny_student, tiny_teacher, [np.full_like(images, np.nan)])
    with pytest.raises(ValueError, match="float32"):
        calibrate(tiny_student, tiny_teacher, [images.astype("float16")])
    with pytest.raises(ValueError, match="names no unit"):
        calibrate(tiny_student, tiny_teacher, batches, units=["nowhere"])


def test_refuses_a_teacher_that_is_not_the_twin(tiny_options, tiny_student, batches):
    other = models.build(
        "mobilenet_v1_react_nano", **{**tiny_options, "stem_channels": 16}, binary=False
    )
    with pytest.raises(ValueError, match="other shapes"):
        calibrate(tiny_student, other, batches)


def test_refuses_a_teacher_that_lacks_a_layer(tiny_student, tiny_teacher, batches):
    renamed = graph.rebuild(
        tiny_teacher,
        lambda call: keras.layers.Dense(4, name="other") if call.layer.name == "logits" else None,
    )
    with pytest.raises(ValueError, match="no layer 'logits'"):
        calibrate(tiny_student, renamed, batches)


def test_refuses_a_convolution_whose_input_is_not_binary(tiny_teacher, batches):
    image = keras.Input((4, 4, 2))
    y = keras.layers.BatchNormalization()(BitatConv2D(2, 1, name="bare")(image))
    y = BitatConv2D(2, 1)(RSign()(y))
    student = keras.Model(image, keras.layers.BatchNormalization()(y))
    with pytest.raises(ValueError, match="'bare' must read an RSign"):
        calibrate(student, tiny_teacher, batches)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_head_behind_a_softmax_is_refitted_and_behind_another_activation_left_alone(activation):
    def build(binary):
        model = two_branch_model(binary)
        last = keras.layers.Activation(activation, name="last")
        return keras.Model(model.input, last(model.output))

    teacher, student = build(False), build(True)
    images = np.random.default_rng(0).normal(size=(64, 8, 8, 4)).astype("float32")
    calibrate(student, teacher, [images], config=CONFIG)
    heads = (model.get_layer("head").get_weights() for model in (student, teacher))
    same = [np.array_equal(a, b) for a, b in zip(*heads, strict=True)]
    assert same == [activation == "sigmoid"] * 2
    if activation == "softmax":
        got, want = tensor(student, "head", images), tensor(teacher, "head", images)
        np.testing.assert_allclose(got.mean(axis=0), want.mean(axis=0), atol=1e-4)


def test_a_convolution_without_batchnorm_is_named():
    image = keras.Input((4, 4, 2))
    y = BitatConv2D(2, 1, name="lonely")(RSign()(image))
    student = keras.Model(image, keras.layers.Activation("relu", name="relu")(y))
    plain = keras.layers.Conv2D(2, 1, use_bias=False, name="lonely")(image)
    teacher = keras.Model(image, keras.layers.Activation("relu", name="relu")(plain))
    with pytest.raises(ValueError, match="'lonely' must be followed by a BatchNormalization"):
        calibrate(student, teacher, [np.ones((2, 4, 4, 2), "float32")])
