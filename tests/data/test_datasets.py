"""Parts that do not overlap, standardised batches, and the same batches for the same seed."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bitat_tf._keras import tf
from bitat_tf.config import DataConfig
from bitat_tf.data import load, parts

# The `prepared` set's (conftest.py)
TRAIN, TEST, CLASSES = 60, 12, 3

PLAIN = DataConfig(augment=False)
AUGMENTED = DataConfig(crop_padding=1, flip=True)


def _take(dataset: tf.data.Dataset, batches: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*dataset.take(batches).as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _all(dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    return _take(dataset, -1)


def _bytes(images: np.ndarray) -> list[bytes]:
    return [image.tobytes() for image in images]


def _one_epoch(data, batch_size: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return _take(data.train(batch_size), data.train_images // batch_size)


@pytest.fixture(params=["memory", "streamed"])
def tiny(request, prepared, monkeypatch):
    """The prepared data set, held in memory or streamed from its files."""
    if request.param == "streamed":
        # Room for a shuffle buffer, not for the part.
        monkeypatch.setattr(parts, "MEMORY_LIMIT_BYTES", 20 * 12 * 12 * 3)
    config = DataConfig(dataset=str(prepared), validation_fraction=0.2, augment=False)
    data = load(config, seed=1)
    assert (data._train.arrays is None) == (request.param == "streamed")
    return data


def test_digits_parts_sum_up_and_are_stratified():
    data = load(PLAIN, seed=0)
    assert data.train_images + data.validation_images + data.test_images == 1797
    assert (data.test_images, data.validation_images) == (450, 135)
    assert (data.classes, data.image_shape) == (10, (8, 8, 1))
    for dataset, size in ((data.validation(50), 135), (data.test(64), 450)):
        images, labels = _all(dataset)
        assert images.shape == (size, 8, 8, 1)
        assert np.bincount(labels, minlength=10).min() > 0.8 * size / 10


def test_parts_do_not_depend_on_the_seed():
    first, second = load(PLAIN, seed=0), load(PLAIN, seed=1)
    for part in ("validation", "test"):
        for a, b in zip(
            _all(getattr(first, part)(64)), _all(getattr(second, part)(64)), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    assert first.mean == second.mean


def test_no_image_is_in_two_parts(tiny):
    train = set(_bytes(_one_epoch(tiny)[0]))
    validation = set(_bytes(_all(tiny.validation(7))[0]))
    test = set(_bytes(_all(tiny.test(7))[0]))
    # The images are noise: equal ones do not happen by chance.
    assert (len(train), len(validation), len(test)) == (48, 12, TEST)
    assert len(train | validation | test) == TRAIN + TEST
    calibration = set(_bytes(_all(tiny.calibration(8, 3))[0]))
    assert len(calibration) == 24
    assert calibration <= train


def test_train_images_are_standardised_per_channel(tiny):
    images, labels = _one_epoch(tiny)
    assert images.dtype == np.float32
    assert labels.dtype == np.int32
    # float32 rounding of numbers near 1
    np.testing.assert_allclose(images.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(images.std((0, 1, 2)), 1, atol=1e-5)


def test_mean_and_std_are_those_of_the_train_part_in_pixel_units(tiny):
    images, _ = _one_epoch(tiny)
    pixels = images * np.array(tiny.std) + np.array(tiny.mean)
    np.testing.assert_allclose(pixels, np.round(pixels), atol=1e-3)
    assert pixels.min() > -0.5
    assert 200 < pixels.max() < 255.5


def test_labels_go_with_their_images(tiny):
    known = {}
    for _ in range(2):
        for image, label in zip(*_one_epoch(tiny), strict=True):
            assert known.setdefault(image.tobytes(), label) == label
    assert set(known.values()) == set(range(CLASSES))


def test_every_epoch_holds_every_image_once_in_a_new_order(tiny):
    images, _ = _take(tiny.train(6), 16)
    first, second = _bytes(images[:48]), _bytes(images[48:])
    assert len(set(first)) == 48
    assert sorted(first) == sorted(second)
    assert first != second


def test_the_same_seed_gives_the_same_batches(tiny):
    dataset = tiny.train(5)
    tf.random.set_seed(5)  # TensorFlow's own seed has no part in it
    again = load(tiny.config, seed=1).train(5)
    other = load(tiny.config, seed=2).train(5)
    images, labels = _take(dataset, 25)  # across epochs
    for repeat in (dataset, again):
        repeated_images, repeated_labels = _take(repeat, 25)
        np.testing.assert_array_equal(repeated_images, images)
        np.testing.assert_array_equal(repeated_labels, labels)
    assert _bytes(_take(other, 25)[0]) != _bytes(images)


def test_training_resumes_at_any_step(tiny):
    augmented = dataclasses.replace(tiny.config, augment=True, crop_padding=2)
    data = load(augmented, seed=1)
    images, labels = _take(data.train(5), 25)
    for step in (0, 7, 9, 20):  # within an epoch of 9 steps, at its end, and beyond
        resumed_images, resumed_labels = _take(data.train(5, first_step=step), 25 - step)
        np.testing.assert_array_equal(resumed_images, images[5 * step :])
        np.testing.assert_array_equal(resumed_labels, labels[5 * step :])


def test_a_stream_that_is_shorter_than_it_says_is_an_error(monkeypatch, prepared):
    monkeypatch.setattr(parts, "MEMORY_LIMIT_BYTES", 0)
    config = DataConfig(dataset=str(prepared), validation_fraction=0.2, augment=False)
    streamed = load(config, seed=1)
    assert streamed._train.arrays is None
    whole = _take(streamed.train(5), 25)[0]
    assert len(whole) == 125
    cut = dataclasses.replace(
        streamed,
        _train=dataclasses.replace(streamed._train, stream=streamed._train.stream.take(22)),
    )
    batches = iter(cut.train(5))
    assert len([next(batches) for _ in range(4)]) == 4
    with pytest.raises(tf.errors.InvalidArgumentError, match="ended early: of 48 train images"):
        next(batches)


def test_calibration_images_are_fixed_and_not_augmented():
    augmented, plain = load(AUGMENTED, seed=3), load(PLAIN, seed=3)
    chosen = _all(augmented.calibration(16, 4))[0]
    assert chosen.shape == (64, 8, 8, 1)
    np.testing.assert_array_equal(chosen, _all(augmented.calibration(16, 4))[0])
    np.testing.assert_array_equal(chosen, _all(plain.calibration(16, 4))[0])
    assert (chosen != _all(load(PLAIN, seed=4).calibration(16, 4))[0]).any()


def test_augmentation_changes_training_images_only():
    augmented, plain = load(AUGMENTED, seed=0), load(PLAIN, seed=0)
    changed = _take(augmented.train(32), 2)[0] != _take(plain.train(32), 2)[0]
    assert changed.any((1, 2, 3)).mean() > 0.5
    np.testing.assert_array_equal(_all(augmented.test(64))[0], _all(plain.test(64))[0])


_DIGEST = """
import hashlib
from bitat_tf.config import DataConfig
from bitat_tf.data import load
digest = hashlib.sha256()
data = load(DataConfig(crop_padding=1, flip=True), seed=0)
for images, labels in data.train(100).take(15).as_numpy_iterator():
    digest.update(images.tobytes() + labels.tobytes())
