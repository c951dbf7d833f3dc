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


def probe(flatbuffer: bytes, *, timeout_seconds: float = 60.0) -> None:
    """Verify a flatbuffer, then load it and infer once on zeros in a child process.

    Args:
        flatbuffer: content of a `.tflite` file.
        timeout_seconds: after which the child is ended.

    Raises:
        ValueError: when it is no whole flatbuffer, does not load or run, crashes the
            interpreter or takes too long.
    """
    runtime = "lce" if uses_lce(flatbuffer) else "tflite"
    try:
        child = subprocess.run(
            [sys.executable, str(_CHILD), runtime],
            input=flatbuffer,
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise ValueError(
            f"The flatbuffer did not finish one inference in {timeout_seconds:g} s. {REMEDY}"
        ) from err
    if child.returncode == 0:
        return
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
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
