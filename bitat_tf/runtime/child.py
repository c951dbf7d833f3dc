"""What `probe` runs in a child process: load the flatbuffer on stdin and infer once on zeros.

A script, and not to be imported. Argument: `lce` or `tflite`.
"""

import sys

import numpy as np
from native import opener

# A network for a phone never needs it; a corrupt shape asks for it at once.
_MEMORY_LIMIT = 4 << 30


def _limit_memory() -> None:
    if sys.platform == "linux":  # elsewhere the limit does not exist, or breaks loading
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, _MEMORY_LIMIT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> int:
    """Exit status 0 when the flatbuffer loads and runs, 1 with the reason on stderr if not."""
    flatbuffer = sys.stdin.buffer.read()
    load = opener(sys.argv[1])
    _limit_memory()
    try:
        network = load(flatbuffer, 1)
        network.predict([np.zeros(shape, dtype) for shape, dtype in network.inputs])
    except Exception as err:  # whatever it is, it goes to the parent as the reason
        print(f"{type(err).__name__}: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
