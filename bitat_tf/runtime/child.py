"""What `probe` runs in a child process: load the flatbuffer on stdin and infer once on zeros.

A script, and not to be imported: importing the package would load TensorFlow (seconds), while
both interpreters are shared objects that need NumPy only (0.2 s). Argument: `lce` or `tflite`.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np

# A network for a phone never needs it; a corrupt shape asks for it at once.
_MEMORY_LIMIT = 4 << 30


def _limit_memory() -> None:
    if sys.platform == "linux":  # elsewhere the limit does not exist, or breaks loading
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, _MEMORY_LIMIT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _native_module(package: str, folder: str, name: str) -> Any:
    """A package's shared object, without running the package's `__init__`."""
    found = importlib.util.find_spec(package)
    (root,) = found.submodule_search_locations  # type: ignore[union-attr, misc]
    (path,) = Path(root, folder).glob(f"{name}*.so")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def _run_lce(flatbuffer: bytes, native: Any) -> None:
    # threads, reference kernel, indirect kernel, XNNPACK: as `Runner` has them.
    interpreter = native.LiteInterpreter(flatbuffer, 1, False, True, True)
    shapes_types = zip(interpreter.input_shapes, interpreter.input_types, strict=True)
    interpreter.predict([np.zeros(shape, dtype) for shape, dtype in shapes_types])


def _run_tflite(flatbuffer: bytes, native: Any) -> None:
    # As `tf.lite.Interpreter` calls it by default: built-in operators, nothing registered, all
    # tensors not preserved, delegates clustered, one thread, stable delegate features.
    interpreter = native.CreateWrapperFromBuffer(flatbuffer, 1, [], [], False, False, 1, False)
    interpreter.AllocateTensors()
    for index in map(int, interpreter.InputIndices()):
        shape, dtype = interpreter.TensorSize(index, 0), interpreter.TensorType(index, 0)
        interpreter.SetTensor(index, np.zeros(shape, dtype))
    interpreter.Invoke()


_RUNTIMES = {
    "lce": (_run_lce, ("larq_compute_engine", "tflite/python", "interpreter_wrapper_lite")),
    "tflite": (
        _run_tflite,
        ("tensorflow", "lite/python", "_pywrap_tensorflow_interpreter_wrapper"),
    ),
}


def main() -> int:
    """Exit status 0 when the flatbuffer loads and runs, 1 with the reason on stderr if not."""
    run, where = _RUNTIMES[sys.argv[1]]
    flatbuffer = sys.stdin.buffer.read()
    native = _native_module(*where)
    _limit_memory()
    try:
        run(flatbuffer, native)
    except Exception as err:  # whatever it is, it goes to the parent as the reason
        print(f"{type(err).__name__}: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
