"""Where images come from: scikit-learn's digits, or any TFDS image-classification set.

Every source is three parts (train, validation, test) of uint8 images and int32 labels in a
fixed order that no seed changes, so that runs with different seeds see the same parts. The
validation part is split from the train split; the test part is the split named `test`, or
`validation` for a set without one, and is read when it is asked for, not before.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bitat_tf._keras import tf
from bitat_tf.config import DataConfig

#: Decoded train and validation parts up to this size are kept in memory; larger are streamed.
MEMORY_LIMIT_BYTES = 2**30

_DIGITS_TEST_SHARE = 0.25
# Images per chunk when a whole part is read: bounds the extra memory, large enough to be quick.
_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Part:
    """Images and labels in a fixed order.

    Attributes:
        size: number of images.
        stream: (uint8 (h, w, c), int32 ()) one by one; finite.
        arrays: the same as two tensors (size, h, w, c) and (size,), or None where the part
            is too large to hold.
    """

    size: int
    stream: tf.data.Dataset
    arrays: tuple[tf.Tensor, tf.Tensor] | None = None

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Everything, about a thousand images at a time."""
        if self.arrays is None:
            yield from self.stream.batch(_CHUNK).as_numpy_iterator()
            return
        images, labels = (array.numpy() for array in self.arrays)
        for at in range(0, self.size, _CHUNK):
            yield images[at : at + _CHUNK], labels[at : at + _CHUNK]


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as it was found: its parts and what is known about them."""

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train: Part
    validation: Part
    test: Part


def open_source(config: DataConfig) -> Source:
    """Find the data set that `config` names.

    Raises:
        ValueError: when there is none, it is not prepared, or it is not one of labelled
            images of one size.
        OSError: when TFDS had to download it and could not.
    """
    if config.dataset == "digits":
        return _digits(config)
    return _tfds_source(config, _builder(config))


def _refuse(name: str, constraint: str, received: Any) -> ValueError:
    return ValueError(f"`data.{name}` {constraint} Received: {received!r}")


def _in_memory(images: np.ndarray, labels: np.ndarray) -> Part:
    with tf.device("CPU:0"):  # input pipelines run there; keep accelerator memory free
        arrays = tf.constant(images, tf.uint8), tf.constant(labels, tf.int32)
    return Part(len(images), tf.data.Dataset.from_tensor_slices(arrays), arrays)


def _validation_size(config: DataConfig, images: int) -> int:
    size = round(config.validation_fraction * images)
    if not 0 < size < images:
        raise _refuse(
            "validation_fraction",
            f"must leave at least one of the {images} train images on either side.",
            config.validation_fraction,
        )
    return size


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
    size, classes = _validation_size(config, len(rest)), len(digits.target_names)
    if not classes <= size <= len(rest) - classes:
        raise _refuse(
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
        train=_in_memory(train, train_labels),
        validation=_in_memory(validation, validation_labels),
        test=_in_memory(test, test_labels),
    )


def _builder(config: DataConfig) -> Any:
    """The TFDS builder of a prepared directory, or of a name (prepared or downloaded)."""
    path = Path(config.dataset).expanduser()
    is_path = config.dataset.startswith(("/", ".", "~")) or (path / "dataset_info.json").is_file()
    if is_path:
        return _builder_of_directory(config, path)
    return _builder_of_name(config)


def _builder_of_directory(config: DataConfig, path: Path) -> Any:
    import tensorflow_datasets as tfds

    if not (path / "dataset_info.json").is_file():
        raise _refuse(
            "dataset",
            "must be a data set's name or a directory that TFDS prepared: one that holds "
            "dataset_info.json.",
            config.dataset,
        )
    try:
        return tfds.builder_from_directory(os.fspath(path))
    except Exception as err:  # a damaged description raises whatever its parser does
        raise _refuse(
            "dataset",
            f"has a description TFDS cannot read ({_one_line(err)}); prepare it anew.",
            config.dataset,
        ) from err


def _builder_of_name(config: DataConfig) -> Any:
    import tensorflow_datasets as tfds

    if config.data_dir is not None and not Path(config.data_dir).expanduser().is_dir():
        raise _refuse("data_dir", "must be an existing directory.", config.data_dir)
    try:
        builder = tfds.builder(config.dataset, data_dir=config.data_dir)
    except tfds.core.DatasetNotFoundError as err:  # its own text lists every data set
        where = "TFDS" if config.data_dir is None else f"TFDS or in {config.data_dir}"
        raise _refuse(
            "dataset",
            f'must be "digits", the path of a prepared directory, or a name known to {where} '
            "(https://www.tensorflow.org/datasets/catalog).",
            config.dataset,
        ) from err
    except (ValueError, AssertionError) as err:
        raise _refuse(
            "dataset", f"cannot be opened by TFDS ({_one_line(err)}).", config.dataset
        ) from err
    # `builder.is_prepared()` would ask the same, and log a warning.
    if not (builder.data_path / "dataset_info.json").exists():
        _prepare(builder, config)
    return builder


def _prepare(builder: Any, config: DataConfig) -> None:
    """Download a data set into TFDS's own directory; never into one the user named."""
    import tensorflow_datasets as tfds

    if config.data_dir is not None:
        raise _refuse(
            "data_dir",
            f"holds no prepared {config.dataset!r}. Prepare it with "
            f"`tfds build {config.dataset} --data_dir {config.data_dir}`, or leave data_dir out "
            "to download to TFDS's own directory.",
            config.data_dir,
        )
    try:
        builder.download_and_prepare()
    except (OSError, tf.errors.OpError, tfds.download.DownloadError) as err:
        raise OSError(f"Cannot download {config.dataset!r}: {_one_line(err)}") from err