print(digest.hexdigest())
"""


def test_another_process_sees_the_same_batches():
    import hashlib

    digest = hashlib.sha256()
    for images, labels in load(AUGMENTED, seed=0).train(100).take(15).as_numpy_iterator():
        digest.update(images.tobytes() + labels.tobytes())
    command = [sys.executable, "-c", _DIGEST]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest.hexdigest()


def test_a_set_without_a_test_split_gives_its_validation_split(tmp_path, prepare_set):
    folder = prepare_set(tmp_path, "no_test", {"train": 20, "validation": 6})
    data = load(DataConfig(dataset=str(folder), augment=False), seed=0)
    assert (data.train_images, data.validation_images, data.test_images) == (18, 2, 6)
    assert len(_all(data.test(4))[1]) == 6


def test_a_prepared_set_opens_by_name_and_data_dir(prepared):
    config = DataConfig(dataset="tiny_noise", data_dir=str(prepared.parent.parent))
    data = load(config, seed=0)
    assert data.class_names == ("0", "1", "2")
    assert data.test_images == TEST


def _message(**values) -> str:
    with pytest.raises(ValueError, match=r"Received: ") as caught:
        load(DataConfig(**values), seed=0)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_an_unknown_name_is_refused_in_one_line(tmp_path):
    message = _message(dataset="no_such_set", data_dir=str(tmp_path))
    assert message.startswith("`data.dataset`")
    assert str(tmp_path) in message
    assert _message(dataset="Not A Name!", data_dir=str(tmp_path)).startswith("`data.dataset`")


def test_a_missing_data_dir_is_refused(tmp_path):
    message = _message(dataset="cifar10", data_dir=str(tmp_path / "none"))
    assert message.startswith("`data.data_dir` must be an existing directory.")


def test_an_unprepared_set_is_not_downloaded_into_data_dir(tmp_path):
    message = _message(dataset="cifar10", data_dir=str(tmp_path))
    assert f"tfds build cifar10 --data_dir {tmp_path}" in message
    assert not list(tmp_path.iterdir())


def test_a_directory_without_a_prepared_set_is_refused(tmp_path):
    assert "dataset_info.json" in _message(dataset=str(tmp_path))
    assert "dataset_info.json" in _message(dataset=str(tmp_path / "none"))


def test_a_damaged_description_is_refused(tmp_path):
    (tmp_path / "dataset_info.json").write_text("{", encoding="utf-8")
    assert "cannot read" in _message(dataset=str(tmp_path))


def test_damaged_images_are_refused(tmp_path, prepare_set):
    folder = prepare_set(tmp_path, "damaged", {"train": 20, "test": 5})
    (records,) = folder.glob("*train*")
    records.write_bytes(records.read_bytes()[:-100])
    assert "cannot be read" in _message(dataset=str(folder))


def test_a_set_without_labels_is_refused(tmp_path, prepare_set):
    import tensorflow_datasets as tfds

    score = tfds.features.Scalar(np.float32)
    folder = prepare_set(tmp_path, "scores", {"train": 20, "test": 5}, label=None, score=score)
    message = _message(dataset=str(folder))
    assert "one class label" in message
    assert "image, score" in message


def test_images_of_varying_size_are_refused(tmp_path, prepare_set):
    import tensorflow_datasets as tfds

    image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
    folder = prepare_set(tmp_path, "varying", {"train": 20, "test": 5}, image=image)
    assert "of one size" in _message(dataset=str(folder))


def test_a_set_without_a_split_to_test_on_is_refused(tmp_path, prepare_set):
    folder = prepare_set(tmp_path, "only_train", {"train": 20})
    assert "test or validation split" in _message(dataset=str(folder))


@pytest.mark.parametrize("fraction", [1e-6, 0.9999])
def test_a_validation_part_that_leaves_one_side_empty_is_refused(prepared, fraction):
    for dataset in ("digits", str(prepared)):
        message = _message(dataset=dataset, validation_fraction=fraction)
        assert message.startswith("`data.validation_fraction`")


def test_impossible_requests_are_refused():
    data = load(PLAIN, seed=0)
    with pytest.raises(ValueError, match="`batch_size` must be between 1 and the 1212"):
        data.train(2000)
    with pytest.raises(ValueError, match="`batches` must be at most 12"):
        data.calibration(100, 13)
    with pytest.raises(ValueError, match="`seed`"):
        load(PLAIN, seed=-1)


@pytest.mark.skipif("BITAT_TEST_DATA" not in os.environ, reason="BITAT_TEST_DATA is not set")
def test_cifar10_if_at_hand():
    folder = os.environ["BITAT_TEST_DATA"]
    if not (Path(folder) / "cifar10").is_dir():
        pytest.skip(f"no cifar10 in {folder}")
    data = load(DataConfig(dataset="cifar10", data_dir=folder), seed=0)
    assert (data.train_images, data.validation_images, data.test_images) == (45000, 5000, 10000)
    # The constants everyone uses for CIFAR-10, within what another 10 % left out can move.
    np.testing.assert_allclose(data.mean, (125.3, 123.0, 113.9), atol=2)
    _, labels = _all(data.test(500))
    assert (np.bincount(labels) == 1000).all()


def test_standardisation_of_a_finished_model_replaces_the_measured_one():
    measured = load(PLAIN, seed=0)
    given = load(PLAIN, seed=0, standardisation=((4.0,), (2.0,)))
    assert (given.mean, given.std, given.pixel_max) == ((4.0,), (2.0,), 16)
    (mine, labels), (theirs, same) = (_all(data.test(450)) for data in (given, measured))
    pixels = theirs * measured.std[0] + measured.mean[0]
    np.testing.assert_allclose(mine, (pixels - 4) / 2, atol=1e-5)
    np.testing.assert_array_equal(labels, same)
    with pytest.raises(ValueError, match="of 1 channels"):
        load(PLAIN, seed=0, standardisation=((4.0, 4.0, 4.0), (2.0, 2.0, 2.0)))
