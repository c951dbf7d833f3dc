"""Inferences timed in a process of their own, bound to a core.

The parent has TensorFlow's threads and a heap of its own; a child has an interpreter and NumPy.
It waits on a pipe between requests, so several children can share a core and be timed in turn.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType
from typing import Any

from bitat_tf.runtime.schema import REMEDY

_CHILD = Path(__file__).with_name("timing_child.py")
_PATIENCE_SECONDS = 600.0  # for one answer; the longest is a turn of a slow network
_END_SECONDS = 10.0


class Stopwatch:
    """A child process that times flatbuffers; a context manager, which ends it.

    The flatbuffers must have passed `probe`: a child that crashes ends the measurement.

    Args:
        runtime: `"lce"` or `"tflite"`, with the kernels that `Runner` takes.
        threads: of the interpreter.
        cores: to stay on; empty: any.
    """

    def __init__(self, runtime: str, *, threads: int = 1, cores: Sequence[int] = ()) -> None:
        self._connection, other = Pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - `close` does it
        command = [sys.executable, str(_CHILD), runtime, str(threads), str(other.fileno())]
        with other:
            self._process = subprocess.Popen(
                [*command, ",".join(map(str, cores))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[other.fileno()],
            )

    @property
    def process_id(self) -> int:
        """The child's process id."""
        return self._process.pid

    def __enter__(self) -> "Stopwatch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child, gently at first."""
        self._connection.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def load(self, *flatbuffers: bytes) -> None:
        """Take these in place of those before; each gets noise as its input.

        Args:
            *flatbuffers: contents of `.tflite` files.

        Raises:
            ValueError: when the interpreter refuses one, or crashes.
        """
        self._ask("load", list(flatbuffers))

    def run(self, count: int, index: int = 0) -> list[float]:
        """Time inferences of one of the flatbuffers.

        Input and output are copied as `Runner.invoke` does it.

        Args:
            count: of inferences.
            index: of the flatbuffer among those loaded.

        Returns:
            Milliseconds of each inference.

        Raises:
            ValueError: when the interpreter refuses, or crashes.
        """
        return [nanoseconds / 1e6 for nanoseconds in self._ask("run", index, count)]

    def memory_mb(self) -> float | None:
        """MB (2**20 bytes) by which the child grew at most since before the first `load`.

        None where the system does not tell (it does on Linux).
        """
        return self._ask("memory")

    def _ask(self, *request: Any) -> Any:
        try:
            self._connection.send(request)
            if not self._connection.poll(_PATIENCE_SECONDS):
                self._process.kill()
                raise ValueError(f"No inference was finished in {_PATIENCE_SECONDS:g} s. {REMEDY}")
            done, answer = self._connection.recv()
        except (EOFError, ConnectionError) as err:
            raise ValueError(f"The interpreter ended: {self._last_words()}. {REMEDY}") from err
        if not done:
            raise ValueError(f"The interpreter refuses the flatbuffer: {answer}. {REMEDY}")
        return answer

    def _last_words(self) -> str:
        status = self._process.wait()
        if status < 0:
            return signal.Signals(-status).name
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), f"status {status}")


def spare_cores(count: int) -> tuple[int, ...]:
    """The last `count` cores that this process may run on; empty where there are not so many.

    The last, since systems tend to put their own work on the first. Empty also where a process
    cannot be bound to a core (it can on Linux).

    Args:
        count: of cores.

    Returns:
        Their indices, ascending.
    """
    if not hasattr(os, "sched_setaffinity"):
        return ()
    allowed = sorted(os.sched_getaffinity(0))
    return tuple(allowed[-count:]) if count <= len(allowed) else ()
