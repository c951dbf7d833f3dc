"""SIGTERM, which schedulers send before they kill: obeyed at once, or at the end of a step.

Within `obeyed` the signal raises `Terminated`, as Ctrl-C raises KeyboardInterrupt. Within
`postponed` it only leaves a request, for a training that finishes its step and keeps its state
first. Outside of both it does what it does by default.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

#: What a shell reports of a process that SIGTERM ended.
EXIT_STATUS = 128 + signal.SIGTERM


class Terminated(BaseException):
    """SIGTERM was obeyed. No failure, so no handler of `Exception` takes it."""


class _Request:
    """A process has one handler of a signal, and so one of these."""

    postponed = False
    made = False


def _on_signal(number: int, frame: FrameType | None) -> None:
    if not _Request.postponed:
        raise Terminated("stopped by SIGTERM")
    _Request.made = True


@contextlib.contextmanager
def obeyed() -> Iterator[None]:
    """Within, SIGTERM raises `Terminated`; in another than the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets the main thread alone handle signals
        return
    before = signal.signal(signal.SIGTERM, _on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def postponed() -> Iterator[Callable[[], bool]]:
    """Within, what is given tells whether SIGTERM came; at the latest the end obeys it.

    Raises:
        Terminated: at the end, when the signal came and nobody raised anything.
    """
    _Request.postponed, _Request.made = True, False
    try:
        yield lambda: _Request.made
    finally:
        _Request.postponed = False
    if _Request.made:
        raise Terminated("stopped by SIGTERM")
