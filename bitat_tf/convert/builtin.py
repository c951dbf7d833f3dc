"""Float models as ordinary TFLite flatbuffers, in float32 or int8: a binary model's rivals.

Both are folded as the binary model is, so that a rival has every advantage that it has. int8 is
what TFLite's users get without training: full-integer quantization after training, with one
scale per output channel of a kernel and ranges of activations from calibration images. What it
costs in accuracy is to be measured (`experiment.Run.score`), not assumed. PReLU, which is slow in
int8, is written as faster operators (`prelu`).
"""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from bitat_tf._keras import tf
from bitat_tf.convert.ends import check_images, int8_operators
from bitat_tf.convert.export import ConversionError, Ends, check_plain, convert_plain
from bitat_tf.convert.fold import fold_with_report
from bitat_tf.convert.kernels import binary_kernels
from bitat_tf.convert.prelu import prelu_to_convolution
from bitat_tf.convert.strip import strip
from bitat_tf.runtime import operator_name, read

_WITH_KERNEL = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}


def export_float(model: Any, *, fold: bool = True) -> bytes:
    """Convert a float model, such as the float twin, to an ordinary TFLite flatbuffer.

    Args:
        model: functional or Sequential, without binary convolutions.
        fold: as in `export`, so that a baseline has every advantage that a binary model has.

    Returns:
        The flatbuffer, for float32 images (1, height, width, channels).

    Raises:
        ConversionError: when the converter fails or its flatbuffer does not run.
        ValueError: when the model has a binary convolution, unknown spatial dimensions or other
            precision than float32.
    """
    return convert_plain(_plain(model, fold), _float32)


def export_int8(
    model: Any, calibration_images: np.ndarray, *, fold: bool = True, io: Ends = "float32"
) -> bytes:
    """Convert a float model to a TFLite flatbuffer that computes in int8 throughout.

    Same model and images, same bytes.

    Args:
        model: functional or Sequential, without binary convolutions.
        calibration_images: float32, (n, height, width, channels), preprocessed as in training;
            the smallest and largest values they lead to are the ranges. Some hundred.
        fold: as in `export`.
        io: type of the flatbuffer's input and output. With "float32" a QUANTIZE and a
            DEQUANTIZE operator stand at the ends, and it takes what the other models take.

    Returns:
        The flatbuffer, for images (1, height, width, channels).

    Raises:
        ConversionError: when the converter fails, its flatbuffer does not run, or a convolution
            or dense layer is not int8.
        ValueError: when the model has a binary convolution, unknown spatial dimensions or other
            precision than float32, the images do not fit it, or `io` is unknown.
    """
    if io not in ("float32", "int8"):
        raise ValueError(f"`io` must be 'float32' or 'int8'. Received: {io!r}")
    plain = prelu_to_convolution(_plain(model, fold))
    check_images(plain, calibration_images)
    images = calibration_images.astype(np.float32)
    flatbuffer = convert_plain(plain, functools.partial(_int8, images=images, io=io))
    found = _operators_with_kernel(flatbuffer)
    count = int8_operators(flatbuffer)
    if count != found:
        raise ConversionError(
            f"{found - count} of {found} convolutions and dense layers of {model.name!r} are not "
            "int8. Use `export_float`."
        )
    return flatbuffer


def _plain(model: Any, fold: bool) -> Any:
    plain = strip(model)
    binary = binary_kernels(plain)
    if binary:
        raise ValueError(
            f"`model` ({model.name!r}) has binary convolutions, such as {next(iter(binary))!r}. "
            "Use `export`."
        )
    check_plain(plain)
    return fold_with_report(plain)[0] if fold else plain


def _float32(folder: str) -> bytes:
    return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def _int8(folder: str, images: np.ndarray, io: str) -> bytes:
    def representative() -> Iterator[list[np.ndarray]]:
        for index in range(len(images)):
            yield [images[index : index + 1]]

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    # Without the float operators among them, what cannot be int8 is an error.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.as_dtype(io)
    return converter.convert()


def _operators_with_kernel(flatbuffer: bytes) -> int:
    model = read(flatbuffer)
    operators = model.subgraphs[0].operators or []
    return sum(operator_name(model, operator) in _WITH_KERNEL for operator in operators)
