"""The first batches of a data set, with or without labels beside the images.

A data set is an iterable of batches. Arrays as `fit` takes them are none, but are what many have at
hand: they are cut into batches.
"""

import itertools
from collections.abc import Iterable
from typing import Any

# Images of a batch that an array is cut into: the recipes' batch size.
ARRAY_BATCH = 128


def as_batches(dataset: Any) -> Iterable[Any]:
    """A data set as it is; arrays in batches.

    Args:
        dataset: batches; or an array or tensor (n, height, width, channels), or a pair of one and
            of its labels, (n,) or (n, classes).

    Returns:
        Batches of what was given.

    Raises:
        ValueError: when there are more images than labels, or the other way round.
    """
    if _is_array(dataset):
        return (dataset[i : i + ARRAY_BATCH] for i in range(0, len(dataset), ARRAY_BATCH))
    if isinstance(dataset, tuple) and len(dataset) == 2 and all(map(_is_array, dataset)):
        images, labels = dataset
        if len(images.shape) != len(labels.shape):  # else two batches of images
            if len(images) != len(labels):
                raise ValueError(
                    "`dataset` must have as many labels as images. "
                    f"Received: {len(images)} images, {len(labels)} labels"
                )
            return zip(as_batches(images), as_batches(labels), strict=True)
    return dataset


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape")  # NumPy's or TensorFlow's


def take_images(dataset: Any, count: int) -> list[Any]:
    """The first `count` image batches.

    Args:
        dataset: batches of images (batch, height, width, channels), or of (images, labels); or
            arrays of all images, or of all images and labels (`as_batches`). For a model with
            several inputs, (inputs, labels) or (inputs,).
        count: at most so many.

    Raises:
        ValueError: when the data set is empty, or arrays differ in length.
    """
    batches = [
        element[0] if isinstance(element, tuple) else element
        for element in itertools.islice(as_batches(dataset), count)
    ]
    if not batches:
        raise ValueError("`dataset` is empty: at least one batch of images is needed.")
    return batches


def take_labelled(dataset: Any, count: int) -> tuple[list[Any], list[Any] | None]:
    """As `take_images`, with the batches' labels; None where the data set has none.

    Raises:
        ValueError: when the data set is empty.
    """
    elements = list(itertools.islice(as_batches(dataset), count))
    labelled = bool(elements) and all(isinstance(e, tuple) and len(e) > 1 for e in elements)
    labels = [element[1] for element in elements] if labelled else None
    return take_images(elements, count), labels
