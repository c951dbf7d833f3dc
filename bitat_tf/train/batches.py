"""The first batches of a data set, with or without labels beside the images."""

import itertools
from typing import Any


def take_images(dataset: Any, count: int) -> list[Any]:
    """The first `count` image batches.

    Args:
        dataset: batches of images, or of (images, labels). For a model with several inputs,
            (inputs, labels) or (inputs,).
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


def take_labelled(dataset: Any, count: int) -> tuple[list[Any], list[Any] | None]:
    """As `take_images`, with the batches' labels; None where the data set has none.

    Raises:
        ValueError: when the data set is empty.
    """
    elements = list(itertools.islice(iter(dataset), count))
    labelled = bool(elements) and all(isinstance(e, tuple) and len(e) > 1 for e in elements)
    labels = [element[1] for element in elements] if labelled else None
    return take_images(elements, count), labels
