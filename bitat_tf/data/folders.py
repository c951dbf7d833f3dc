"""Folders of images: `SPLIT/CLASS/image.jpg`, as `tfds.ImageFolder` reads them.

Only the paths are held; files are read as they are needed. `tfds.ImageFolder` finds them, and
puts them in a random order that is always the same, so that the train split's end looks like
the rest. Its own pipeline is not used, as it decodes and so ends at the first corrupt file.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from bitat_tf._keras import tf
from bitat_tf.config import DataConfig
from bitat_tf.data.encoded import Corrupt, Encoded
from bitat_tf.data.parts import Part, Source, choose_test_split, refuse, validation_size

_CHANNELS = 3
# A path and the ends of its string in memory, about.
_PATH_BYTES = 256


def is_image_folder(path: Path) -> bool:
    """Whether a directory has a folder `train` with a folder of its own for some class."""
    train = path / "train"
    return train.is_dir() and any(entry.is_dir() for entry in train.iterdir())


def image_folder(config: DataConfig, path: Path) -> Source:
    """The images of a folder; classes are the names of the folders within the splits.

    Raises:
        ValueError: when there is nothing to train or test on, or `data.image_size` is not given.
    """
    import tensorflow_datasets as tfds

    if not config.image_size:
        raise refuse(
            "image_size",
            "must be given for a folder of images: they are of any size.",
            config.image_size,
        )
    builder = tfds.ImageFolder(os.fspath(path))
    found: dict[str, list[Any]] = {
        split: examples for split, examples in builder._split_examples.items() if examples
    }
    test = choose_test_split(config, found)
    class_names = tuple(builder.info.features["label"].names)
    train = len(found["train"]) - validation_size(config, len(found["train"]))
    corrupt = Corrupt(config.max_corrupt)

    def part(examples: list[Any]) -> Part:
        paths = np.array([os.fspath(example.image_path) for example in examples], dtype=object)
        numbers = {name: number for number, name in enumerate(class_names)}
        labels = np.array([numbers[example.label] for example in examples], np.int32)
        with tf.device("CPU:0"):
            sources = tf.data.Dataset.from_tensor_slices((paths, labels, paths))
        encoded = Encoded(sources, tf.io.read_file, _PATH_BYTES, _CHANNELS, config, corrupt)
        return Part(len(examples), encoded.stream(), encoded=encoded)

    return Source(
        name=path.resolve().name,
        class_names=class_names,
        image_shape=(config.image_size, config.image_size, _CHANNELS),
        train=part(found["train"][:train]),
        validation=part(found["train"][train:]),
        test=part(found[test]),
        corrupt=corrupt,
    )
