"""Latency on this machine, which says nothing about phones.

Only ratios within one run mean something. So each model has a process of its own, all are bound
to the same core, and they are timed in turn, A B A B: whatever else the machine does hits all of
them alike. Quantiles stand for the mean.
"""

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np

from bitat_tf.machine import processor
from bitat_tf.results import LatencyRecord
from bitat_tf.runtime import Runner, Stopwatch, spare_cores, uses_lce

# A turn begins with one inference that is not counted: the others have emptied the caches.
_TURN = 5


def measure(
    flatbuffer: bytes,
    *,
    name: str = "model",
    warmup: int = 5,
    repeats: int = 50,
    threads: int = 1,
) -> LatencyRecord:
    """Time one flatbuffer on a batch of 1.

    Args:
        flatbuffer: content of a `.tflite` file.
        name: of the model in the record.
        warmup: runs that are not counted.
        repeats: counted runs.
        threads: of the interpreter.

    Returns:
        Median and 10 and 90 % quantiles in milliseconds, growth of memory in MiB. Of this host:
        says nothing about phones.

    Raises:
        ValueError: on a number out of range, and where `runtime.Runner` refuses the flatbuffer.
    """
    options = {"warmup": warmup, "repeats": repeats, "threads": threads}
    return compare({name: flatbuffer}, **options)[0]


def compare(
    flatbuffers: Mapping[str, bytes], *, warmup: int = 5, repeats: int = 50, threads: int = 1
) -> tuple[LatencyRecord, ...]:
    """Time several flatbuffers in turn, within one run, each on a batch of 1.

    A turn is five counted inferences of one model, after one that is not counted.

    Args:
        flatbuffers: name -> content of a `.tflite` file.
        warmup: runs of each that are not counted, before the first turn.
        repeats: counted runs of each.
        threads: of each interpreter; the processes are bound to as many cores, if there are.

    Returns:
        A record for each, in the given order.

    Raises:
        ValueError: on a number out of range, no flatbuffer, and where `runtime.Runner` refuses
            one.
    """
    check_count("warmup", warmup, 0)
    check_count("repeats", repeats, 1)
    if not flatbuffers:
        raise ValueError("`flatbuffers` must hold at least one. Received: none")
    kernels = {n: Runner(content, threads=threads).runtime for n, content in flatbuffers.items()}
    cores = spare_cores(threads)
    with contextlib.ExitStack() as stack:
        watches = {
            name: stack.enter_context(watch(content, threads, cores))
            for name, content in flatbuffers.items()
        }
        times_ms = _in_turn(watches, warmup, repeats)
        return tuple(
            _record(name, kernels[name], threads, cores, times_ms[name], stopwatch.memory_mb())
            for name, stopwatch in watches.items()
        )


def watch(flatbuffer: bytes, threads: int, cores: Sequence[int]) -> Stopwatch:
    """A stopwatch with one flatbuffer loaded, on the interpreter that `runtime.Runner` takes.

    Args:
        flatbuffer: content of a `.tflite` file.
        threads: of the interpreter.
        cores: that its process is bound to; empty binds it to none.

    Returns:
        The stopwatch, to be closed by the caller.

    Raises:
        ValueError: where the interpreter refuses the flatbuffer, or crashes.
    """
    stopwatch = Stopwatch(interpreter(flatbuffer), threads=threads, cores=cores)
    try:
        stopwatch.load(flatbuffer)
    except BaseException:
        stopwatch.close()
        raise
    return stopwatch


def interpreter(flatbuffer: bytes) -> str:
    """Which interpreter a flatbuffer needs: LCE's for its operators, else TensorFlow's.

    Args:
        flatbuffer: content of a `.tflite` file.

    Returns:
        `"lce"` or `"tflite"`.

    Raises:
        ValueError: when it is not a whole TFLite flatbuffer.
    """
    return "lce" if uses_lce(flatbuffer) else "tflite"


def device_name() -> str:
    """This machine's processor, after the word host."""
    return f"host: {processor()}"


def check_count(name: str, value: int, least: int) -> None:
    """See that a count is an integer of at least `least`.

    Args:
        name: of the argument, for the message.
        value: what was given for it.
        least: smallest value allowed.

    Raises:
        ValueError: when it is not an integer, or smaller.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}. Received: {value!r}")


def _in_turn(watches: Mapping[str, Stopwatch], warmup: int, repeats: int) -> dict[str, list[float]]:
    times_ms: dict[str, list[float]] = {name: [] for name in watches}
    for stopwatch in watches.values():
        stopwatch.run(warmup)
    for done in range(0, repeats, _TURN):
        for name, stopwatch in watches.items():
            times_ms[name] += stopwatch.run(1 + min(_TURN, repeats - done))[1:]
    return times_ms


def _record(
    name: str,
    runtime: str,
    threads: int,
    cores: Sequence[int],
    times_ms: Sequence[float],
    memory_mb: float | None,
) -> LatencyRecord:
    p10, median, p90 = (float(q) for q in np.quantile(times_ms, (0.1, 0.5, 0.9)))
    return LatencyRecord(
        model=name,
        device=device_name(),
        runtime=runtime,
        threads=threads,
        repeats=len(times_ms),
        median_ms=median,
        p10_ms=p10,
        p90_ms=p90,
        cores=",".join(map(str, cores)),
        memory_mb=memory_mb,
    )
