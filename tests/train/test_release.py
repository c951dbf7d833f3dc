"""The release is a function of the step, and ends in the network that is converted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitat_tf import convert, models, train
from bitat_tf._keras import keras, tf
from bitat_tf.graph import binary_units
from bitat_tf.train.release import release_quantizer, released_share

STEPS = 12


def build(options, order="most_first"):
    quantizer = release_quantizer(order)
    return models.build("mobilenet_v1_react_nano", **options, kernel_quantizer=quantizer)


def schedule_for(student, **arguments):
    return train.Schedule(tuple(unit.name for unit in binary_units(student)), STEPS, **arguments)


def shares(student):
    return [
        [float(convolution.kernel_quantizer.progress) for convolution in unit.convolutions]
        for unit in binary_units(student)
    ]


@given(st.integers(0, 50), st.integers(1, 50))
def test_the_share_rises_evenly_from_nothing_to_all(start, release_steps):
    values = [released_share(step, start, release_steps) for step in range(120)]
    assert all(value == 0 for value in values[: start + 1])
    assert all(0 < value < 1 for value in values[start + 1 : start + release_steps])
    assert all(value == 1 for value in values[start + release_steps :])
    assert values == sorted(values)


def test_each_unit_is_released_from_where_it_becomes_binary(tiny_options):
    student = build(tiny_options)
    schedule = schedule_for(student, progressive_steps=8)
    release = train.Release(student, schedule, 3)
    for unit in binary_units(student):
        unit.activate(False)
    for step in range(STEPS):
        stage = schedule.stage_at(step)
        for unit in binary_units(student):
            unit.activate(unit.name in stage.active)
        release.before_step(step)
        for unit, start, values in zip(
            binary_units(student), (0, 2, 4, 6), shares(student), strict=True
        ):
            expected = released_share(step, start, 3) if step >= start else 1.0
            assert values == pytest.approx([expected] * len(values))
            assert unit.binary == (step >= start + 3)
    # asked at a later step, as after a resumption, it is the same state
    again = build(tiny_options)
    for step in (5, 9):
        train.Release(again, schedule, 3).before_step(step)
    assert shares(again)[0] == [1.0]


def test_the_network_does_not_jump_when_the_last_direction_is_released(
    tiny_options, tiny_teacher, images
):
    student = build(tiny_options, "least_first")
    train.calibrate(student, tiny_teacher, [images])
    layer = student.get_layer("block2_conv3x3")
    quantizer, latent = layer.kernel_quantizer, layer.kernel.latent_variable
    inputs = len(layer.transform.importance.numpy().ravel())
    kernels = []
    for share in ((inputs - 1) / inputs - 1e-5, 1.0 - 1e-5, 1.0):
        quantizer.progress.assign(share)
        kernels.append(quantizer(tf.convert_to_tensor(latent)).numpy().reshape(inputs, -1))
    np.testing.assert_array_equal(kernels[1], kernels[2])
    np.testing.assert_array_equal(np.abs(kernels[2]), 1.0)
    # the step before differs from it in one direction: the most important one here
    rotated = layer.transform(tf.transpose(kernels[2] - kernels[0])).numpy()
    size = np.abs(rotated).max(axis=0)
    assert np.argmax(size) == 0
    np.testing.assert_allclose(size[1:], 0.0, atol=1e-4)


@pytest.mark.parametrize("order", ["most_first", "least_first"])
def test_a_released_student_survives_saving_and_converts(
    tiny_options, tiny_teacher, images, labels, tmp_path, order
):
    student = build(tiny_options, order)
    train.calibrate(student, tiny_teacher, [images])
    release = train.Release(student, schedule_for(student), 4)
    release.before_step(2)
    with pytest.raises(ValueError, match="`progress` at 1"):
        convert.export(student)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(32).repeat()
    with train.Monitor("test", STEPS) as monitor:
        train.train(
            train.Distilled(student),
            data,
            STEPS,
            train.cosine_adam(1e-2, STEPS),
            monitor,
            stages=release,
        )
    assert all(unit.binary for unit in binary_units(student))
    train.recompute_batchnorm(student, [images])
    expected = student(images, training=False).numpy()
    assert np.isfinite(expected).all()
    assert expected.std() > 0
    student.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras", compile=False)
    np.testing.assert_array_equal(loaded(images, training=False), expected)
    plain = convert.strip(loaded)
    np.testing.assert_array_equal(plain(images, training=False), expected)
    # export refuses by itself what is not LceBconv2d or holds other signs
    flatbuffer = convert.export(loaded, fold=False)
    convolutions = sum(len(unit.convolutions) for unit in binary_units(student))
    assert convert.audit(flatbuffer).binary_convolutions == convolutions == 5
    assert convert.check_parity(student, flatbuffer, images, min_agreement=0.97).passed


def test_refuses(tiny_student, tiny_options):
    with pytest.raises(ValueError, match=r"'block1_conv3x3' was not built for a release.*SteSign"):
        train.Release(tiny_student, schedule_for(tiny_student), 4)
    student = build(tiny_options)
    with pytest.raises(ValueError, match="`release_steps` must be at least 1"):
        train.Release(student, schedule_for(student), 0)
    with pytest.raises(ValueError, match="to end before total_steps=12"):
        train.Release(student, schedule_for(student, progressive_steps=8), 6)
