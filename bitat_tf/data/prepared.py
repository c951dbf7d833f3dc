"""Data sets of TFDS: by name, prepared or downloaded, or in a prepared directory.

One of images of one size is decoded here (and held in memory if it fits); with
`data.image_size` any of images with a class label each stays encoded (`encoded`).
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from bitat_tf._keras import tf
from bitat_tf.config import DataConfig
from bitat_tf.data.encoded import Corrupt, Encoded
from bitat_tf.data.parts import (
    Part,
    Source,
    choose_test_split,
    hold,
    one_line,
    refuse,
    validation_size,
)
from bitat_tf.quiet import errors_only


def is_prepared(path: Path) -> bool:
    """Whether TFDS prepared a data set in this directory."""
    return (path / "dataset_info.json").is_file()


def from_directory(config: DataConfig, path: Path) -> Source:
    """The data set that TFDS prepared in a directory."""
    return _source(config, _builder_of_directory(config, path))


def from_name(config: DataConfig) -> Source:
    """The data set that TFDS knows by this name, downloaded if it must be and may be."""
    return _source(config, _builder_of_name(config))


def _builder_of_directory(config: DataConfig, path: Path) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(os.fspath(path))
    except Exception as err:  # a damaged description raises whatever its parser does
        raise refuse(
            "dataset",
            f"has a description TFDS cannot read ({one_line(err)}); prepare it anew.",
            config.dataset,
        ) from err


def _builder_of_name(config: DataConfig) -> Any:
    import tensorflow_datasets as tfds

    if config.data_dir is not None and not Path(config.data_dir).expanduser().is_dir():
        raise refuse("data_dir", "must be an existing directory.", config.data_dir)
    try:
        builder = tfds.builder(config.dataset, data_dir=config.data_dir)
    except tfds.core.DatasetNotFoundError as err:  # its own text lists every data set
        where = "TFDS" if config.data_dir is None else f"TFDS or in {config.data_dir}"
        raise refuse(
            "dataset",
            f'must be "digits", the path of a prepared directory, or a name known to {where} '
            "(https://www.tensorflow.org/datasets/catalog).",
            config.dataset,
        ) from err
    except (ValueError, AssertionError) as err:
        raise refuse(
            "dataset", f"cannot be opened by TFDS ({one_line(err)}).", config.dataset
        ) from err
    # `builder.is_prepared()` would ask the same, and log a warning.
    if not (builder.data_path / "dataset_info.json").exists():
        _prepare(builder, config)
    return builder


def _prepare(builder: Any, config: DataConfig) -> None:
    """Download a data set into TFDS's own directory; never into one the user named."""
    import tensorflow_datasets as tfds

    if config.data_dir is not None:
        raise refuse(
            "data_dir",
            f"holds no prepared {config.dataset!r}. Prepare it with "
            f"`tfds build {config.dataset} --data_dir {config.data_dir}`, or leave data_dir out "
            "to download to TFDS's own directory.",
            config.data_dir,
        )
    try:
        builder.download_and_prepare()
    except (OSError, tf.errors.OpError, tfds.download.DownloadError) as err:
        raise OSError(f"Cannot download {config.dataset!r}: {one_line(err)}") from err


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
        raise refuse(
            "dataset",
            "must hold images with one class label each; its features are: "
            f"{', '.join(sorted(features)) or 'not named'}.",
            dataset,
        )
    return image, label


def _image_shape(feature: Any, dataset: str) -> tuple[int, int, int]:
    shape = tuple(feature.shape)
    if len(shape) != 3 or None in shape or feature.np_dtype != np.uint8:
        raise refuse(
            "dataset",
            "must hold 8-bit images of one size, unless `data.image_size` says what to resize "
            f"them to; its images are {shape} of {np.dtype(feature.np_dtype).name}, None being "
            "any size.",
            dataset,
        )
    return shape


