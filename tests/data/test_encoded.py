"""Images that are decoded as they are needed: folders, TFDS, and corrupt ones among them."""

import dataclasses
import logging

import numpy as np
import pytest

from bitat_tf._keras import tf
from bitat_tf.config import DataConfig
from bitat_tf.data import load
from bitat_tf.data.encoded import Corrupt

SIZE, CLASSES, PER_CLASS, TEST_PER_CLASS = 8, ("ant", "bee", "cat"), 10, 2
TRAIN = 24  # of 30, 6 being for validation


def _write(path, rng, number: int) -> None:
    """A noisy image of a size of its own; every fourth is a PNG under whatever name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = rng.integers(0, 256, (10 + number % 5, 9 + number % 7, 3), dtype=np.uint8)
    encode = tf.io.encode_png if number % 4 == 0 else tf.io.encode_jpeg
    path.write_bytes(encode(image).numpy())


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", PER_CLASS), ("test", TEST_PER_CLASS)):
        for name in CLASSES:
            for number in range(count):
                _write(tmp_path / "insects" / split / name / f"{number}.jpg", rng, number)
    return tmp_path / "insects"


def _config(folder, **values) -> DataConfig:
    given = {"validation_fraction": 0.2, "image_size": SIZE, "crop": "resized"} | values
    return DataConfig(dataset=str(folder), **given)


def _take(dataset, batches: int = -1) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*dataset.take(batches).as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _names(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_a_folder_gives_three_parts_and_the_folders_names(folder):
    data = load(_config(folder, augment=False), seed=0)
    assert (data.name, data.class_names) == ("insects", CLASSES)
    assert data.image_shape == (SIZE, SIZE, 3)
    parts = [_take(data.train(1), TRAIN)[0], _take(data.validation(4))[0], _take(data.test(4))[0]]
    assert [len(_names(part)) for part in parts] == [24, 6, 6]
    assert len(set.union(*map(_names, parts))) == 36
    np.testing.assert_allclose(parts[0].mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(parts[0].std((0, 1, 2)), 1, atol=1e-5)
    assert set(_take(data.validation(4))[1]) | set(_take(data.test(4))[1]) == {0, 1, 2}
    assert data.corrupt.names == []


def test_training_repeats_and_resumes_with_all_augmentations(folder):
    config = _config(folder, rand_augment=0.5, mixup=0.2, cutmix=1.0, label_smoothing=0.1)
    images, labels = _take(load(config, seed=1).train(5), 10)
    assert labels.shape == (50, 3)
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-5)
    for step in (0, 3, 7):  # an epoch has 4 steps
        again, again_labels = _take(load(config, seed=1).train(5, first_step=step), 10 - step)
        np.testing.assert_array_equal(again, images[5 * step :])
        np.testing.assert_array_equal(again_labels, labels[5 * step :])
    assert (_take(load(config, seed=2).train(5), 2)[0] != images[:10]).any()


def test_random_parts_differ_from_epoch_to_epoch_and_centers_do_not(folder):
    random = load(_config(folder, flip=False), seed=0)
    assert len(_names(_take(random.train(24), 2)[0])) > 40
    padded = load(_config(folder, crop="pad", crop_padding=0, flip=False), seed=0)
    assert len(_names(_take(padded.train(24), 2)[0])) == 24
    calibration = _take(random.calibration(8, 3))[0]
    assert _names(calibration) == _names(_take(padded.train(24), 1)[0])


def test_labels_go_with_their_images(folder):
    for name, grey in zip(CLASSES, (0, 100, 200), strict=True):
        for path in (folder / "train" / name).iterdir():
            path.write_bytes(tf.io.encode_png(np.full((9, 9, 3), grey, np.uint8)).numpy())
    data = load(_config(folder), seed=0)
    images, labels = _take(data.train(8), 6)
    greys = images[:, 0, 0, 0] * data.std[0] + data.mean[0]
    np.testing.assert_allclose(greys, labels * 100, atol=0.01)


def _spoil(folder, count: int) -> list[str]:
    """Corrupt the first `count` training files of class bee, each in a way of its own."""
    spoilt = sorted((folder / "train" / "bee").iterdir())[:count]
    ways = (lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"no image" + raw)
    for number, path in enumerate(spoilt):
        path.write_bytes(ways[number % 3](path.read_bytes()))
    return [str(path) for path in spoilt]


def test_corrupt_images_are_left_out_counted_and_named(folder, caplog):
    spoilt = _spoil(folder, 3)
    with caplog.at_level(logging.WARNING, logger="bitat_tf.data.encoded"):
        data = load(_config(folder, augment=False, max_corrupt=3), seed=0)
        images, labels = _take(data.train(6), 8)
        seen = len(images[:24])
        validation = len(_take(data.validation(4))[0])
    assert sorted(data.corrupt.names) == sorted(spoilt)
    assert all(any(name in record.message for record in caplog.records) for name in spoilt)
    assert len(caplog.records) == 3  # each once
    # In training others stand in their places: a step has as many images as ever.
    assert (seen, labels.shape) == (24, (48,))
    in_train = len(_names(images))
    # Elsewhere they are missing.
    assert in_train + validation == 24 + 6 - 3
    np.testing.assert_array_equal(images, _take(load(data.config, seed=0).train(6), 8)[0])


def test_one_corrupt_image_more_than_allowed_is_an_error_that_names_them(folder):
    spoilt = _spoil(folder, 2)
    with pytest.raises(ValueError, match="allows for 1 corrupt images") as caught:
        load(_config(folder, max_corrupt=1), seed=0)
    assert "\n" not in str(caught.value)
    assert any(name in str(caught.value) for name in spoilt)


def test_a_corrupt_test_image_is_met_when_the_test_part_is_read(folder):
    (folder / "test" / "ant" / "0.jpg").write_bytes(b"")
    data = load(_config(folder), seed=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"test/ant/0\.jpg"):
        _take(data.test(4))
    assert len(_take(load(_config(folder, max_corrupt=1), seed=0).test(4))[0]) == 5


def test_many_corrupt_images_are_counted_and_some_named():
    corrupt = Corrupt(0)
    message = corrupt.met(np.array([f"{n}.jpg".encode() for n in range(12)], dtype=object))
    assert "Received: 12, 0.jpg" in message
    assert "9.jpg, ..." in message
    assert "10.jpg" not in message


def test_a_folder_of_val_is_tested_on(folder):
    (folder / "test").rename(folder / "val")
    assert load(_config(folder), seed=0).test_images == 6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": 0, "crop": "pad"}, "`data.image_size` must be given for a folder"),
        ({"test_split": "holdout"}, "must have a train split and a holdout split"),
        ({"validation_fraction": 0.999}, "`data.validation_fraction`"),
    ],
)
def test_what_a_folder_needs_is_said_in_one_line(folder, values, message):
    with pytest.raises(ValueError, match=message) as caught:
        load(_config(folder, **values), seed=0)
    assert "\n" not in str(caught.value)


def test_a_tfds_set_of_images_of_any_size_is_resized(tmp_path, prepare_set):
    import tensorflow_datasets as tfds

    image = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
    prepared = prepare_set(tmp_path, "varying", {"train": 30, "test": 5}, image=image)
    config = _config(prepared, shuffle_buffer=7)
    data = load(config, seed=0)
    images, labels = _take(data.train(8), 3)
    assert images.shape == (24, SIZE, SIZE, 3)
    assert set(labels) == {0, 1, 2}
    np.testing.assert_array_equal(images, _take(load(config, seed=0).train(8), 3)[0])
    assert len(_take(data.test(2))[0]) == 5


def test_a_tfds_set_names_its_corrupt_images(tmp_path, prepare_set):
    import tensorflow_datasets as tfds

    prepared = prepare_set(tmp_path, "spoilt", {"train": 30, "test": 5})
    builder = tfds.builder_from_directory(str(prepared))
    (path,) = (file for file in builder.info.splits["train"].filepaths)
    records = [bytes(record.numpy()) for record in tf.data.TFRecordDataset([str(path)])]
    # The same length, so that the record stays whole: only the PNG in it is not one any more.
    records[4] = records[4].replace(b"\x89PNG", b"\x00PNG")
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    data = load(_config(prepared, max_corrupt=1), seed=0)
    (name,) = data.corrupt.names
    assert name.startswith("spoilt-train.tfrecord")
    assert name.endswith("__4")
    with pytest.raises(ValueError, match=name):
        load(_config(prepared), seed=0)


def test_a_test_split_without_labels_is_refused(tmp_path, prepare_set):
    splits = {"train": 30, "test": 5, "validation": 4}
    prepared = prepare_set(tmp_path, "unlabelled", splits, unlabelled="test")
    with pytest.raises(ValueError, match=r"`data.test_split` must name a split with labels"):
        load(_config(prepared), seed=0)
    assert load(_config(prepared, test_split="validation"), seed=0).test_images == 4


def test_statistics_of_few_images_stand_for_all(folder):
    every = load(_config(folder), seed=0)
    few = load(_config(folder, statistics_images=10), seed=0)
    assert few.mean != every.mean
    np.testing.assert_allclose(few.mean, every.mean, rtol=0.2)


def test_digits_have_a_size_already():
    with pytest.raises(ValueError, match=r"`data.image_size` must be 0 for the digits"):
        load(DataConfig(image_size=16), seed=0)


def test_rand_augment_is_for_colours():
    with pytest.raises(ValueError, match=r"`data.rand_augment` must be 0 for images of 1"):
        load(DataConfig(rand_augment=0.5), seed=0)


def test_without_augmentation_nothing_is_drawn(folder):
    loud = _config(folder, rand_augment=0.5, mixup=0.2, cutmix=1.0)
    quiet = dataclasses.replace(loud, augment=False)
    images, labels = _take(load(quiet, seed=0).train(24), 1)
    assert labels.ndim == 1
    assert len(_names(images)) == 24
