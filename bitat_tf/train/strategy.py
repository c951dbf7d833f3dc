"""The `tf.distribute` strategy of a recipe, the scope its models are made in, and its batches.

A strategy must be made before TensorFlow computes anything: with several workers it starts the
server by which they reach each other.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bitat_tf._keras import tf
from bitat_tf.config import Recipe, Strategy
from bitat_tf.records import check
from bitat_tf.train import rendezvous
from bitat_tf.train.workers import of

_TF_CONFIG = "TF_CONFIG"
_ADDRESS = re.compile(r"^.+:\d+$")
_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
)


def build(name: Strategy, start_seconds: float = rendezvous.START_SECONDS) -> Any:
    """Make a strategy; with several workers, wait for the others.

    Args:
        name: `"none"`, `"mirrored"`, `"multiworker"` or `"tpu"`.
        start_seconds: how long to wait for the other workers.

    Returns:
        A `tf.distribute.Strategy`; None for `"none"`.

    Raises:
        ValueError: when TF_CONFIG is missing or wrong, or there is no TPU.
        RuntimeError: when this worker's port is taken, or the others do not come.
    """
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(_devices())
    if name == "multiworker":
        return _multiworker(start_seconds)
    if name == "tpu":
        return _tpu()
    return None


def _devices() -> list[str] | None:
    """TensorFlow's own choice where there are GPUs, else all CPUs, which may be virtual ones."""
    if tf.config.list_logical_devices("GPU"):
        return None
    return [device.name for device in tf.config.list_logical_devices("CPU")]


def virtual_cpus(count: int) -> None:
    """Divide the CPU into several logical devices, to try a mirrored training without GPUs.

    Args:
        count: of devices.

    Raises:
        RuntimeError: when TensorFlow has computed something already.
    """
    (cpu,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
    tf.config.set_logical_device_configuration(cpu, parts)


def _multiworker(start_seconds: float) -> Any:
    addresses, own = check_cluster(os.environ.get(_TF_CONFIG, ""))
    rendezvous.wait_for(addresses, own, start_seconds)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with rendezvous.attended(strategy), strategy.scope():
        rendezvous.meet("start")
    return strategy


def check_cluster(text: str) -> tuple[list[str], str]:
    """Refuse a TF_CONFIG that TensorFlow would take wrongly, or wait with for ever.

    Args:
        text: its JSON.

    Returns:
        The addresses of all workers in it, and this worker's own.

    Raises:
        ValueError: with what is wrong, and how it should be.
    """
    try:
        values = json.loads(text or "{}")
    except json.JSONDecodeError as err:
        raise _wrong(f"is not valid JSON ({err})") from err
    if not isinstance(values, Mapping) or not values:
        raise _wrong("is not set")
    cluster, task = values.get("cluster"), values.get("task")
    if not isinstance(cluster, Mapping) or not isinstance(task, Mapping):
        raise _wrong("needs `cluster` and `task`")
    strange = set(cluster) - {"chief", "worker"}
    if strange:
        raise _wrong(f"may hold `chief` and `worker` only, and holds {sorted(strange)}")
    kind, index = task.get("type"), task.get("index")
    addresses = cluster.get(kind) if isinstance(kind, str) else None
    if not isinstance(addresses, list) or not isinstance(index, int):
        raise _wrong(f"names as this task {task}, which is not in its cluster")
    every = [address for one in cluster.values() for address in one]
    if not 0 <= index < len(addresses) or len(cluster.get("chief", ())) > 1:
        raise _wrong(f"names as this task {kind} {index} of {len(addresses)}")
    if not all(isinstance(address, str) and _ADDRESS.search(address) for address in every):
        raise _wrong(f"needs addresses of the form host:port, and holds {every}")
    if len(set(every)) < len(every):
        raise _wrong("names one address twice")
    return every, addresses[index]


def _wrong(what: str) -> ValueError:
    return ValueError(
        f"scale.strategy=multiworker: the environment variable {_TF_CONFIG} {what}. It names all "
        f"workers, and which of them this is, such as {_EXAMPLE}"
    )


def _tpu() -> Any:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, tf.errors.OpError) as err:
        reason = " ".join(str(err).split())[:200]
        raise ValueError(
            f"scale.strategy=tpu: no TPU was found ({reason}). Use none, mirrored or multiworker."
        ) from err


@contextlib.contextmanager
def scope(strategy: Any) -> Iterator[None]:
    """Where a strategy's models are made, loaded, calibrated and trained.

    Args:
        strategy: from `build`; with None there is nothing to be within.
    """
    if strategy is None:
        yield
        return
    with strategy.scope(), tf.variable_creator_scope(_of_first_replica):
        yield


def _of_first_replica(create: Any, **arguments: Any) -> Any:
    """Read BatchNorm's statistics from one replica: all of them hold the same.

    Keras asks for their mean over the replicas at every reading, which with several workers is an
    exchange that all must take part in, also where one of them only writes a file.
    """
    if arguments.get("synchronization") == tf.VariableSynchronization.ON_READ:
        arguments["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return create(**arguments)


def check_fits(recipe: Recipe, strategy: Any) -> None:
    """Refuse batches that the replicas cannot share evenly, before anything is written.

    Args:
        recipe: to be carried out.
        strategy: from `build`.

    Raises:
        ValueError: naming the setting.
    """
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    parts = replicas * recipe.scale.accumulate
    for section in ("teacher", "student"):
        size = getattr(recipe, section).batch_size
        check(
            size % parts == 0,
            f"{section}.batch_size",
            f"a multiple of {parts}: {replicas} replicas, each in {recipe.scale.accumulate} parts "
            "(scale.accumulate)",
            size,
        )
    workers = of(strategy).count
    for name, batches in (
        ("calibration.batches", recipe.calibration.batches),
        ("student.batchnorm_batches", recipe.student.batchnorm_batches),
    ):
        check(batches >= workers, name, f"at least 1 for each of {workers} workers", batches)


def batches(strategy: Any, data: Any, batch_size: int) -> Any:
    """Training batches, shared out: every replica gets its rows of the same global batch.

    Each worker makes the whole batch, and keeps its rows: the images are those that one worker
    would see, augmentation and mixing included.

    Args:
        strategy: from `build`.
        data: endless data set of (images, labels).
        batch_size: of its batches, a multiple of the replicas.

    Returns:
        The data set itself for None.
    """
    if strategy is None:
        return data
    replicas = strategy.num_replicas_in_sync

    def of_worker(context: tf.distribute.InputContext) -> Any:
        here = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * here

        def shares(*batch: Any) -> Any:
            def rows(values: Any) -> Any:
                shape = (replicas, batch_size // replicas, *values.shape[1:])
                return tf.reshape(values, shape)[first : first + here]

            return tf.data.Dataset.from_tensor_slices(tuple(rows(values) for values in batch))

        return data.flat_map(shares).prefetch(here)

    return strategy.distribute_datasets_from_function(of_worker)
