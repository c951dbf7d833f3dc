"""Calibration and progressive training of students that `binarize` made, branches included."""

import numpy as np
import pytest
from networks import NETWORKS, distance, examples, residual, switched, trained, vgg

import bitat_tf as bitat
from bitat_tf import train
from bitat_tf._keras import keras, tf
from bitat_tf.binarize import float_twin, without
from bitat_tf.graph import binary_units
from bitat_tf.layers import BitatConv2D

CONFIG = bitat.CalibrationConfig(batches=2)


def batches(model, count=64):
    """As `calibrate` takes them: images, or (inputs,) of a model with several."""
    made = [examples(model, count, seed) for seed in (1, 2)]
    return made if len(model.inputs) == 1 else [(tuple(inputs),) for inputs in made]


def tensor(model, name, images):
    return keras.Model(model.input, model.get_layer(name).output)(images).numpy()


def test_every_binary_layer_is_calibrated_against_the_model_itself(network):
    student, report = bitat.binarize(network)
    result = bitat.calibrate(student, network, batches(network), config=CONFIG)
    assert sorted(layer.name for layer in result.layers) == sorted(report.binary_layers)
    for layer in result.layers:
        assert layer.unexplained_real - 1e-6 <= layer.unexplained_binary
        # equal at worst: in a layer of few inputs the plain signs may be the best
        assert layer.unexplained_binary <= layer.unexplained_sign + 1e-9
    inputs = examples(network, 64, seed=1)
    # The last output is that of a head that is refitted; "angle" has a tanh behind it.
    got = tf.nest.flatten(student(inputs, training=False))[-1]
    want = tf.nest.flatten(network(inputs, training=False))[-1]
    assert np.mean((got - want) ** 2) < np.var(want, axis=0).mean()


@pytest.mark.parametrize(
    ("make", "layer", "end", "target"),
    [
        (residual, "one_a", "one_a_shortcut", "one_abn"),  # an added shortcut: the branch alone
        (residual, "two_a", "two_abn", "two_abn"),  # its own BatchNormalization
        (vgg, "conv1", "conv1_shortcut", "conv1_batchnorm"),  # an added one
    ],
)
def test_the_recorded_residual_is_the_one_the_network_has(make, layer, end, target):
    model = trained(make())
    student, _ = bitat.binarize(model)
    data = batches(model)
    result = bitat.calibrate(student, model, data, config=CONFIG)
    (record,) = [r for r in result.layers if r.name == layer]
    images = np.concatenate(data)
    want = tensor(float_twin(student, model), target, images)
    got = tensor(student, end, images)
    branch = student.get_layer(layer).output.node.layer.name
    batchnorm = {"one_a": "one_abn", "two_a": "two_abn", "conv1": "conv1_batchnorm"}[branch]
    shortcut = got - tensor(student, batchnorm, images)
    left = np.var(want - got, axis=(0, 1, 2)).sum()
    total = np.var(want - shortcut, axis=(0, 1, 2)).sum()
    assert left / total == pytest.approx(record.unexplained_binary, rel=1e-2)
    np.testing.assert_allclose(want.mean((0, 1, 2)), got.mean((0, 1, 2)), atol=1e-3)


def test_the_twin_has_the_convolution_s_output_with_its_bias():
    model = trained(vgg())
    student, _ = bitat.binarize(model)
    images = examples(model)
    twin = float_twin(student, model)
    kernel, bias = model.get_layer("conv1").get_weights()
    inputs = tensor(model, "bn0", images)
    expected = tf.nn.conv2d(inputs, kernel, 1, "SAME") + bias
    np.testing.assert_allclose(tensor(twin, "conv1_batchnorm", images), expected, atol=1e-4)
    assert float_twin(student, twin) is twin


def test_float_weights_trained_on_reach_the_student(network):
    student, _ = bitat.binarize(network)
    on = keras.models.clone_model(network)
    on.set_weights([w * 1.1 for w in network.get_weights()])
    train.copy_float_weights(student, on)
    assert distance(switched(student, False), on, examples(network)) < 2e-5


def test_another_model_than_the_student_s_is_refused():
    student, _ = bitat.binarize(trained(vgg()))
    with pytest.raises(ValueError, match="no layer 'conv0'"):
        bitat.calibrate(student, trained(residual()), batches(residual()), config=CONFIG)


@pytest.mark.parametrize("name", ["vgg", "residual"])
def test_progressive_training_within_fit(name):
    model = trained(NETWORKS[name]())
    student, _ = bitat.binarize(model)
    images, labels = examples(model, 64), np.arange(64) % 4
    units = [unit.name for unit in binary_units(student)]
    schedule = bitat.Schedule(units, total_steps=len(units) + 2, progressive_steps=len(units))
    callback = bitat.BitatCallback(
        schedule, teacher=model, calibration_data=batches(model), config=CONFIG
    )
    student.compile("adam", "sparse_categorical_crossentropy")
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(16).repeat()
    history = student.fit(
        data, steps_per_epoch=len(units) + 2, epochs=1, callbacks=[callback], verbose=0
    )
    assert np.isfinite(history.history["loss"]).all()
    stages = callback.stages.entered
    assert stages[0].binary_units < stages[-1].binary_units == len(units)
    assert callback.stages.calibrations
    assert bitat.recompute_batchnorm(student, batches(model)) > 0
    assert bitat.convert.export(student)


def test_progressive_training_starts_from_the_float_network_in_spite_of_shortcuts():
    model = trained(vgg())
    student, report = bitat.binarize(model)
    assert "shortcut" in report.layer("conv1").action
    units = [unit.name for unit in binary_units(student)]
    schedule = bitat.Schedule(units, total_steps=30, progressive_steps=20)
    stages = train.Stages(student, schedule, teacher=model)
    stages._start_from_float([])
    assert distance(student, model, examples(model)) < 2e-5


def test_features_of_a_student_are_matched_where_its_branches_end():
    model = trained(residual())
    student, _ = bitat.binarize(model)
    bitat.calibrate(student, model, batches(model), config=CONFIG)
    distilled = train.Distilled(student, model, feature_weight=1.0)
    student_outputs = distilled.student_outputs(examples(model))
    teacher_outputs = distilled.teacher_outputs(examples(model))
    assert [t.shape for t in student_outputs] == [t.shape for t in teacher_outputs]
    binary = sum(isinstance(layer, BitatConv2D) for layer in student.layers)
    assert 1 < len(student_outputs) <= 1 + binary


def test_distillation_wants_logits():
    model = trained(vgg())
    student, _ = bitat.binarize(model, rules=without("shortcut"))
    with pytest.raises(ValueError, match="ends in a softmax"):
        train.Distilled(student, model, weight=0.5)
