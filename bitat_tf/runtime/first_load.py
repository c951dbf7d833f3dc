"""The first load of a flatbuffer, in a child process that may crash in our place.

Why `schema.verify` is not enough: it proves offsets and indices, but an interpreter also
trusts shapes, options and the order of operators.
"""

import signal
import subprocess
import sys
from pathlib import Path

from bitat_tf.runtime.schema import REMEDY, uses_lce

_CHILD = Path(__file__).with_name("child.py")
_DIAGNOSTIC = "ERROR: "

# For loading and one inference. With a process's start it keeps the error of a damaged file
# within ten seconds, and networks for phones take a hundredth of it (docs: damaged files).
_LIMIT_SECONDS = 6.0
# A large file is the longer in loading: its weights are read, and packed anew. One of 100 MB took
# 3 s where other work left the child a sixth of a core.
_SECONDS_PER_BYTE = 1 / (16 << 20)
# For starting Python, NumPy and the interpreter, which no file can make longer.
_START_SECONDS = 60.0


def probe(flatbuffer: bytes, *, timeout_seconds: float | None = None) -> None:
    """Verify a flatbuffer, then load it and infer once on zeros in a child process.

    Args:
        flatbuffer: content of a `.tflite` file.
        timeout_seconds: after which the child is ended, from when it begins to load. None is
            6 s, and one more for each 16 MiB.

    Raises:
        ValueError: when it is no whole flatbuffer, does not load or run, crashes the
            interpreter, takes too long, or asks for far more memory than its size explains.
    """
    if timeout_seconds is None:
        timeout_seconds = _LIMIT_SECONDS + _SECONDS_PER_BYTE * len(flatbuffer)
    runtime = "lce" if uses_lce(flatbuffer) else "tflite"
    slow = f"The flatbuffer did not finish one inference in {timeout_seconds:g} s. {REMEDY}"
    try:
        child = subprocess.run(
            [sys.executable, str(_CHILD), runtime, str(timeout_seconds)],
            input=flatbuffer,
            capture_output=True,
            timeout=_START_SECONDS + timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise ValueError(slow) from err
    if child.returncode == 0:
        return
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        if name == "SIGALRM":
            raise ValueError(slow)
        raise ValueError(f"The flatbuffer crashes the interpreter ({name}). {REMEDY}")
    reason = _reason(child.stderr.decode(errors="replace"))
    raise ValueError(
        f"The interpreter refuses the flatbuffer: {reason}. Convert the model again, without the "
        "operation if it names one."
    )


def _reason(stderr: str) -> str:
    """The interpreter's diagnostics on one line, or else the exception it raised."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    diagnostics = [line[len(_DIAGNOSTIC) :] for line in lines if line.startswith(_DIAGNOSTIC)]
    reasons = dict.fromkeys(line.rstrip(".") for line in diagnostics or lines[-1:])
    return "; ".join(reasons) or "no reason given"
