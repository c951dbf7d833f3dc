"""Why layers stay float: the caller's wish, and what Larq Compute Engine has no kernel for."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from bitat_tf._keras import keras
from bitat_tf.binarize.plan import KERNEL_LAYERS, Decision, Plan, Reason

_layers = keras.layers

FIRST_AND_LAST = ("first", "last")
"""The two words that `keep_float` takes besides names and patterns of names."""

_FIRST = Reason(
    "first layer: it reads the input, of which one bit keeps too little",
    "give it fewer channels or a larger stride, or shrink the image before it",
)
_LAST = Reason(
    "last layer: its outputs are the answer",
    "pool before it, so that it has fewer inputs",
)
_NO_BATCHNORM = Reason(
    "no BatchNormalization stands right behind it, and the rule `batchnorm` is off",
    "use the rule `batchnorm`, or put a BatchNormalization between it and its activation",
)
# In this order: the classes of the last are bases of those before.
_NO_KERNEL = (
    (
        _layers.DepthwiseConv2D,
        Reason(
            "depthwise: LCE has no 1-bit kernel for it",
            "use a 3x3 Conv2D in its place, which as a 1-bit convolution costs little",
        ),
    ),
    (_layers.Conv2DTranspose, Reason("transposed: LCE has no 1-bit kernel for it", "")),
    (_layers.Conv2D, Reason("no rule makes it binary", "use the default rules")),
    (
        _layers.Dense,
        Reason("no rule makes it binary", "use the default rules"),
    ),
    (
        KERNEL_LAYERS,
        Reason(
            "LCE has 1-bit kernels for two-dimensional convolutions only",
            "reshape, and use Conv2D",
        ),
    ),
)
# Packages whose layers show what they are.
_KNOWN = ("tf_keras", "bitat_tf")

_CUSTOM = Reason(
    "custom layer: what it computes cannot be read from the graph",
    "write its convolutions as Keras layers of a functional model",
)


def keep_float(plan: Plan, wanted: Sequence[str]) -> None:
    """Object to what the caller wants to stay float, before any rule is asked.

    Args:
        plan: to write into.
        wanted: names of layers, patterns of names (`*`, `?`, `[]`), `"first"` and `"last"`.

    Raises:
        ValueError: when a name or pattern fits no layer.
    """
    if isinstance(wanted, str):
        wanted = (wanted,)
    first, last = plan.first_and_last()
    for pattern in wanted:
        chosen = [d for d in plan.decisions.values() if fnmatchcase(d.name, pattern)]
        for decision in chosen:
            decision.keep_float(Reason(f"`keep_float` names it ({pattern!r})", "take it out"))
        if not chosen and pattern not in FIRST_AND_LAST:
            raise ValueError(
                f"`keep_float` must name layers of the model. Received: {pattern!r}, which fits "
                f"none of {', '.join(plan.decisions)}"
            )
    for word, names, reason in (("first", first, _FIRST), ("last", last, _LAST)):
        for name in names if word in wanted else ():
            plan.decisions[name].keep_float(reason)


def explain(plan: Plan) -> None:
    """Give a reason to every layer with a kernel that no rule has spoken of."""
    for decision in plan.decisions.values():
        if not decision.binary and decision.reason is None:
            decision.reason = _reason(decision)


def require_batchnorm(decision: Decision, own: object) -> None:
    """Object to a binary layer that neither has a BatchNormalization behind it nor may get one."""
    if own is None and not decision.insert_batchnorm:
        decision.keep_float(_NO_BATCHNORM)


def _reason(decision: Decision) -> Reason | None:
    layer = decision.layer
    if type(layer).__module__.split(".")[0] in _KNOWN:
        for classes, reason in _NO_KERNEL:
            if isinstance(layer, classes):
                return reason
        return None
    return _CUSTOM if layer.weights else None
