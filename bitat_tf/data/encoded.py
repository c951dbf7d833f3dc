"""Images that stay encoded until a batch of them is needed, and what becomes of corrupt ones.

What is shuffled, and what waits in a buffer, is encoded images or the paths of files: a data set
larger than memory costs no more than a few batches. A batch is decoded as a whole, on as many
cores as there are.

An image that cannot be decoded, or whose file cannot be read, is left out, counted by its name
and logged. Where images are read through once (test, validation, statistics) it is missing. In
training the image before it in its batch (the first readable one, if there is none) stands in
its place, so that the steps of an epoch, and what any step sees, stay what they are. More of them
than allowed is an error that names them.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bitat_tf._keras import tf
from bitat_tf.config import DataConfig
from bitat_tf.data import decoding

_LOGGER = logging.getLogger(__name__)

# How many of too many corrupt images an error names.
_NAMED = 10
# Images decoded together where batches are made later.
_TOGETHER = 32
# A batch is over before autotuning could find out.
_CORES = os.cpu_count() or 1

# (bytes, index in the batch) -> uint8 (h, w, c)
Decode = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Corrupt:
    """The images that could not be read, by name.

    Args:
        limit: how many there may be.

    Attributes:
        names: those met so far, in order.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.names: list[str] = []
        self._lock = threading.Lock()  # pipelines call from several threads

    def met(self, names: np.ndarray) -> str:
        """Take note of corrupt images; returns what is wrong, or "" within the limit."""
        with self._lock:
            for name in (raw.decode(errors="replace") for raw in names):
                if name not in self.names:
                    self.names.append(name)
                    _LOGGER.warning("corrupt image left out: %s", name)
            return self.problem()

    def problem(self) -> str:
        """What is wrong with so many corrupt images, or "" within the limit."""
        if len(self.names) <= self.limit:
            return ""
        shown = ", ".join(self.names[:_NAMED])
        more = ", ..." if len(self.names) > _NAMED else ""
        return (
            f"`data.max_corrupt` allows for {self.limit} corrupt images. Received: "
            f"{len(self.names)}, {shown}{more}. Remove or replace them, or allow for more."
        )

    def note(self, names: tf.Tensor) -> tf.Operation:
        """In a graph: `met`, and an error where it says that something is wrong.

        Raises:
            tf.errors.InvalidArgumentError: when run.
        """
        message = tf.numpy_function(self.met, [names], tf.string)
        return tf.debugging.Assert(tf.equal(message, ""), [message])


@dataclass(frozen=True, eq=False)
class Encoded:
    """Images of one part as they are kept.

    Attributes:
        sources: (source, int32 label, name) one by one in a fixed order; finite.
        read: from a source to an image's bytes: a file's path, or the bytes themselves.
        source_bytes: that a source takes in memory, about.
        channels: of the images.
        config: says how to crop and resize.
        corrupt: takes note of what cannot be read.
    """

    sources: tf.data.Dataset
    read: Callable[[tf.Tensor], tf.Tensor]
    source_bytes: int
    channels: int
    config: DataConfig
    corrupt: Corrupt

    def center(self, content: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        """The square at the center of an image, as for evaluation."""
        config = self.config
        return decoding.center_square(
            content, size=config.image_size, channels=self.channels, share=config.center_share
        )

    def at_random(self, seed: tf.Tensor) -> Decode:
        """For a batch in training: the parts of its images that two integers choose."""
        config = self.config
        if not config.augment or config.crop == "pad":
            return self.center
        return lambda content, index: decoding.random_part(
            content,
            tf.random.experimental.stateless_fold_in(seed, index),
            size=config.image_size,
            channels=self.channels,
            area=config.crop_area,
        )

    def stream(self) -> tf.data.Dataset:
        """(uint8 (h, w, c), int32 ()) one by one, at their center, without corrupt ones."""
        batches = self.sources.batch(_TOGETHER)
        decoded = batches.map(lambda *batch: self._readable(self.center, *batch)[:2])
        return decoded.prefetch(1).unbatch()

    def batch(
        self, decode: Decode, sources: tf.Tensor, labels: tf.Tensor, names: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """A batch decoded, others in the place of corrupt ones.

        Args:
            decode: what to make of each image.
            sources, labels, names: (batch,) each.

        Returns:
            uint8 (batch, h, w, c) and int32 (batch,).
        """
        images, labels, readable = self._readable(decode, sources, labels, names)
        # For each place the last readable image up to it, or else the first.
        places = tf.range(tf.size(names))
        taken = tf.maximum(tf.searchsorted(readable, places, side="right") - 1, 0)
        return tf.gather(images, taken), tf.gather(labels, taken)

    def _readable(
        self, decode: Decode, sources: tf.Tensor, labels: tf.Tensor, names: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Images and labels of those that can be read, and their places in the batch."""
        size = tf.size(names)

        def image(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return decode(self.read(sources[index]), index), index

        one_by_one = tf.data.Dataset.range(tf.cast(size, tf.int64), output_type=tf.int32)
        images = one_by_one.map(image, num_parallel_calls=_CORES, deterministic=True)
        together = images.ignore_errors().batch(tf.cast(size, tf.int64))
        shape = [self.config.image_size, self.config.image_size, self.channels]
        # A batch without any readable image has none to give.
        none = tf.data.Dataset.from_tensors(
            (tf.zeros([0, *shape], tf.uint8), tf.zeros([0], tf.int32))
        )
        decoded, readable = together.concatenate(none).take(1).get_single_element()
        lost = tf.ones([size], tf.bool)
        lost = tf.tensor_scatter_nd_update(
            lost, readable[:, tf.newaxis], tf.zeros_like(readable, tf.bool)
        )
        noted = tf.cond(
            tf.reduce_any(lost),
            lambda: _after(self.corrupt.note(tf.boolean_mask(names, lost))),
            lambda: True,
        )
        with tf.control_dependencies([noted]):
            return tf.ensure_shape(decoded, [None, *shape]), tf.gather(labels, readable), readable


def _after(operation: tf.Operation) -> tf.Tensor:
    """True, once an operation has run."""
    with tf.control_dependencies([operation]):
        return tf.constant(True)
