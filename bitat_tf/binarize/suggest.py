"""The most useful changes to a model: where its float work is, and what the layers there lack."""

from collections import defaultdict
from collections.abc import Sequence

from bitat_tf.binarize.report import LayerReport
from bitat_tf.counts import WORD_BITS, packed_words

_MOST = 3

# Words that are half empty or worse, and shares not worth a line.
_SMALLEST_SHARE = 0.005

# LceBconv2d does about as many multiply-accumulates as this in the time of a float one.
_BINARY_GAIN = 16


def suggestions(layers: Sequence[LayerReport]) -> tuple[str, ...]:
    """At most three sentences, the change that touches most work first.

    Layers that stay float for the same reason are one suggestion. Weighed by multiply-accumulates
    in float equivalents.
    """
    float_macs = sum(layer.macs for layer in layers if not layer.binary)
    weighed: list[tuple[float, str]] = []
    groups: dict[tuple[str, str], list[LayerReport]] = defaultdict(list)
    for layer in layers:
        if layer.reason and layer.remedy and layer.macs:
            groups[layer.reason, layer.remedy].append(layer)
    for (reason, remedy), members in groups.items():
        macs = sum(layer.macs for layer in members)
        share = f"{macs / float_macs:.0%} of the float MACs"
        weighed.append((macs, f"{_named(members)} ({share}): {reason}. {_sentence(remedy)}"))
    weighed.extend(_half_empty_words(layers))
    total = max(1.0, float_macs + sum(m.macs for m in layers if m.binary) / _BINARY_GAIN)
    weighed.sort(key=lambda item: -item[0])
    return tuple(text for weight, text in weighed if weight / total >= _SMALLEST_SHARE)[:_MOST]


def _half_empty_words(layers: Sequence[LayerReport]) -> list[tuple[float, str]]:
    """Input channels that fill LCE's words of 32 badly cost as much as if they did."""
    members = []
    wasted = 0.0
    for layer in layers:
        if layer.binary:
            channels = layer.operators[0].kernel_shape[-1]
            filled = packed_words(channels) * WORD_BITS
            if filled != channels:
                members.append(layer)
                wasted += layer.macs * (filled / channels - 1.0) / _BINARY_GAIN
    if not members:
        return []
    text = (
        f"{_named(members)}: input channels are no multiple of {WORD_BITS}, so LCE computes with "
        f"words that are partly empty. Round the channels up to a multiple of {WORD_BITS}: they "
        "cost nothing."
    )
    return [(wasted, text)]


def _named(members: Sequence[LayerReport]) -> str:
    names = [layer.name for layer in sorted(members, key=lambda layer: -layer.macs)]
    if len(names) == 1:
        return names[0]
    return f"{len(names)} layers, such as {names[0]}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
