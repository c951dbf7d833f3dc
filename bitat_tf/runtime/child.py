"""What `probe` runs in a child process: load the flatbuffer on stdin and infer once on zeros.

A script, and not to be imported. Arguments: `lce` or `tflite`, and the seconds that loading and
inferring may take. They count from when the interpreter is there to load it: how long a busy
machine takes to start a process says nothing about the file.
"""

import signal
import sys
from pathlib import Path

import numpy as np
from native import opener

# What the process may grow by. A corrupt shape asks for more at once; a network needs its
# weights twice (XNNPACK and the indirect kernel pack them anew) and, on one image, activations
# of some ten megabytes.
_SPARE_MEMORY = 1 << 30
_MEMORY_PER_BYTE = 4


def _limit_memory(file_bytes: int) -> None:
    if sys.platform == "linux":  # elsewhere the limit does not exist, or breaks loading
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + _SPARE_MEMORY + _MEMORY_PER_BYTE * file_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: float) -> None:
    """Have the system end the process then, wherever native code hangs."""
    if hasattr(signal, "setitimer"):  # where it is missing, the parent waits no longer
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> int:
    """Exit status 0 when the flatbuffer loads and runs, 1 with the reason on stderr if not."""
    flatbuffer = sys.stdin.buffer.read()
    load = opener(sys.argv[1])
    _limit_memory(len(flatbuffer))
    _limit_time(float(sys.argv[2]))
    try:
        network = load(flatbuffer, 1)
        network.predict([np.zeros(shape, dtype) for shape, dtype in network.inputs])
    except Exception as err:  # whatever it is, it goes to the parent as the reason
        print(f"{type(err).__name__}: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
