"""The exact algebraic fold: the same function in fewer operations on the device.

An ordered list of rewrites over an editable `Network`, one a file, each with its identity and
its motive. All are exact in real numbers; in float32 sums are rounded elsewhere, so that a value
within rounding of a sign's threshold may fall to its other side.

Works on what `strip` returns rather than on the student: every network of plain Keras and Larq
layers folds in the same way, whoever built it.
"""

from collections.abc import Callable
from typing import Any

from bitat_tf.convert.fold.batchnorm import fold_batchnorms
from bitat_tf.convert.fold.identities import drop_identities
from bitat_tf.convert.fold.merge import merge_branches
from bitat_tf.convert.fold.network import Network
from bitat_tf.convert.fold.padding import drop_padding
from bitat_tf.convert.fold.pools import pools_to_depthwise
from bitat_tf.convert.fold.reading import read
from bitat_tf.convert.fold.relu import relu_first
from bitat_tf.convert.fold.scales import move_scales
from bitat_tf.convert.fold.shifts import move_shifts
from bitat_tf.convert.fold.thresholds import to_thresholds
from bitat_tf.convert.fold.writing import write
from bitat_tf.results import FoldStep

# Each takes a network, changes it, and returns the names of what it changed. Those that make
# additions or leave constants come before `move_shifts`, which moves them.
REWRITES: tuple[Callable[[Network], list[str]], ...] = (
    drop_identities,
    drop_padding,
    move_scales,
    relu_first,
    merge_branches,
    to_thresholds,
    move_shifts,
    fold_batchnorms,
    pools_to_depthwise,
)


def fold(plain: Any) -> Any:
    """A new model that computes the same in fewer operations.

    Args:
        plain: functional or Sequential model of Keras and Larq layers, such as `strip` returns;
            not changed. For inference only: latent kernels become +-1.

    Returns:
        A functional model. Layers that stay keep their names; merged ones are called
        `a_and_b`.

    Raises:
        ValueError: when the model is subclassed.
    """
    return fold_with_report(plain)[0]


def fold_with_report(plain: Any) -> tuple[Any, tuple[FoldStep, ...]]:
    """As `fold`; also what each rewrite changed, in their order.

    Args:
        plain: as of `fold`.

    Returns:
        The folded model, and a record of each rewrite.
    """
    network = read(plain)
    steps = []
    for rewrite in REWRITES:
        changed = rewrite(network)
        network.prune()
        steps.append(FoldStep(rewrite.__name__, tuple(changed)))
    return write(network, plain), tuple(steps)


__all__ = ["REWRITES", "fold", "fold_with_report"]
