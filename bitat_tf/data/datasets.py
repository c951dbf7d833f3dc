"""Batches for training, calibration, validation and test, from one standardisation.

Images leave as float32, shifted and scaled per channel to mean 0 and standard deviation 1
over the train part; labels as int32, or in training as distributions over the classes, where
they are smoothed or mixed. What `train` yields at step n is a pure function of the
data, the seed and n: an order is drawn per epoch, crops and flips per step, all
statelessly. Two processes, or a run resumed at step n, see the same batches, however many
threads work and whatever TensorFlow's global seed is. A train part too large for memory
passes through a shuffle buffer, under the same promise; encoded, where images are resized.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from bitat_tf._keras import tf
from bitat_tf.config import DataConfig
from bitat_tf.data import augment as augmentation
from bitat_tf.data import mixing, parts, rand_augment, sources
from bitat_tf.data.encoded import Corrupt
from bitat_tf.data.parts import Part
from bitat_tf.records import check

# What a stateless random number is for; keeps the streams of one seed apart.
_ORDER, _AUGMENT, _CALIBRATION, _CROP, _RAND_AUGMENT, _MIX = range(6)
# Decoded batches that wait for a training step where images are decoded batch by batch.
_READY = 2


@dataclass(frozen=True, eq=False)
class ImageData:
    """A labelled image data set in three parts; `load` makes it.

    Attributes:
        name: of the data set.
        classes: number of classes; labels are 0 .. classes - 1.
        class_names: one per class.
        image_shape: (height, width, channels).
        train_images, validation_images, test_images: number of images in each part.
        mean, std: per channel over the train part, in pixel units, or as given to `load`.
        pixel_max: largest value of a pixel: 255; 16 of the digits.
        config: what it was loaded from.
        seed: of the orders, the augmentation and the calibration images.
        corrupt: the images left out so far, because they could not be read.
    """

    name: str
    classes: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_images: int
    validation_images: int
    test_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixel_max: int
    config: DataConfig
    seed: int
    corrupt: Corrupt = field(repr=False)
    _train: Part = field(repr=False)
    _validation: Part = field(repr=False)
    _test: Part = field(repr=False)

    def train(self, batch_size: int, *, first_step: int = 0) -> tf.data.Dataset:
        """Training batches without end, each epoch in a new order, augmented if so configured.

        Args:
            batch_size: images per batch; an epoch's remainder is dropped.
            first_step: batches to leave out, as if they had been taken: for resuming.

        Returns:
            A data set of images (batch, height, width, channels) and labels (batch,), or
            float32 (batch, classes) where `config.soft_labels`.

        Raises:
            ValueError: when `batch_size` exceeds the train part.
        """
        check(
            1 <= batch_size <= self.train_images,
            "batch_size",
            f"between 1 and the {self.train_images} train images",
            batch_size,
        )
        check(first_step >= 0, "first_step", "at least 0", first_step)
        if self.config.augment:
            augmentation.prepare(flip=self.config.flip)
            rand_augment.prepare(self.config.rand_augment)
        epoch_steps = self.train_images // batch_size
        epochs = tf.data.Dataset.counter(first_step // epoch_steps)

        def of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            batches = self._shuffled(_seed(self.seed, epoch, _ORDER), batch_size)
            if self._train.arrays is not None:
                return batches
            # A stream that is shorter than its description says would shift all later steps.
            message = (
                f"the data set {self.name!r} ended early: of {self.train_images} train images so "
                f"few came that a batch of {batch_size} could not be filled. Prepare it anew."
            )
            return batches.concatenate(_failing(batches.element_spec, message)).take(epoch_steps)

        batches = epochs.flat_map(of_epoch)
        steps = tf.data.Dataset.counter(first_step)
        numbered = tf.data.Dataset.zip(steps, batches.skip(first_step % epoch_steps))
        if self._train.encoded is not None:
            # A batch is decoded on all cores; more of them at a time would only take memory.
            return numbered.map(self._training_batch).prefetch(_READY)
        return numbered.map(
            self._training_batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        ).prefetch(tf.data.AUTOTUNE)

    def calibration(self, batch_size: int, batches: int) -> tf.data.Dataset:
        """The same few training images each time, chosen by the seed, not augmented.

        Args:
            batch_size: images per batch.
            batches: number of batches.

        Returns:
            A data set of `batches` images (batch, height, width, channels) and labels (batch,).

        Raises:
            ValueError: when that is more than the train part holds.
        """
        check(batch_size >= 1, "batch_size", "at least 1", batch_size)
        check(batches >= 1, "batches", "at least 1", batches)
        check(
            batches * batch_size <= self.train_images,
            "batches",
            f"at most {self.train_images // batch_size}: the train part has {self.train_images} "
            f"images for batches of {batch_size}",
            batches,
        )
        chosen = self._shuffled(_seed(self.seed, 0, _CALIBRATION), batch_size).take(batches)
        encoded = self._train.encoded
        if encoded is not None:
            chosen = chosen.map(lambda *batch: encoded.batch(encoded.center, *batch))
        return self._standardised(chosen)

    def validation(self, batch_size: int) -> tf.data.Dataset:
        """The validation part once, in order, the last batch as small as it comes.

        Args:
            batch_size: images per batch.

        Returns:
            Standardised images (batch, height, width, channels) float32 and labels (batch,).

        Raises:
            ValueError: when `batch_size` is below 1.
        """
        return self._in_order(self._validation, batch_size)

    def test(self, batch_size: int) -> tf.data.Dataset:
        """The test part once, in order, the last batch as small as it comes.

        Args:
            batch_size: images per batch.

        Returns:
            Standardised images (batch, height, width, channels) float32 and labels (batch,).

        Raises:
            ValueError: when `batch_size` is below 1.
        """
        return self._in_order(self._test, batch_size)

    def _in_order(self, part: Part, batch_size: int) -> tf.data.Dataset:
        """A whole part once; what `validation` and `test` give."""
        check(batch_size >= 1, "batch_size", "at least 1", batch_size)
        return self._standardised(part.stream.batch(batch_size))

    def _shuffled(self, seed: tf.Tensor, batch_size: int) -> tf.data.Dataset:
        """The train part once, in an order drawn from two integers: raw whole batches.

        Of (images, labels), or of (sources, labels, names) where images are encoded.
        """
        part = self._train
        if part.arrays is None:
            stream, each = part.stream, math.prod(self.image_shape)
            if part.encoded is not None:
                stream, each = part.encoded.sources, part.encoded.source_bytes
            fitting = max(1, parts.MEMORY_LIMIT_BYTES // each)
            buffer = min(self.config.shuffle_buffer or part.size, fitting)
            shuffled = _buffer_shuffled(stream, buffer, seed)
            return shuffled.batch(batch_size, drop_remainder=True)
        images, labels = part.arrays
        order = tf.random.experimental.stateless_shuffle(tf.range(part.size), seed)
        chosen = tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True)
        return chosen.map(lambda at: (tf.gather(images, at), tf.gather(labels, at)))

    def _training_batch(
        self, step: tf.Tensor, batch: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        config = self.config
        if self._train.encoded is not None:
            decode = self._train.encoded.at_random(_seed(self.seed, step, _CROP))
            batch = self._train.encoded.batch(decode, *batch)
        images, labels = batch
        if config.augment and config.rand_augment:
            images = rand_augment.rand_augment(
                images,
                _seed(self.seed, step, _RAND_AUGMENT),
                magnitude=config.rand_augment,
                layers=config.rand_augment_layers,
            )
        images, labels = self._standardise(images, labels)
        if config.augment:
            images = augmentation.augment(
                images,
                _seed(self.seed, step, _AUGMENT),
                crop_padding=config.crop_padding if config.crop == "pad" else 0,
                flip=config.flip,
            )
        if config.soft_labels:
            labels = mixing.smooth(labels, self.classes, config.label_smoothing)
        if config.mixes:
            images, labels = mixing.mix(
                images,
                labels,
                _seed(self.seed, step, _MIX),
                mixup_alpha=config.mixup,
                cutmix_alpha=config.cutmix,
            )
        return images, labels

    def _standardise(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mean = tf.constant(self.mean, tf.float32)
        std = tf.constant(self.std, tf.float32)
        return (tf.cast(images, tf.float32) - mean) / std, labels

    def _standardised(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        if self._train.encoded is not None:
            return batches.map(self._standardise).prefetch(1)
        return batches.map(self._standardise, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _seed(seed: int, number: int | tf.Tensor, purpose: int) -> tf.Tensor:
    """Two integers for the `number`-th draw of one purpose."""
    pair = tf.stack([tf.constant(seed, tf.int32), tf.cast(number, tf.int32)])
    return tf.random.experimental.stateless_fold_in(pair, purpose)


def _failing(element_spec: tuple[tf.TensorSpec, ...], message: str) -> tf.data.Dataset:
    """A data set of such elements that raises InvalidArgumentError where its first is asked for."""

    def fail(_: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with tf.control_dependencies([tf.debugging.Assert(False, [message])]):
            return tuple(
                tf.zeros([size or 0 for size in spec.shape], spec.dtype) for spec in element_spec
            )

    return tf.data.Dataset.range(1).map(fail)


def _buffer_shuffled(stream: tf.data.Dataset, buffer: int, seed: tf.Tensor) -> tf.data.Dataset:
    """`Dataset.shuffle`, but seeded by two integers alone.

    The method would mix in TensorFlow's global seed, and fail on a tensor where that is 0.
    """
    seed = tf.cast(seed, tf.int64)
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(stream),
        buffer_size=tf.constant(buffer, tf.int64),
        seed=seed[0],
        seed2=seed[1],
        output_types=[spec.dtype for spec in stream.element_spec],
        output_shapes=[spec.shape for spec in stream.element_spec],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(variant, stream.element_spec)


def _moments(part: Part, config: DataConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, in one pass; the sums are exact."""
    count, total, squares = 0, np.zeros(()), np.zeros(())
    left = config.statistics_images or part.size
    for images, _ in part.chunks():
        images = images[:left]
        left -= len(images)
        pixels = images.reshape(-1, images.shape[-1]).astype(np.float64)
        count += len(pixels)
        total = total + pixels.sum(0)
        squares = squares + np.square(pixels).sum(0)
        if not left:
            break
    if not count:
        raise parts.refuse("dataset", "must hold readable images.", config.dataset)
    mean = total / count
    std = np.sqrt(squares / count - np.square(mean))
    if not std.all():
        raise ValueError(
            "`data.dataset` must hold images that vary in every channel. "
            f"Received: {config.dataset!r}, with standard deviations {std.tolist()}"
        )
    return tuple(mean.tolist()), tuple(std.tolist())


