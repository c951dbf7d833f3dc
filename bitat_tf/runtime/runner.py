"""A flatbuffer ready to run on this machine."""

import importlib.metadata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bitat_tf._keras import quiet_import, tf
from bitat_tf.quiet import XNNPACK_NOTE, held_stderr
from bitat_tf.runtime.first_load import probe
from bitat_tf.runtime.schema import read, tensor_shape, type_name, uses_lce

# Printed by every interpreter, whatever the log level.
_DEPRECATION = r"\s*Warning: tf\.lite\.Interpreter is deprecated"


class Runner:
    """An interpreter for one flatbuffer, with the fastest kernels that this host has for it.

    A flatbuffer with LCE's operators runs on LCE's interpreter with the indirect BGEMM kernel
    (on x86 several times faster than the default one) and XNNPACK for the rest. Any other runs
    on TensorFlow's own TFLite with XNNPACK: its XNNPACK is newer than the one within LCE, and
    a float baseline should be the best there is.

    Args:
        flatbuffer: content of a `.tflite` file: one image in, one row out, each float32 or int8.
        threads: of the interpreter.

    Attributes:
        input_shape: of one image, (height, width, channels).
        output_shape: of one image's outputs, without the batch.
        input_type, output_type: `"FLOAT32"` or `"INT8"`.
        runtime: interpreter and kernels, for `results.LatencyRecord`.
        threads: as given.

    Raises:
        ValueError: when the flatbuffer is truncated, foreign, crashes the interpreter, or has
            other inputs and outputs.
    """

    def __init__(self, flatbuffer: bytes, *, threads: int = 1) -> None:
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise ValueError(f"`threads` must be an integer of at least 1. Received: {threads!r}")
        self.threads = threads
        self._source, self._target = _image_and_row(flatbuffer)
        self.input_shape, self.output_shape = self._source.shape, self._target.shape
        self.input_type, self.output_type = self._source.type, self._target.type
        probe(flatbuffer)
        make = _lce if uses_lce(flatbuffer) else _tflite
        with held_stderr(XNNPACK_NOTE):
            self._invoke, self.runtime = make(flatbuffer, threads)

    def invoke(self, image: np.ndarray) -> np.ndarray:
        """Outputs of one image, without any check: for `predict` and for a stopwatch.

        Args:
            image: of the flatbuffer's own type (`prepare`), (1, height, width, channels),
                C-contiguous.

        Returns:
            (1, *output_shape), of the flatbuffer's own type.
        """
        return self._invoke(image)

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Float images in the flatbuffer's own input type, C-contiguous.

        Args:
            images: float32 (n, height, width, channels), standardised.

        Returns:
            (n, height, width, channels) of the input's type: quantized by its scale and zero point
            where that is int8.
        """
        return np.ascontiguousarray(self._source.quantized(images))

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Outputs of images, one after the other.

        Args:
            images: float32, (n, height, width, channels), n >= 1, finite.

        Returns:
            (n, *output_shape), float32, whatever the flatbuffer's own types are.

        Raises:
            ValueError: on another type or shape, no image, or a value that is not finite.
        """
        self._check(images)
        images = self.prepare(images)
        rows = np.concatenate([self.invoke(images[i : i + 1]) for i in range(len(images))])
        return self._target.real(rows)

    def _check(self, images: np.ndarray) -> None:
        if not isinstance(images, np.ndarray) or images.dtype != np.float32:
            kind = getattr(images, "dtype", type(images).__name__)
            raise ValueError(f"`images` must be a float32 NumPy array. Received: {kind}")
        if images.shape[1:] != self.input_shape or not len(images):
            size = ", ".join(map(str, self.input_shape))
            raise ValueError(f"`images` must have shape (n, {size}). Received: {images.shape}")
        if not np.isfinite(images).all():
            raise ValueError("`images` must be finite. Received: NaN or infinite values")


@dataclass(frozen=True)
class _Port:
    """An input or output of a flatbuffer: real = scale * (stored - zero_point)."""

    shape: tuple[int, ...]
    type: str
    scale: float = 1.0
    zero_point: int = 0

    def quantized(self, values: np.ndarray) -> np.ndarray:
        if self.type == "FLOAT32":
            return values
        stored = np.round(values / self.scale) + self.zero_point
        return np.clip(stored, -128, 127).astype(np.int8)

    def real(self, stored: np.ndarray) -> np.ndarray:
        if self.type == "FLOAT32":
            return stored
        return ((stored.astype(np.int32) - self.zero_point) * self.scale).astype(np.float32)


def _image_and_row(flatbuffer: bytes) -> tuple[_Port, _Port]:
    """One image and its outputs."""
    graph = read(flatbuffer).subgraphs[0]
    ports = []
    for what, indices in (("input", graph.inputs), ("output", graph.outputs)):
        tensors = [graph.tensors[index] for index in indices]
        shape, kind = tensor_shape(tensors[0]), type_name(tensors[0])
        rank = (4,) if what == "input" else range(1, 8)
        known = kind == "FLOAT32" or (kind == "INT8" and _is_quantized(tensors[0]))
        if len(tensors) != 1 or len(shape) not in rank or shape[0] != 1 or not known:
            raise ValueError(
                f"The flatbuffer must have one float32 or int8 {what} with a batch of 1"
                f"{' image' if what == 'input' else ''}. "
                f"Received: {[(tensor_shape(t), type_name(t)) for t in tensors]}"
            )
        if kind == "INT8":
            quantization = tensors[0].quantization
            scale, zero = float(quantization.scale[0]), int(quantization.zeroPoint[0])
            ports.append(_Port(shape[1:], kind, scale, zero))
        else:
            ports.append(_Port(shape[1:], kind))
    return ports[0], ports[1]


def _is_quantized(tensor: Any) -> bool:
    """Whether the whole tensor has one scale and zero point."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or quantization.zeroPoint is None:
        return False
    return len(quantization.scale) == len(quantization.zeroPoint) == 1


def _lce(flatbuffer: bytes, threads: int) -> tuple[Callable[[Any], Any], str]:
    with quiet_import():
        from larq_compute_engine.tflite.python.interpreter import Interpreter
    interpreter = Interpreter(
        flatbuffer, num_threads=threads, use_indirect_bgemm=True, use_xnnpack=True
    ).interpreter
    version = importlib.metadata.version("larq-compute-engine")
    return lambda image: interpreter.predict([image])[0], (
        f"LCE {version}, indirect BGEMM + XNNPACK"
    )


def _tflite(flatbuffer: bytes, threads: int) -> tuple[Callable[[Any], Any], str]:
    with warnings.catch_warnings():
        # TF 2.21, to which this package is pinned, still has it.
        warnings.filterwarnings("ignore", message=_DEPRECATION, category=UserWarning)
        interpreter = tf.lite.Interpreter(model_content=flatbuffer, num_threads=threads)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]

    def invoke(image: Any) -> Any:
        interpreter.set_tensor(source, image)
        interpreter.invoke()
        return interpreter.get_tensor(target)

    return invoke, f"TFLite (TensorFlow {tf.__version__}), XNNPACK"
