"""Conversion to a flatbuffer: strip, convert, and refuse what is not what was trained."""

import tempfile
from collections.abc import Callable
from typing import Any

from bitat_tf._keras import keras, quiet_import, tf
from bitat_tf.convert.audit import audit
from bitat_tf.convert.kernels import binary_kernels
from bitat_tf.convert.strip import strip
from bitat_tf.quiet import held_stderr
from bitat_tf.runtime import probe

with quiet_import():
    import larq_compute_engine as lce

# The converter puts the model's name before every layer's and cuts off after 50 characters.
_SHORT_NAME = "net"

# What a successful conversion prints in native code, whatever the log level.
_NOISE = r"^[WI]0000 |^WARNING: All log messages before absl::InitializeLog"


class ConversionError(ValueError):
    """The converter failed, or made something else than the model that was trained."""


def export(model: Any) -> bytes:
    """Convert a binary model for Larq Compute Engine.

    Same model, same bytes.

    Args:
        model: a student with all units active, or what `strip` made of one.

    Returns:
        The flatbuffer, for float32 images (1, height, width, channels).

    Raises:
        ConversionError: when the converter fails, its flatbuffer does not run, or a convolution
            that is meant to be binary did not become LceBconv2d; all of them are named.
        ValueError: when the model has no binary convolution, an inactive unit, unknown spatial
            dimensions or other precision than float32.
    """
    plain = strip(model)
    intended = binary_kernels(plain)
    if not intended:
        raise ValueError(
            f"`model` ({model.name!r}) has no binary convolution. Give the binary student, or "
            "use `export_float` for a float network."
        )
    # `convert_keras_model` would do the same, but on an error it falls back to another route
    # and drops the reason.
    flatbuffer = _convert(plain, lce.convert_saved_model)
    missing = audit(flatbuffer, intended).missing
    if missing:
        raise ConversionError(
            f"{len(missing)} of {len(intended)} convolutions meant to be binary did not become "
            f"LceBconv2d: {'; '.join(missing)}. Give each an input of +-1 right in front, a kernel "
            "of +-1 (no zero, no scale per input channel) and pad_values 1.0."
        )
    return flatbuffer


def export_float(model: Any) -> bytes:
    """Convert a float model, such as the float twin, to an ordinary TFLite flatbuffer.

    Args:
        model: functional or Sequential, without binary convolutions.

    Returns:
        The flatbuffer, for float32 images (1, height, width, channels).

    Raises:
        ConversionError: when the converter fails or its flatbuffer does not run.
        ValueError: when the model has a binary convolution, unknown spatial dimensions or other
            precision than float32.
    """
    plain = strip(model)
    binary = binary_kernels(plain)
    if binary:
        raise ValueError(
            f"`model` ({model.name!r}) has binary convolutions, such as {next(iter(binary))!r}. "
            "Use `export`."
        )
    return _convert(plain, _tflite)


def _tflite(folder: str) -> bytes:
    return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def _convert(plain: Any, converter: Callable[[str], bytes]) -> bytes:
    _check(plain)
    named = keras.Model(plain.inputs, plain.outputs, name=_SHORT_NAME)
    # Not Model.save: it warns of metrics that an uncompiled model does not have.
    with tempfile.TemporaryDirectory() as folder, held_stderr(_NOISE):
        tf.saved_model.save(named, folder)
        try:
            flatbuffer = converter(folder)
        except Exception as err:  # LCE and TFLite raise the base class among others
            reason = " ".join(str(err).split())
            raise ConversionError(f"The converter refused {plain.name!r}: {reason}") from err
    _check_runs(plain, flatbuffer)
    return flatbuffer


def _check_runs(plain: Any, flatbuffer: bytes) -> None:
    """LCE's converter keeps an operation it does not know as a custom operator nobody has."""
    try:
        probe(flatbuffer)
    except ValueError as err:
        raise ConversionError(f"{plain.name!r} was converted, but does not run: {err}") from err


def _check(plain: Any) -> None:
    for tensor in plain.inputs:
        if None in tensor.shape[1:]:
            raise ValueError(
                f"`model` must have an input of fixed size. Received: {tuple(tensor.shape)}. "
                "Rebuild it with the size it will see on the device."
            )
    for layer in plain.layers:
        if layer.compute_dtype not in (None, "float32"):
            raise ValueError(
                f"Layer {layer.name!r} computes in {layer.compute_dtype}, which LCE cannot "
                "convert. Rebuild the model with the float32 policy."
            )
