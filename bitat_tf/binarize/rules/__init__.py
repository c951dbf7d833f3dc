"""The rewrite rules, in the order in which they are asked.

A rule looks at the whole plan and writes into it: what becomes binary, what must not, and what
is done around it. A new rule is one class with a `name` and `apply`, put where it belongs in the
list that `binarize(rules=...)` takes. The order matters: a rule may object to what one before it
has planned, never the other way round.
"""

from collections.abc import Sequence
from typing import Protocol

from bitat_tf.binarize.plan import Plan
from bitat_tf.binarize.rules.batchnorm import BatchNorm
from bitat_tf.binarize.rules.convolution import Convolution, DenseLayer, Pointwise
from bitat_tf.binarize.rules.limits import Gate, GroupedConvolution, SharedLayer
from bitat_tf.binarize.rules.padding import OnePadding
from bitat_tf.binarize.rules.shortcut import AddShortcut


class Rule(Protocol):
    """What `binarize` takes in `rules`."""

    @property
    def name(self) -> str:
        """In `without`, and in messages."""

    def apply(self, plan: Plan) -> None:
        """Write into the plan's decisions.

        Args:
            plan: whose decisions it changes (`make_binary`, `keep_float`, ...).
        """


DEFAULT_RULES: tuple[Rule, ...] = (
    Convolution(),
    DenseLayer(),
    Pointwise(),
    GroupedConvolution(),
    SharedLayer(),
    Gate(),
    BatchNorm(),
    OnePadding(),
    AddShortcut(),
)
"""What `binarize` applies, in this order."""


def without(*names: str, rules: Sequence[Rule] = DEFAULT_RULES) -> tuple[Rule, ...]:
    """The rules less those of these names.

    Args:
        *names: of rules to leave out.
        rules: to take them from.

    Returns:
        The others, in order.

    Raises:
        ValueError: when there is no rule of a name.

    Examples:
        >>> student, report = bitat.binarize(model, rules=without("shortcut"))  # doctest: +SKIP
    """
    known = [rule.name for rule in rules]
    for name in names:
        if name not in known:
            raise ValueError(f"There is no rule {name!r}. Known: {', '.join(known)}.")
    return tuple(rule for rule in rules if rule.name not in names)


__all__ = [
    "DEFAULT_RULES",
    "AddShortcut",
    "BatchNorm",
    "Convolution",
    "DenseLayer",
    "Gate",
    "GroupedConvolution",
    "OnePadding",
    "Pointwise",
    "Rule",
    "SharedLayer",
    "without",
]
