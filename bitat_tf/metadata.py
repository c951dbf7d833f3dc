"""What a flatbuffer says of itself: the record that `convert.embed` puts into it.

What is not known is left empty, and nothing is invented: a reader must be able to tell "no
mean was taken off" from "nobody said". Of measured figures those stand here that were known when
the flatbuffer was written. Its own accuracy and latency are measured afterwards, on the bytes as
they are, and are kept beside it (`report.json`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bitat_tf.records import check


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input: (pixel - mean) / std.

    Attributes:
        mean, std: of each channel, in units of the pixels as they are stored.
        pixel_range: the least and largest value that a pixel can have.
        image_size: side of the square to which an image is resized first; 0 where images are
            taken as they are.
        center_share: side of the square at the center that is resized, over the shorter side
            of the image; where `image_size` is not 0.

    Raises:
        ValueError: on a value out of range.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixel_range: tuple[float, float]
    image_size: int = 0
    center_share: float = 1.0

    def __post_init__(self) -> None:
        check(bool(self.mean), "mean", "one number per channel", self.mean)
        check(len(self.std) == len(self.mean), "std", f"{len(self.mean)} numbers", self.std)
        check(all(value > 0 for value in self.std), "std", "positive", self.std)
        low, high = self.pixel_range
        check(low < high, "pixel_range", "increasing", self.pixel_range)
        check(self.image_size >= 0, "image_size", "at least 0", self.image_size)
        check(0 < self.center_share <= 1, "center_share", "in (0, 1]", self.center_share)

    @property
    def input_range(self) -> tuple[float, float]:
        """The least and largest value that the network's input can have."""
        low, high = self.pixel_range
        pairs = list(zip(self.mean, self.std, strict=True))
        return min((low - m) / s for m, s in pairs), max((high - m) / s for m, s in pairs)


@dataclass(frozen=True)
class MeasuredShare:
    """A share of so many images.

    Attributes:
        share: in [0, 1].
        images: number of them, at least 1.

    Raises:
        ValueError: on a value out of range.
    """

    share: float
    images: int

    def __post_init__(self) -> None:
        check(0 <= self.share <= 1, "share", "in [0, 1]", self.share)
        check(self.images >= 1, "images", "at least 1", self.images)


@dataclass(frozen=True)
class AuditSummary:
    """The audit of the flatbuffer in a few numbers; its size is that of the file.

    Attributes:
        operators: in all.
        binary_convolutions: LceBconv2d.
        float_convolutions: CONV_2D and DEPTHWISE_CONV_2D that do not merely average.
        binary_macs: 1-bit multiply-accumulates of one inference.
        float_macs: all others.
    """

    operators: int
    binary_convolutions: int
    float_convolutions: int
    binary_macs: int
    float_macs: int


@dataclass(frozen=True)
class Metadata:
    """What is known of a flatbuffer.

    Attributes:
        bitat_version: of the package that wrote it.
        labels: the name of each class, in the order of the outputs; empty where unknown.
        preprocessing: of its images; None where unknown.
        dataset: name of the data set it learnt from; empty where unknown.
        recipe: the resolved recipe of its run, as far as it has a part in the network, and without
            where on whose machine the data lay.
        keras_accuracy: of the Keras model it was made from, on the test part of the data set;
            None where it was not measured by then.
        agreement: how often it and Keras name the same class; None where it was not measured.
        audit: of the flatbuffer.
    """

    bitat_version: str
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    dataset: str = ""
    recipe: Mapping[str, Any] | None = None
    keras_accuracy: MeasuredShare | None = None
    agreement: MeasuredShare | None = None
    audit: AuditSummary | None = None
