"""A thin client of the `adb` command: every call has a time limit, every argument is quoted.

`adb shell` hands one string to a shell on the phone, so a word of it is always quoted by
`quoted`. It reports no exit status on phones before Android 7; so each script ends by printing
its own, and where that line is missing the connection was lost.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from bitat_tf.bench.android.errors import (
    DeviceError,
    DeviceLost,
    MeasurementError,
    StorageFull,
    TimedOut,
)

_STATUS = "bitat-status:"
_END = re.compile(rf"\n{_STATUS}([0-9]{{1,3}})\n\Z")
_SHORT_SECONDS = 30.0
# Some MiB over USB 2, or a slow wireless connection.
_PUSH_SECONDS = 300.0


@dataclass(frozen=True)
class Attached:
    """A line of `adb devices`: serial, and `device`, `offline`, `unauthorized` or another state."""

    serial: str
    state: str


@dataclass(frozen=True)
class Finished:
    """A command that ran on the phone."""

    status: int
    stdout: str
    stderr: str


def quoted(arguments: Sequence[str]) -> str:
    """Arguments as one command line of which a shell makes the same arguments again."""
    return " ".join(shlex.quote(argument) for argument in arguments)


def parse_devices(text: str) -> tuple[Attached, ...]:
    """The phones that `adb devices` lists."""
    attached = []
    _, _, listed = text.replace("\r\n", "\n").partition("List of devices attached\n")
    for line in listed.splitlines():
        serial, tab, rest = line.partition("\t")
        if tab and serial:
            # "no permissions (user ...; see [...])" explains itself; only the state counts.
            state = "no permissions" if rest.startswith("no permissions") else rest.strip()
            attached.append(Attached(serial, state))
    return tuple(attached)


def choose(attached: Sequence[Attached], serial: str | None) -> str:
    """The serial of the phone to use.

    Args:
        attached: all that `adb devices` lists.
        serial: the one that is asked for; None takes the only one that is there.

    Raises:
        DeviceError: when there is none, several, or it cannot be used.
    """
    if not attached:
        raise DeviceError(
            "No device is attached. Connect the phone by USB and switch USB debugging on in its "
            "developer options, or use `adb connect ADDRESS`; `adb devices` must list it."
        )
    names = ", ".join(f"{a.serial} ({a.state})" for a in attached)
    if serial is not None:
        found = [a for a in attached if a.serial == serial]
        if not found:
            raise DeviceError(f"No device has the serial {serial!r}. Attached: {names}.")
        (one,) = found
    else:
        ready = [a for a in attached if a.state == "device"]
        if len(ready) > 1:
            raise DeviceError(f"Several devices are attached: {names}. Choose one with --serial.")
        one = ready[0] if ready else attached[0]
    if one.state != "device":
        raise DeviceError(f"Device {one.serial} {_remedy(one.state)}")
    return one.serial


def _remedy(state: str) -> str:
    known = {
        "unauthorized": "has not authorised this computer (unauthorized). Unlock its screen and "
        "accept the question about USB debugging.",
        "offline": "does not answer (offline). Unplug it and plug it in again, or restart "
        "`adb kill-server`.",
        "no permissions": "may not be opened by this user (no permissions). Install the udev "
        "rules of Android devices, e.g. Debian's android-sdk-platform-tools-common.",
    }
    return known.get(state, f"is in the state {state!r}, not ready. Start Android on it.")


class Adb:
    """The `adb` command, and one phone.

    Args:
        executable: name or path of `adb`.
        serial: of the phone; "" before one is chosen.

    Raises:
        DeviceError: when there is no such command.
    """

    def __init__(self, executable: str = "adb", serial: str = "") -> None:
        path = shutil.which(executable)
        if path is None:
            raise DeviceError(
                f"There is no `{executable}` command. Install Debian's or Ubuntu's package adb, or "
                "the Android SDK's platform tools, and put it on the PATH."
            )
        self.executable = path
        self.serial = serial

    def devices(self) -> tuple[Attached, ...]:
        """All phones that the adb server knows; starts the server where none runs."""
        try:
            done = self._run(["devices"], _SHORT_SECONDS)
        except subprocess.TimeoutExpired as err:
            raise TimedOut(f"`adb devices` did not end in {_SHORT_SECONDS:g} s.") from err
        if done.returncode:
            raise MeasurementError(f"`adb devices` failed: {_reason(done)}")
        return parse_devices(done.stdout)

    def with_serial(self, serial: str) -> "Adb":
        """The same command for one phone."""
        return Adb(self.executable, serial)

    def shell(self, *arguments: str) -> Finished:
        """Run one command with its arguments on the phone, whatever its exit status.

        Raises:
            DeviceLost: when the connection broke.
            TimedOut: when it did not end in time.
        """
        return self.script(quoted(arguments), what=arguments[0])

    def script(self, text: str, *, what: str, timeout_seconds: float = _SHORT_SECONDS) -> Finished:
        """Run a shell script on the phone; see `shell`.

        Args:
            text: of the script; foreign words in it must be `quoted`.
            what: it is, for messages.
            timeout_seconds: after which the client is ended.
        """
        script = f"{text}\nbitat_status=$?\necho\necho {_STATUS}$bitat_status"
        try:
            done = self._run(["-s", self.serial, "shell", script], timeout_seconds)
        except subprocess.TimeoutExpired as err:
            raise TimedOut(
                f"Device {self.serial} did not finish {what} in {timeout_seconds:g} s."
            ) from err
        stdout = done.stdout.replace("\r\n", "\n")
        end = _END.search(stdout)
        if end is None:
            raise DeviceLost(
                f"The connection to device {self.serial} was lost during {what} "
                f"({_reason(done)}). Check cable and battery, and start again."
            )
        return Finished(int(end[1]), stdout[: end.start()], done.stderr)

    def push(self, local: str, remote: str) -> None:
        """Copy a file to the phone.

        Raises:
            StorageFull: when it has no room.
            DeviceLost: when the file did not get there for another reason.
        """
        try:
            done = self._run(["-s", self.serial, "push", local, remote], _PUSH_SECONDS)
        except subprocess.TimeoutExpired as err:
            raise DeviceLost(
                f"Copying to device {self.serial} did not end in {_PUSH_SECONDS:g} s."
            ) from err
        if done.returncode == 0:
            return
        reason = _reason(done, done.stderr + done.stdout)  # older clients say it on the latter
        if "No space left" in reason:
            raise StorageFull(
                f"Device {self.serial} is full: {reason}. Free some space on its /data."
            )
        raise DeviceLost(f"Copying to device {self.serial} failed: {reason}")

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until the phone is there; whether it is."""
        try:
            done = self._run(["-s", self.serial, "wait-for-device"], timeout_seconds)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def _run(
        self, arguments: Sequence[str], timeout_seconds: float
    ) -> subprocess.CompletedProcess[str]:
        # In a session of its own: Ctrl-C must stop this program, and not the adb server, nor the
        # client that has still to clean up.
        return subprocess.run(
            [self.executable, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_seconds,
            check=False,
            start_new_session=True,
        )


def _reason(done: subprocess.CompletedProcess[str], said: str | None = None) -> str:
    """What `adb` said is wrong, on one line: on standard error, or in `said`."""
    text = done.stderr if said is None else said
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    if errors:
        return errors[0]
    return lines[-1] if lines else f"adb ended with status {done.returncode} and no reason"
