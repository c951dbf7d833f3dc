"""Where images come from: scikit-learn's digits, TFDS, or folders of images."""

from pathlib import Path

import numpy as np

from bitat_tf.config import DataConfig
from bitat_tf.data import folders, prepared
from bitat_tf.data.parts import Source, in_memory, refuse, validation_size

_DIGITS_TEST_SHARE = 0.25
_DIGITS_MAX = 16


def open_source(config: DataConfig) -> Source:
    """Find the data set that `config` names.

    Raises:
        ValueError: when there is none, it is not prepared, or it is not one of labelled
            images (of one size, where they are not resized).
        OSError: when TFDS had to download it and could not.
    """
    if config.dataset == "digits":
        if config.image_size:
            raise refuse("image_size", "must be 0 for the digits.", config.image_size)
        return _digits(config)
    path = Path(config.dataset).expanduser()
    if prepared.is_prepared(path):
        return prepared.from_directory(config, path)
    if not config.dataset.startswith(("/", ".", "~")) and not folders.is_image_folder(path):
        return prepared.from_name(config)
    if folders.is_image_folder(path):
        return folders.image_folder(config, path)
    raise refuse(
        "dataset",
        "must be a data set's name, a directory that TFDS prepared (one that holds "
        "dataset_info.json), or one of images (train/CLASS/*.jpg, and test beside train).",
        config.dataset,
    )


def _digits(config: DataConfig) -> Source:
    """The 1,797 handwritten 8x8 digits, values 0..16, in stratified parts."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = digits.images[..., np.newaxis].astype(np.uint8)
    rest, test, rest_labels, test_labels = train_test_split(
        images,
        digits.target,
        test_size=_DIGITS_TEST_SHARE,
        stratify=digits.target,
        random_state=0,
    )
    size, classes = validation_size(config, len(rest)), len(digits.target_names)
    if not classes <= size <= len(rest) - classes:
        raise refuse(
            "validation_fraction",
            f"must leave at least {classes} of the {len(rest)} digits on either side.",
            config.validation_fraction,
        )
    train, validation, train_labels, validation_labels = train_test_split(
        rest, rest_labels, test_size=size, stratify=rest_labels, random_state=0
    )
    return Source(
        name="digits",
        class_names=tuple(str(name) for name in digits.target_names),
        image_shape=(8, 8, 1),
        train=in_memory(train, train_labels),
        validation=in_memory(validation, validation_labels),
        test=in_memory(test, test_labels),
        pixel_max=_DIGITS_MAX,
    )
