"""The three parts of a data set, and what all kinds of sources need to make them.

Parts are train, validation and test, of uint8 images and int32 labels in a fixed order that no
seed changes, so that runs with different seeds see the same parts. The validation part is split
from the train split; the test part is the split named `test`, or `validation` for a set without
one, and is read when it is asked for, not before.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bitat_tf._keras import tf
from bitat_tf.config import DataConfig
from bitat_tf.data.encoded import Corrupt, Encoded

#: Decoded train and validation parts up to this size are kept in memory; larger are streamed.
MEMORY_LIMIT_BYTES = 2**30

# Images per chunk when a whole part is read, and values per chunk of large images: bounds the
# extra memory, large enough to be quick.
_CHUNK, _CHUNK_VALUES = 1024, 2**23


@dataclass(frozen=True, eq=False)
class Part:
    """Images and labels in a fixed order.

    Attributes:
        size: number of images.
        stream: (uint8 (h, w, c), int32 ()) one by one; finite.
        arrays: the same as two tensors (size, h, w, c) and (size,), or None where the part
            is too large to hold.
        encoded: how the same is decoded batch by batch, where it is; `stream` then lacks
            corrupt images, which still count in `size`.
    """

    size: int
    stream: tf.data.Dataset
    arrays: tuple[tf.Tensor, tf.Tensor] | None = None
    encoded: Encoded | None = None

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Everything, at most about a thousand images at a time."""
        if self.arrays is None:
            values = math.prod(self.stream.element_spec[0].shape)
            chunk = max(1, min(_CHUNK, _CHUNK_VALUES // values))
            yield from self.stream.batch(chunk).as_numpy_iterator()
            return
        images, labels = (array.numpy() for array in self.arrays)
        for at in range(0, self.size, _CHUNK):
            yield images[at : at + _CHUNK], labels[at : at + _CHUNK]


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as it was found: its parts and what is known about them.

    Pixels are integers from 0 to `pixel_max`.
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train: Part
    validation: Part
    test: Part
    corrupt: Corrupt = field(default_factory=lambda: Corrupt(0))
    pixel_max: int = 255


def refuse(name: str, constraint: str, received: Any) -> ValueError:
    """An error about a field of `data`, to raise."""
    return ValueError(f"`data.{name}` {constraint} Received: {received!r}")


def in_memory(images: np.ndarray, labels: np.ndarray) -> Part:
    """A part that is kept as two tensors."""
    with tf.device("CPU:0"):  # input pipelines run there; keep accelerator memory free
        arrays = tf.constant(images, tf.uint8), tf.constant(labels, tf.int32)
    return Part(len(images), tf.data.Dataset.from_tensor_slices(arrays), arrays)


def validation_size(config: DataConfig, images: int) -> int:
    """How many of the train split's images are for validation."""
    size = round(config.validation_fraction * images)
    if not 0 < size < images:
        raise refuse(
            "validation_fraction",
            f"must leave at least one of the {images} train images on either side.",
            config.validation_fraction,
        )
    return size


def one_line(err: BaseException) -> str:
    """The first 200 characters of an error, on one line."""
    text = " ".join(str(err).split()) or type(err).__name__
    return text if len(text) <= 200 else text[:200] + "..."


def choose_test_split(config: DataConfig, splits: Collection[str]) -> str:
    """Name of the split to test on, of a data set that must have a train split too."""
    usual = ("test", "validation", "val")
    found = [s for s in ([config.test_split] if config.test_split else usual) if s in splits]
    if "train" in splits and found and found[0] != "train":
        return str(found[0])
    wanted = config.test_split or "test or validation"
    raise refuse(
        "dataset",
        f"must have a train split and a {wanted} split; it has: "
        f"{', '.join(sorted(splits)) or 'none'}.",
        config.dataset,
    )


def hold(part: Part, shape: tuple[int, int, int], dataset: str) -> Part:
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
        raise refuse(
            "dataset", f"has images that cannot be read ({one_line(err)}).", dataset
        ) from err
    if at != part.size:
        raise refuse(
            "dataset", f"holds {at} images where its description says {part.size}.", dataset
        )
    return in_memory(images, labels)
