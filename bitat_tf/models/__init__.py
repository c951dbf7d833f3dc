"""Backbones by name; `build` makes the binary network or its float twin.

A family is one file with a builder, registered here; `parts` is what they share.
"""

from collections.abc import Callable
from typing import Any

from bitat_tf.models import mobilenet_v1_react, mobilenet_v2, quicknet, resnet

_BUILDERS: dict[str, Callable[..., Any]] = {
    "mobilenet_v1_react": mobilenet_v1_react.mobilenet_v1_react,
    "mobilenet_v1_react_nano": mobilenet_v1_react.mobilenet_v1_react_nano,
    "mobilenet_v2": mobilenet_v2.mobilenet_v2,
    "mobilenet_v2_nano": mobilenet_v2.mobilenet_v2_nano,
    "quicknet": quicknet.quicknet,
    "resnet18": resnet.resnet18,
    "resnet20": resnet.resnet20,
}


def names() -> list[str]:
    """The registered backbones."""
    return sorted(_BUILDERS)


def register(name: str, builder: Callable[..., Any]) -> None:
    """Let `build`, and so recipes, know a backbone of one's own; one of that name is replaced.

    Args:
        name: new.
        builder: takes the arguments that `build` speaks of, by keyword.
    """
    _BUILDERS[name] = builder


def build(name: str, **arguments: Any) -> Any:
    """Build a backbone.

    Args:
        name: one of `names()`.
        **arguments: of its builder; all take `classes`, `width`, `input_size`,
            `input_channels`, `stem_stride`, `channel_divisor`, `max_block`,
            `activation_quantizer`, `kernel_quantizer`, `thresholds` and `binary` (False: the
            float twin, with the same layer names).

    Returns:
        A Keras functional model from images (batch, size, size, channels), standardised, to
        logits (batch, classes).

    Raises:
        ValueError: on an unknown name or argument.
    """
    if name not in _BUILDERS:
        raise ValueError(f"No backbone named {name!r}. Known: {', '.join(names())}.")
    try:
        return _BUILDERS[name](**arguments)
    except TypeError as err:
        raise ValueError(f"Backbone {name!r}: {err}") from err