def _one_line(err: BaseException) -> str:
    """The first 200 characters of an error, on one line."""
    text = " ".join(str(err).split()) or type(err).__name__
    return text if len(text) <= 200 else text[:200] + "..."


def _feature_keys(info: Any, dataset: str) -> tuple[str, str]:
    """Names of the image and the label feature."""
    import tensorflow_datasets as tfds

    pair = info.supervised_keys
    known = pair and len(pair) == 2 and all(isinstance(key, str) for key in pair)
    image, label = pair if known else ("image", "label")
    features = dict(info.features) if isinstance(info.features, tfds.features.FeaturesDict) else {}
    right = isinstance(features.get(image), tfds.features.Image) and isinstance(
        features.get(label), tfds.features.ClassLabel
    )
    if not right:
        raise _refuse(
            "dataset",
            "must hold images with one class label each; its features are: "
            f"{', '.join(sorted(features)) or 'not named'}.",
            dataset,
        )
    return image, label


def _image_shape(feature: Any, dataset: str) -> tuple[int, int, int]:
    shape = tuple(feature.shape)
    if len(shape) != 3 or None in shape or feature.np_dtype != np.uint8:
        raise _refuse(
            "dataset",
            "must hold 8-bit images of one size (they are not resized here); its images are "
            f"{shape} of {np.dtype(feature.np_dtype).name}, None being any size.",
            dataset,
        )
    return shape


def _tfds_source(config: DataConfig, builder: Any) -> Source:
    info = builder.info
    image_key, label_key = _feature_keys(info, config.dataset)
    shape = _image_shape(info.features[image_key], config.dataset)
    test_split = "test" if "test" in info.splits else "validation"
    if "train" not in info.splits or test_split not in info.splits:
        raise _refuse(
            "dataset",
            "must have a train split and a test or validation split; it has: "
            f"{', '.join(sorted(info.splits)) or 'none'}.",
            config.dataset,
        )
    if info.disable_shuffling:
        # The validation part is the train split's end, which must look like the rest.
        raise _refuse(
            "dataset",
            "must have been prepared with shuffling; this one keeps its images in order.",
            config.dataset,
        )
    total = info.splits["train"].num_examples
    train = total - _validation_size(config, total)

    def part(split: str, size: int) -> Part:
        return Part(size, _stream(builder, split, image_key, label_key))

    def held(split: str, size: int) -> Part:
        return _hold(part(split, size), shape, config.dataset)

    return Source(
        name=info.name,
        class_names=tuple(info.features[label_key].names),
        image_shape=shape,
        train=held(f"train[:{train}]", train),
        validation=held(f"train[{train}:]", total - train),
        test=part(test_split, info.splits[test_split].num_examples),
    )


def _stream(builder: Any, split: str, image_key: str, label_key: str) -> tf.data.Dataset:
    import tensorflow_datasets as tfds

    others = set(builder.info.features) - {image_key, label_key}
    stream = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders={key: tfds.decode.SkipDecoding() for key in others},
        # Determinism and caching are decided in this package.
        read_config=tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1),
    )
    return stream.map(
        lambda example: (example[image_key], tf.cast(example[label_key], tf.int32)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def _hold(part: Part, shape: tuple[int, int, int], dataset: str) -> Part:
    """The part decoded into memory, once, if it fits; else as it is."""
    if part.size * math.prod(shape) > MEMORY_LIMIT_BYTES:
        return part
    images, labels = np.empty((part.size, *shape), np.uint8), np.empty(part.size, np.int32)
    at = 0
    try:
        for some_images, some_labels in part.chunks():
            images[at : at + len(some_images)] = some_images
            labels[at : at + len(some_labels)] = some_labels
            at += len(some_images)
    except tf.errors.OpError as err:
        raise _refuse(
            "dataset", f"has images that cannot be read ({_one_line(err)}).", dataset
        ) from err
    if at != part.size:
        raise _refuse(
            "dataset", f"holds {at} images where its description says {part.size}.", dataset
        )
    return _in_memory(images, labels)
