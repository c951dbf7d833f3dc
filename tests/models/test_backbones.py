"""What every backbone promises, on a small network of each family."""

import numpy as np
import pytest
from small_networks import TINY, binary_names, latent_kernels, tiny, train

from bitat_tf import binary_kernels, convert, count, graph, models
from bitat_tf._keras import keras
from bitat_tf.train.branches import find_branch
from bitat_tf.train.transfer import copy_float_weights


@pytest.fixture(scope="module", params=sorted(TINY))
def trained(request):
    return train(request.param)


def test_every_family_has_a_small_network_here():
    assert set(TINY) == {name for name in models.names() if not name.endswith("_nano")}


@pytest.mark.parametrize("name", sorted(TINY))
@pytest.mark.parametrize("size", [32, 224])
def test_builds_in_full_depth_at_both_sizes(name, size):
    arguments = {"classes": 10, "width": 0.25, "input_size": size, "max_block": 32}
    student, teacher = (models.build(name, **arguments, binary=binary) for binary in (True, False))
    assert student.output_shape == teacher.output_shape == (None, 10)
    own, twins = ({layer.name for layer in m.layers} for m in (student, teacher))
    # The twin lacks the signs, and has an activation where a sign is the only nonlinearity.
    signs = {unit.name for unit in graph.binary_units(student)}
    assert own - twins == signs
    assert twins - own <= {f"{sign}_relu" for sign in signs}


@pytest.mark.parametrize("name", sorted(TINY))
def test_one_seed_gives_one_network_with_every_layer_named(name):
    built = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        built.append(tiny(name))
    first, second = built
    # A name that Keras makes up is numbered through the process.
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_binary_convolution_has_a_sign_a_batchnorm_and_a_shortcut(trained):
    units = graph.binary_units(trained.student)
    in_units = {c.name for unit in units for c in unit.convolutions}
    assert in_units == set(binary_names(trained.student))
    network = graph.Graph(trained.student)
    for call in network.calls:
        if call.layer.name in in_units:
            branch = find_branch(network, call)
            assert branch.join is not None
            assert len(branch.others) >= 1


def test_calibrates(trained):
    calibrated = [layer.name for layer in trained.calibration.layers]
    assert sorted(calibrated) == sorted(binary_names(trained.student))
    for layer in trained.calibration.layers:
        assert 0 <= layer.unexplained_real <= layer.unexplained_binary < 1


def test_trains_one_step(trained):
    assert np.isfinite(trained.loss)
    latent = latent_kernels(trained.student)
    for name, kernel in trained.kernels.items():
        assert np.any(latent[name] != kernel), name


@pytest.mark.parametrize("name", sorted(TINY))
def test_two_thresholds_double_what_is_binary(name):
    one, two = (count(tiny(name, thresholds=n)) for n in (1, 2))
    assert two.binary_macs == 2 * one.binary_macs
    assert two.float_macs == one.float_macs


def test_switched_off_it_is_its_float_twin(trained):
    student = tiny(trained.name)
    copy_float_weights(student, trained.teacher)
    for unit in graph.binary_units(student):
        unit.activate(False)
    np.testing.assert_array_equal(student(trained.images), trained.teacher(trained.images))


def test_converts_with_every_intended_layer_binary(trained):
    flatbuffer = convert.export(trained.student, fold=False)
    report = convert.audit(flatbuffer, binary_kernels(trained.student))
    assert report.missing == ()
    assert report.binary_convolutions == len(binary_names(trained.student))
    counts = count(trained.student)
    assert (report.binary_macs, report.float_macs) == (counts.binary_macs, counts.float_macs)
    constants = sum(op.size_bytes for op in report.ops)
    # Behind a float convolution BatchNorm's scale goes into the kernel: a few bytes fewer.
    assert constants <= counts.size_bytes <= 1.1 * constants
    assert convert.check_parity(trained.student, flatbuffer, trained.images).agreement >= 0.95


def test_stripped_it_can_be_loaded_without_this_package(trained):
    assert "bitat_tf" not in convert.strip(trained.student).to_json()


@pytest.mark.parametrize("name", sorted(TINY))
def test_converts_at_224_pixels(name):
    model = tiny(name, input_size=224)
    report = convert.audit(convert.export(model, fold=False))
    assert report.input_shape == (1, 224, 224, 3)
    assert report.binary_convolutions == len(binary_names(model))


@pytest.mark.parametrize("form", ["keras", "SavedModel"])
def test_saves_and_loads(trained, form, tmp_path):
    path = tmp_path / ("model.keras" if form == "keras" else "model")
    trained.student.save(path)
    assert path.is_dir() == (form == "SavedModel")
    loaded = keras.models.load_model(path, compile=False)
    assert [layer.name for layer in loaded.layers] == [n.name for n in trained.student.layers]
    np.testing.assert_array_equal(
        loaded(trained.images, training=False), trained.student(trained.images, training=False)
    )
    # The latent kernels, transforms and switches are there: training can go on.
    for old, new in zip(trained.student.layers, loaded.layers, strict=True):
        for one, other in zip(old.get_weights(), new.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other, old.name)
    kernels = binary_kernels(loaded)
    assert kernels.keys() == set(binary_names(trained.student))
    for name, kernel in binary_kernels(trained.student).items():
        assert set(np.unique(kernel)) == {-1.0, 1.0}
        np.testing.assert_array_equal(kernels[name], kernel)


def test_a_loaded_model_trains_on(trained, tmp_path):
    trained.student.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")  # with its optimizer
    before = loaded.get_weights()
    loaded.fit(trained.images[:16], np.arange(16) % 4, batch_size=16, verbose=0)
    assert any(not np.array_equal(a, b) for a, b in zip(before, loaded.get_weights(), strict=True))
