"""The images of a data set's first batches, with or without labels beside them."""

import itertools
from typing import Any


def take_images(dataset: Any, count: int) -> list[Any]:
    """The first `count` image batches.

    Args:
        dataset: batches of images, or of (images, labels).
        count: at most so many.

    Raises:
        ValueError: when the data set is empty.
    """
    batches = [
        element[0] if isinstance(element, tuple) else element
        for element in itertools.islice(iter(dataset), count)
    ]
    if not batches:
        raise ValueError("`dataset` is empty: at least one batch of images is needed.")
    return batches