def _measured(
    source: parts.Source, config: DataConfig
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    try:
        return _moments(source.train, config)
    except tf.errors.OpError as err:
        if source.corrupt.problem():
            raise ValueError(source.corrupt.problem()) from err
        raise parts.refuse(
            "dataset", f"has images that cannot be read ({parts.one_line(err)}).", config.dataset
        ) from err


def load(
    config: DataConfig,
    *,
    seed: int,
    standardisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> ImageData:
    """Open a data set, split it and measure its mean and spread.

    The parts do not depend on the seed. A train part of at most
    `parts.MEMORY_LIMIT_BYTES` is decoded into memory here, once, and shuffled as a whole
    whatever `config.shuffle_buffer` says; a larger one is read once here (its first
    `config.statistics_images` images, if so configured) and streamed later.

    Args:
        config: which data set, and how it is split and augmented.
        seed: of orders, augmentation and the choice of calibration images.
        standardisation: mean and std per channel to use instead of the measured ones: those
            that a finished model was trained with.

    Returns:
        The data set.

    Raises:
        ValueError: when the data set is unknown, not prepared, damaged, or not one of
            labelled 8-bit images (of one size, where they are not resized), has more corrupt
            ones than allowed, or other channels than `standardisation`; the message is one line.
        OSError: when TFDS had to download the data set and could not.
    """
    check(0 <= seed < 2**31, "seed", "between 0 and 2**31 - 1", seed)
    source = sources.open_source(config)
    channels = source.image_shape[2]
    check(
        channels == 3 or not config.rand_augment,
        "data.rand_augment",
        f"0 for images of {channels} channels: its operations are for three",
        config.rand_augment,
    )
    if standardisation is None:
        mean, std = _measured(source, config)
    else:
        mean, std = standardisation
        check(
            len(mean) == len(std) == channels,
            "standardisation",
            f"of {channels} channels, as the images of {source.name!r} are",
            standardisation,
        )
    return ImageData(
        name=source.name,
        classes=len(source.class_names),
        class_names=source.class_names,
        image_shape=source.image_shape,
        train_images=source.train.size,
        validation_images=source.validation.size,
        test_images=source.test.size,
        mean=mean,
        std=std,
        pixel_max=source.pixel_max,
        config=config,
        seed=seed,
        corrupt=source.corrupt,
        _train=source.train,
        _validation=source.validation,
        _test=source.test,
    )
