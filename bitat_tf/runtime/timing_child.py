"""What `Stopwatch` runs in a child process: load flatbuffers, and time inferences of them.

A script, and not to be imported. Arguments: `lce` or `tflite`, threads, the descriptor of the
connection, and the cores to stay on (separated by commas; empty: any). It answers every request
of the parent until the connection is closed.
"""

import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from native import Network, opener

_SEED = 0
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _memory_kib(key: str) -> int | None:
    """A line of the kernel's account of this process; None where there is none.

    Not `getrusage`: its peak is inherited from the parent, which is far larger.
    """
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return None


def _forget_peak() -> None:
    """Let the peak start anew from what is in use now; Linux only."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")


def _noise(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Kernels may take shortcuts for zeros."""
    random = np.random.default_rng(_SEED)
    if dtype.kind == "f":
        return random.normal(size=shape).astype(dtype)
    if dtype.kind == "i":
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    raise ValueError(f"no noise of type {dtype}")


class _Child:
    """The requests, a method for each."""

    def __init__(self, runtime: str, threads: int) -> None:
        self._open = opener(runtime)
        self._threads = threads
        self._networks: list[tuple[Network, list[np.ndarray]]] = []
        self._before_kib = _memory_kib("VmRSS")
        _forget_peak()

    def load(self, flatbuffers: list[bytes]) -> None:
        """Take these in place of those before, each with its noise."""
        self._networks = []
        for flatbuffer in flatbuffers:
            network = self._open(flatbuffer, self._threads)
            self._networks.append((network, [_noise(*given) for given in network.inputs]))

    def run(self, index: int, count: int) -> list[int]:
        """Nanoseconds of each of `count` inferences."""
        network, arrays = self._networks[index]
        times = []
        for _ in range(count):
            start = time.perf_counter_ns()
            network.predict(arrays)
            times.append(time.perf_counter_ns() - start)
        return times

    def memory(self) -> float | None:
        """MB (2**20 bytes) by which the process grew at most since before the first load."""
        peak = _memory_kib("VmHWM")
        if peak is None or self._before_kib is None:
            return None
        return (peak - self._before_kib) / 1024


def _answer(child: _Child, request: tuple[Any, ...]) -> tuple[bool, Any]:
    name, *arguments = request
    try:
        return True, getattr(child, name)(*arguments)
    except Exception as err:  # whatever it is, it goes to the parent as the reason
        return False, f"{type(err).__name__}: {err}"


def main() -> int:
    """Serve until the parent closes the connection."""
    runtime, threads, descriptor, cores = sys.argv[1:]
    if cores:
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    with Connection(int(descriptor)) as connection:
        child = _Child(runtime, int(threads))
        while True:
            try:
                request = connection.recv()
            except EOFError:
                return 0
            connection.send(_answer(child, request))


if __name__ == "__main__":
    sys.exit(main())
