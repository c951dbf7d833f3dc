"""The two interpreters as the child processes use them: shared objects that need NumPy only.

For scripts that run in a process of their own and import it as `native`. Importing the package
would load TensorFlow, which takes seconds and hundreds of megabytes; this takes 0.2 s.
"""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np


class Network:
    """A loaded flatbuffer, which it keeps: the interpreters read it where it lies.

    Attributes:
        inputs: shape and dtype of each input.
        predict: arrays of these -> the first output.
    """

    def __init__(
        self,
        flatbuffer: bytes,
        inputs: Sequence[tuple[tuple[int, ...], Any]],
        predict: Callable[[list[np.ndarray]], np.ndarray],
    ) -> None:
        self._flatbuffer = flatbuffer
        self.inputs = [(tuple(map(int, shape)), np.dtype(dtype)) for shape, dtype in inputs]
        self.predict = predict


def open_lce(module: Any, flatbuffer: bytes, threads: int) -> Network:
    """A flatbuffer on LCE's interpreter, with the kernels that `runner.Runner` takes."""
    # threads, reference kernel, indirect kernel, XNNPACK
    interpreter = module.LiteInterpreter(flatbuffer, threads, False, True, True)
    inputs = list(zip(interpreter.input_shapes, interpreter.input_types, strict=True))
    return Network(flatbuffer, inputs, lambda arrays: interpreter.predict(arrays)[0])


def open_tflite(module: Any, flatbuffer: bytes, threads: int) -> Network:
    """A flatbuffer on TensorFlow's TFLite, as `tf.lite.Interpreter` has it by default."""
    # built-in operators with XNNPACK, nothing registered, all tensors not preserved, delegates
    # clustered, threads, stable delegate features
    wrapper = module.CreateWrapperFromBuffer(flatbuffer, 1, [], [], False, False, threads, False)
    wrapper.AllocateTensors()
    indices = [int(index) for index in wrapper.InputIndices()]
    output = int(wrapper.OutputIndices()[0])

    def predict(arrays: list[np.ndarray]) -> np.ndarray:
        for index, array in zip(indices, arrays, strict=True):
            wrapper.SetTensor(index, array)
        wrapper.Invoke()
        return wrapper.GetTensor(output, 0)

    inputs = [(wrapper.TensorSize(index, 0), wrapper.TensorType(index, 0)) for index in indices]
    return Network(flatbuffer, inputs, predict)


_RUNTIMES = {
    "lce": (open_lce, ("larq_compute_engine", "tflite/python", "interpreter_wrapper_lite")),
    "tflite": (
        open_tflite,
        ("tensorflow", "lite/python", "_pywrap_tensorflow_interpreter_wrapper"),
    ),
}


def opener(runtime: str) -> Callable[[bytes, int], Network]:
    """Load the shared object of `"lce"` or `"tflite"`; returns (flatbuffer, threads) -> network."""
    make, module = _RUNTIMES[runtime][0], shared_object(runtime)
    return lambda flatbuffer, threads: make(module, flatbuffer, threads)


def shared_object(runtime: str) -> Any:
    """The interpreter's own module of `"lce"` or `"tflite"`, without the package around it."""
    _, (package, folder, name) = _RUNTIMES[runtime]
    found = importlib.util.find_spec(package)
    (root,) = found.submodule_search_locations  # type: ignore[union-attr, misc]
    (path,) = Path(root, folder).glob(f"{name}*.so")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module
