"""Latency on this machine, which says nothing about phones.

Only ratios within one run mean something: models compared are timed in turn, A B A B, so that
whatever else the machine does hits all of them alike, and quantiles stand for the mean.
"""

import time
from collections.abc import Mapping

import numpy as np

from bitat_tf.machine import processor
from bitat_tf.results import LatencyRecord
from bitat_tf.runtime import Runner

_SEED = 0


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

    Raises:
        ValueError: on a number out of range, and where `runtime.Runner` refuses the flatbuffer.
    """
    options = {"warmup": warmup, "repeats": repeats, "threads": threads}
    return compare({name: flatbuffer}, **options)[0]


def compare(
    flatbuffers: Mapping[str, bytes], *, warmup: int = 5, repeats: int = 50, threads: int = 1
) -> tuple[LatencyRecord, ...]:
    """Time several flatbuffers in turn, within one run, each on a batch of 1.

    Args:
        flatbuffers: name -> content of a `.tflite` file.
        warmup: runs of each that are not counted.
        repeats: counted runs of each.
        threads: of each interpreter.

    Returns:
        A record for each, in the given order.

    Raises:
        ValueError: on a number out of range, no flatbuffer, and where `runtime.Runner` refuses
            one.
    """
    _check_count("warmup", warmup, 0)
    _check_count("repeats", repeats, 1)
    if not flatbuffers:
        raise ValueError("`flatbuffers` must hold at least one. Received: none")
    runners = {name: Runner(content, threads=threads) for name, content in flatbuffers.items()}
    images = {name: _image(runner) for name, runner in runners.items()}
    times_ms: dict[str, list[float]] = {name: [] for name in runners}
    for repeat in range(warmup + repeats):
        for name, runner in runners.items():
            start = time.perf_counter_ns()
            runner.invoke(images[name])
            elapsed_ms = (time.perf_counter_ns() - start) / 1e6
            if repeat >= warmup:
                times_ms[name].append(elapsed_ms)
    return tuple(_record(name, runners[name], times) for name, times in times_ms.items())


def device_name() -> str:
    """This machine's processor, after the word host."""
    return f"host: {processor()}"


def _image(runner: Runner) -> np.ndarray:
    """Noise: kernels may take shortcuts for zeros."""
    image = np.random.default_rng(_SEED).normal(size=(1, *runner.input_shape))
    return runner.prepare(image.astype(np.float32))


def _record(name: str, runner: Runner, times_ms: list[float]) -> LatencyRecord:
    p10, median, p90 = (float(q) for q in np.quantile(times_ms, (0.1, 0.5, 0.9)))
    return LatencyRecord(
        model=name,
        device=device_name(),
        runtime=runner.runtime,
        threads=runner.threads,
        repeats=len(times_ms),
        median_ms=median,
        p10_ms=p10,
        p90_ms=p90,
    )


def _check_count(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}. Received: {value!r}")
