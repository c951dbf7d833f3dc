"""Which of the workers this process is, and how they add up what each has of a sum.

A worker is a process of a `MultiWorkerMirroredStrategy`; under any other strategy, or none, there
is one, and all here is the identity. The strategy is the one in whose scope it is asked, as in
Keras, so calibration and the like need no argument for it.

What workers exchange here is added in float64 or as integers, where a 0 changes nothing: all get
the same bits, and what one worker alone has arrives as it is.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from bitat_tf._keras import tf
from bitat_tf.linalg import Moments

Item = TypeVar("Item")

# Of one exchange: a limit for the memory that it takes on the way.
_PIECE_BYTES = 2**24


@dataclass(frozen=True)
class Workers:
    """This worker among all.

    Attributes:
        index: from 0, the chief, whose files are kept.
        count: how many there are.
    """

    index: int = 0
    count: int = 1

    @property
    def chief(self) -> bool:
        """Whether this is the one whose files are kept."""
        return self.index == 0

    def mine(self, items: Iterable[Item]) -> Iterator[Item]:
        """Every `count`-th item, from number `index` on.

        Args:
            items: the same for all workers.

        Returns:
            This worker's.
        """
        return (item for number, item in enumerate(items) if number % self.count == self.index)

    def rows(self, total: int) -> slice:
        """This worker's part of so many rows; parts differ by one row at most.

        Args:
            total: of all workers.

        Returns:
            A slice.
        """
        return slice(self.index * total // self.count, (self.index + 1) * total // self.count)


def of(strategy: Any) -> Workers:
    """The workers of a strategy.

    Args:
        strategy: of `tf.distribute`, or None.

    Returns:
        One worker for all but a `MultiWorkerMirroredStrategy`.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return Workers()
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec():
        return Workers()
    tasks = resolver.cluster_spec().as_dict()
    chiefs = len(tasks.get("chief", ()))
    before = chiefs if resolver.task_type == "worker" else 0
    return Workers(before + resolver.task_id, chiefs + len(tasks.get("worker", ())))


def current() -> Workers:
    """The workers of the strategy in whose scope this is asked."""
    return of(tf.distribute.get_strategy())


def total(*arrays: Any) -> list[Any]:
    """Sums over all workers, of several arrays in one exchange.

    Args:
        *arrays: floats or NumPy arrays, of the same shapes on all workers.

    Returns:
        Arrays of float64 with these shapes; what was given where there is one worker.
    """
    if current().count == 1:
        return list(arrays)
    values = [np.asarray(array, np.float64) for array in arrays]
    flat = _exchanged(np.concatenate([np.ravel(value) for value in values]))
    ends = np.cumsum([value.size for value in values])
    pieces = np.split(flat, ends[:-1])
    return [np.reshape(p, v.shape) for p, v in zip(pieces, values, strict=True)]


def total_moments(own: Moments) -> Moments:
    """A layer's moments over all workers.

    Args:
        own: this worker's.

    Returns:
        Their sums.
    """
    return Moments(*total(own.weight, own.x, own.t, own.xx, own.xt, own.tt))


def of_chief(content: bytes) -> bytes:
    """The chief's bytes, on all workers.

    Args:
        content: looked at on the chief only.

    Returns:
        The same on all.
    """
    workers = current()
    if workers.count == 1:
        return content
    size = int(_exchanged(np.array([len(content) * workers.chief], np.int64))[0])
    words = np.zeros(-(-size // 8), np.int64)
    if workers.chief:
        words.view(np.uint8)[:size] = np.frombuffer(content, np.uint8)
    return bytes(_exchanged(words).view(np.uint8)[:size])


def any_of(answer: bool) -> bool:
    """Whether any worker says yes.

    Args:
        answer: this worker's.

    Returns:
        The same on all.
    """
    if current().count == 1:
        return answer
    return bool(_exchanged(np.array([int(answer)], np.int64))[0])


def take_chiefs(variables: Sequence[Any]) -> None:
    """Give all workers the chief's values.

    Machines of different kinds find eigenvectors that differ in the last bits, or in sign.

    Args:
        variables: the same ones on all workers; nothing happens where there is one worker.
    """
    workers = current()
    if workers.count == 1:
        return
    for variable in variables:
        value = variable.numpy()
        found = of_chief(np.ascontiguousarray(value).tobytes())
        if not workers.chief:
            variable.assign(np.frombuffer(found, value.dtype).reshape(value.shape))


def _exchanged(flat: Any) -> Any:
    """The sum over all workers of a vector of float64 or int64."""
    step = _PIECE_BYTES // flat.itemsize
    pieces = [_reduced(flat[start : start + step]) for start in range(0, len(flat), step)]
    return np.concatenate(pieces) if pieces else flat


def _reduced(vector: Any) -> Any:
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync // current().count

    def value(context: Any) -> Any:
        # A worker with several replicas counts once.
        first = context.replica_id_in_sync_group % replicas == 0
        return tf.constant(vector if first else np.zeros_like(vector))

    values = strategy.experimental_distribute_values_from_function(value)
    return strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None).numpy()
