"""The private directory on the phone: made, filled, used, and removed whatever happens.

Names on the phone are this module's own; the user's never get there.
"""

import contextlib
import re
import secrets
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from bitat_tf.bench.android.adb import Adb, Finished, quoted
from bitat_tf.bench.android.errors import DeviceLost, MeasurementError, StorageFull

_PARENT = "/data/local/tmp"
_OURS = re.compile(rf"{_PARENT}/bitat-[0-9a-f]{{16}}")
TOOL = "lce_benchmark_model"
# A phone on a loose cable comes back within seconds.
_RETURN_SECONDS = 15.0


class RemoteDirectory:
    """A directory of ours on the phone; see `remote_directory`."""

    def __init__(self, adb: Adb, path: str) -> None:
        if not _OURS.fullmatch(path):  # it will be removed with all that is in it
            raise ValueError(f"`path` must be {_PARENT}/bitat-(16 digits). Received: {path!r}")
        self.adb = adb
        self.path = path

    def make(self) -> None:
        """Make the directory, for the shell's user alone.

        Raises:
            StorageFull: when the phone has no room.
            MeasurementError: when it cannot be made for another reason.
        """
        done = self.adb.shell("mkdir", "-m", "700", self.path)
        if not done.status:
            return
        said = _said(done)
        if "No space left" in said:
            raise StorageFull(f"Device {self.adb.serial} is full: {said}. Free some space on it.")
        raise MeasurementError(f"Device {self.adb.serial} does not make {self.path}: {said}")

    def push_tool(self, local: Path) -> None:
        """Copy the benchmark tool, and make it executable."""
        self.adb.push(str(local), f"{self.path}/{TOOL}")
        done = self.adb.shell("chmod", "755", f"{self.path}/{TOOL}")
        if done.status:
            raise MeasurementError(
                f"Device {self.adb.serial} does not let the tool be executable: {_said(done)}"
            )

    def push_model(self, local: Path, name: str) -> None:
        """Copy a model under a name of ours, e.g. `"model0.tflite"`."""
        self.adb.push(str(local), f"{self.path}/{name}")

    def run_tool(
        self, arguments: tuple[str, ...], mask: str, *, what: str, timeout_seconds: float
    ) -> Finished:
        """Run the tool within the directory, bound to the mask's cores.

        Its process number is kept in a file while it runs, so that `remove` can end a tool that
        hangs or has lost its listener.
        """
        bound = ("taskset", mask) if mask else ()
        command = quoted(
            ("sh", "-c", 'echo $$ > pid && exec "$@"', "sh", *bound, f"./{TOOL}", *arguments)
        )
        script = (
            f"cd {quoted([self.path])} || exit 1\n{command}\nstatus=$?\nrm -f pid\n(exit $status)"
        )
        return self.adb.script(script, what=what, timeout_seconds=timeout_seconds)

    def remove(self) -> None:
        """End a tool that still runs, and remove the directory.

        Raises:
            MeasurementError: when that was not possible.
        """
        path = quoted([self.path])
        script = f"test -f {path}/pid && kill -9 $(cat {path}/pid)\nrm -rf {path}"
        try:
            done = self.adb.script(script, what="removing what was pushed")
        except DeviceLost:
            if not self.adb.wait(_RETURN_SECONDS):
                raise
            done = self.adb.script(script, what="removing what was pushed")
        if done.status:
            raise MeasurementError(f"Removing {self.path} failed: {_said(done)}")


@contextlib.contextmanager
def remote_directory(adb: Adb) -> Iterator[RemoteDirectory]:
    """A new private directory under /data/local/tmp, which is gone at the end of the block.

    Also after an exception and after Ctrl-C. Where the phone cannot be reached any more, the
    exception says what was left there.

    Raises:
        MeasurementError: when it cannot be made or removed.
    """
    remote = RemoteDirectory(adb, f"{_PARENT}/bitat-{secrets.token_hex(8)}")
    try:
        remote.make()
        yield remote
    except BaseException as err:
        with _uninterrupted():
            _remove_after(err, remote)
        raise
    with _uninterrupted():
        remote.remove()


def _remove_after(err: BaseException, remote: RemoteDirectory) -> None:
    """Remove the directory; where that fails too, raise both errors as one."""
    try:
        remote.remove()
    except MeasurementError as failure:
        serial = remote.adb.serial
        left = (
            f"{remote.path} could not be removed from device {serial}; when it is back: "
            f"adb -s {serial} shell rm -rf {remote.path}"
        )
        if isinstance(err, MeasurementError):
            raise type(err)(f"{err} {left}") from err
        raise MeasurementError(f"{failure} {left}") from err


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C in the block, which has time limits of its own: it is already cleaning up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets it
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _said(done: Finished) -> str:
    lines = [line.strip() for line in (done.stderr + "\n" + done.stdout).splitlines()]
    return next((line for line in lines if line), f"status {done.status}")