def _channels(feature: Any, dataset: str) -> int:
    channels = feature.shape[-1]
    if channels not in (1, 3) or feature.np_dtype != np.uint8:
        raise refuse(
            "dataset",
            "must hold 8-bit images of 1 or 3 channels; its images are "
            f"{tuple(feature.shape)} of {np.dtype(feature.np_dtype).name}.",
            dataset,
        )
    return int(channels)


def _source(config: DataConfig, builder: Any) -> Source:
    info = builder.info
    keys = _feature_keys(info, config.dataset)
    test = choose_test_split(config, info.splits)
    if info.disable_shuffling:
        # The validation part is the train split's end, which must look like the rest.
        raise refuse(
            "dataset",
            "must have been prepared with shuffling; this one keeps its images in order.",
            config.dataset,
        )
    total = info.splits["train"].num_examples
    train = total - validation_size(config, total)
    corrupt = Corrupt(config.max_corrupt)
    image = info.features[keys[0]]
    if config.image_size:
        channels = _channels(image, config.dataset)
        shape = (config.image_size, config.image_size, channels)
    else:
        shape = _image_shape(image, config.dataset)
    _check_labelled(config, builder, test, keys)

    def part(split: str, size: int) -> Part:
        if not config.image_size:
            return Part(size, _stream(builder, split, *keys))
        sources = _encoded_stream(builder, split, *keys)
        each = max(1, info.splits[split].num_bytes // max(1, size))
        encoded = Encoded(sources, tf.identity, each, channels, config, corrupt)
        return Part(size, encoded.stream(), encoded=encoded)

    def held(split: str, size: int) -> Part:
        found = part(split, size)
        return found if config.image_size else hold(found, shape, config.dataset)

    return Source(
        name=info.name,
        class_names=tuple(info.features[keys[1]].names),
        image_shape=shape,
        train=held(f"train[:{train}]", train),
        validation=held(f"train[{train}:]", total - train),
        test=part(test, info.splits[test].num_examples),
        corrupt=corrupt,
    )


def _examples(
    builder: Any, split: str, skipped: set[str], *, named: bool = False
) -> tf.data.Dataset:
    """Examples one by one in a fixed order, some features not decoded; `tfds_id` names them."""
    import tensorflow_datasets as tfds

    # TFDS names examples by a function that TensorFlow says is deprecated.
    with errors_only("tensorflow"):
        return builder.as_dataset(
            split=split,
            shuffle_files=False,
            decoders={key: tfds.decode.SkipDecoding() for key in skipped},
            # Determinism and caching are decided in this package.
            read_config=tfds.ReadConfig(
                try_autocache=False, interleave_cycle_length=1, add_tfds_id=named
            ),
        )


def _stream(builder: Any, split: str, image_key: str, label_key: str) -> tf.data.Dataset:
    stream = _examples(builder, split, set(builder.info.features) - {image_key, label_key})
    return stream.map(
        lambda example: (example[image_key], tf.cast(example[label_key], tf.int32)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def _encoded_stream(builder: Any, split: str, image_key: str, label_key: str) -> tf.data.Dataset:
    stream = _examples(builder, split, set(builder.info.features) - {label_key}, named=True)
    return stream.map(
        lambda example: (
            example[image_key],
            tf.cast(example[label_key], tf.int32),
            example["tfds_id"],
        )
    )


def _check_labelled(config: DataConfig, builder: Any, split: str, keys: tuple[str, str]) -> None:
    """Some published test splits have no labels, but -1, as that of imagenet2012."""
    try:
        examples = _examples(builder, split, set(builder.info.features) - {keys[1]})
        first = next(examples.take(1).as_numpy_iterator(), None)
    except tf.errors.OpError as err:
        raise refuse(
            "dataset", f"has images that cannot be read ({one_line(err)}).", config.dataset
        ) from err
    if first is not None and first[keys[1]] < 0:
        raise refuse(
            "test_split",
            f"must name a split with labels, which {split!r} is not (is there a 'validation'?).",
            config.test_split,
        )
