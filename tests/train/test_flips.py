"""The flip rate is what it says, for every method's kernels, and across an interruption."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitat_tf import convert, models, train
from bitat_tf.graph import binary_units
from bitat_tf.train.flips import Flips, flip_rate, signs


@given(hnp.arrays(bool, st.integers(1, 70)), st.data())
def test_the_rate_is_the_share_of_signs_that_differ(before, data):
    now = data.draw(hnp.arrays(bool, before.shape))
    assert flip_rate(np.packbits(before), now) == pytest.approx(np.mean(before != now))


def convolutions(student):
    return [c for unit in binary_units(student) for c in unit.convolutions]


def flip(layer, count):
    """Turn the first so many weights of a kernel around."""
    kernel = layer.kernel.latent_variable
    values = kernel.numpy()
    flat = values.reshape(-1)
    flat[:count] *= -1
    kernel.assign(values)


@pytest.fixture
def started(tiny_student, tiny_teacher):
    train.copy_float_weights(tiny_student, tiny_teacher)
    flips = Flips(tiny_student)
    flips.stage()
    return tiny_student, flips


def test_flips_are_counted_by_layer_from_point_to_point(started):
    student, flips = started
    first, second, *others = convolutions(student)
    flip(first, 3)
    flip(second, second.kernel.shape.num_elements())
    rates = flips.rates()
    assert rates[first.name] == pytest.approx(3 / first.kernel.shape.num_elements())
    assert rates[second.name] == 1.0
    assert all(rates[layer.name] == 0.0 for layer in others)
    flip(first, 3)  # back again: a flip as well
    assert flips.rates()[first.name] == rates[first.name]
    assert set(flips.rates().values()) == {0.0}


def test_a_layer_counts_from_the_stage_at_which_it_is_binary(started):
    student, flips = started
    unit = binary_units(student)[0]
    unit.activate(False)
    (first, *_) = unit.convolutions
    assert first.name not in flips.rates()
    flip(first, 5)  # as calibration does when the stage begins
    unit.activate(True)
    flips.stage()
    assert flips.rates()[first.name] == 0.0


def test_a_student_without_binary_layers_has_no_rate(tiny_teacher):
    flips = Flips(tiny_teacher)
    flips.stage()
    assert flips.rates() == {}


@pytest.mark.parametrize("at_point", [True, False])
def test_after_an_interruption_a_rate_is_exact_or_left_out(started, at_point):
    student, whole = started
    (first, *_) = convolutions(student)
    flip(first, 4)
    if at_point:
        whole.rates()
    resumed = Flips(student)
    resumed.resumed(at_point)
    flip(first, 2)
    resumed.stage()  # nothing new: the unknown past stays unknown
    rates = whole.rates()
    assert resumed.rates() == (rates if at_point else {})
    flip(first, 7)
    assert resumed.rates() == whole.rates()


@pytest.mark.parametrize("name", train.METHODS)
def test_the_signs_are_those_of_the_kernels_that_ship(name, tiny_options, tiny_teacher):
    layer_options = train.method(name).layer_options
    student = models.build("mobilenet_v1_react_nano", **tiny_options, **layer_options)
    train.copy_float_weights(student, tiny_teacher)
    shipped = convert.binary_kernels(student)
    for layer in convolutions(student):
        np.testing.assert_array_equal(signs(layer), shipped[layer.name] > 0)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("quantizer", ["release_most_first", "staged_sign", "masked_kernel"])
def test_a_kernel_on_its_way_has_the_signs_that_it_ends_with(
    quantizer, progress, tiny_options, tiny_teacher
):
    student = models.build(
        "mobilenet_v1_react_nano", **tiny_options, kernel_quantizer=quantizer, max_block=16
    )
    train.copy_float_weights(student, tiny_teacher)
    for layer in convolutions(student):
        layer.kernel_quantizer.progress.assign(progress)
        latent = layer.kernel.latent_variable.numpy()
        np.testing.assert_array_equal(signs(layer), latent >= 0)


def test_nothing_of_it_is_in_a_checkpoint(started):
    """Bits of a large network would be: it begins afresh instead."""
    with train.Monitor("student", 4) as monitor:
        assert "flips" not in json.dumps(monitor.state())
