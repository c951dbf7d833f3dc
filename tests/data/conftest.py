"""A tiny TFDS data set, prepared once per run in a temporary directory."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bitat_tf._keras import tf

CLASSES = 3


def _prepare_set(
    folder: Path, name: str, splits: dict[str, int], unlabelled: str = "", **features
) -> Path:
    """Write a data set of random images; `features` replace the standard ones.

    All labels of the split `unlabelled` are -1.
    """
    with warnings.catch_warnings():
        # TFDS's writer, which the package does not use, warns of its dependencies' age.
        warnings.simplefilter("ignore")
        import tensorflow_datasets as tfds

        kinds = {
            "image": tfds.features.Image(shape=(12, 12, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=CLASSES),
        }
        kinds |= {key: value for key, value in features.items() if value is not None}
        kinds = {key: kind for key, kind in kinds.items() if features.get(key, kind) is not None}
        rng = np.random.default_rng(0)

        def examples(split: str, size: int) -> tf.data.Dataset:
            values = {
                "image": rng.integers(0, 256, (size, 12, 12, 3), dtype=np.uint8),
                "label": np.full(size, -1) if split == unlabelled else np.arange(size) % CLASSES,
            }
            if "score" in kinds:
                values["score"] = np.zeros(size, np.float32)
            chosen = {key: values[key] for key in kinds}
            return tf.data.Dataset.from_tensor_slices(chosen)

        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=tfds.features.FeaturesDict(kinds),
            split_datasets={split: examples(split, size) for split, size in splits.items()},
            data_dir=str(folder),
            disable_shuffling=False,
        )
    return folder / name / "1.0.0"


@pytest.fixture(scope="session")
def prepare_set() -> Callable[..., Path]:
    return _prepare_set


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    return _prepare_set(folder, "tiny_noise", {"train": 60, "test": 12})
