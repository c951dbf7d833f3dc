"""Conversion to a flatbuffer: strip, fold, convert, and refuse what is not what was trained."""

import functools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bitat_tf._keras import keras, quiet_import, tf
from bitat_tf.convert.audit import audit
from bitat_tf.convert.ends import int8_operators, quantize_ends
from bitat_tf.convert.fold import fold_with_report
from bitat_tf.convert.kernels import (
    binary_kernels,
    lost_kernels,
    ternary_inputs,
    without_binary_kernel,
)
from bitat_tf.convert.strip import strip
from bitat_tf.counts import count
from bitat_tf.quiet import XNNPACK_NOTE, errors_only, held_stderr
from bitat_tf.results import AuditReport, FoldStep
from bitat_tf.runtime import probe

with quiet_import():
    import larq_compute_engine as lce

# The converter puts the model's name before every layer's and cuts off after 50 characters.
_SHORT_NAME = "net"

Ends = Literal["float32", "int8"]
"""Type of a flatbuffer's input and output, and of its first and last layers."""

# What a successful conversion prints in native code, whatever the log level.
_NOISE = (
    r"^[WI]0000 |^WARNING: All log messages before absl::InitializeLog"
    rf"|^fully_quantize: |^{XNNPACK_NOTE}"
    r"|^error: Invalid binary grouped convolution"  # it stays float; the audit names it
)


class ConversionError(ValueError):
    """The converter failed, or made something else than the model that was trained."""


@dataclass(frozen=True)
class Conversion:
    """A flatbuffer and how it came about.

    Attributes:
        flatbuffer: content of a `.tflite` file.
        model: the Keras model of plain layers that it computes: folded, ends rounded to int8.
        steps: what each rewrite of the fold changed; empty where nothing was folded.
        audit: of the flatbuffer.
        int8_ends: names of the layers that compute in int8; empty with float ends.
    """

    flatbuffer: bytes
    model: Any
    steps: tuple[FoldStep, ...]
    audit: AuditReport
    int8_ends: tuple[str, ...] = ()


def export(
    model: Any,
    *,
    fold: bool = True,
    ends: Ends = "float32",
    io: Ends = "float32",
    calibration_images: np.ndarray | None = None,
) -> bytes:
    """Convert a binary model for Larq Compute Engine.

    Same model, same bytes.

    Args:
        model: a student with all units active, or what `strip` made of one.
        fold: rewrite it first into fewer operations that compute the same
            (`bitat_tf.convert.fold`).
        ends: type of stem and classifier. "int8" makes the file smaller and needs images.
        io: type of the flatbuffer's input and output. "int8" is possible where the first and
            last layer are int8 ends; scale and zero point are in the flatbuffer.
        calibration_images: for the ranges of int8 ends; float32, (n, height, width, channels),
            preprocessed as in training. Some hundred.

    Returns:
        The flatbuffer, for images (1, height, width, channels).

    Raises:
        ConversionError: when the converter fails, its flatbuffer does not run, a convolution
            that is meant to be binary did not become LceBconv2d (all of them are named), or
            int8 was asked for where it does not hold.
        ValueError: when the model has no binary convolution, an inactive unit, unknown spatial
            dimensions or other precision than float32, or the arguments contradict each other.
    """
    made = convert_model(model, fold=fold, ends=ends, io=io, calibration_images=calibration_images)
    return made.flatbuffer


def convert_model(
    model: Any,
    *,
    fold: bool = True,
    ends: Ends = "float32",
    io: Ends = "float32",
    calibration_images: np.ndarray | None = None,
) -> Conversion:
    """Convert a binary model as `export` does, and keep the record of it.

    Args:
        model, fold, ends, io: as in `export`.
        calibration_images: float32 (n, height, width, channels); as there.

    Returns:
        The flatbuffer with the model that it computes, the fold's steps and the audit.

    Raises:
        ConversionError, ValueError: as `export`.
    """
    _check_types(ends, io, calibration_images)
    plain = strip(model)
    trained = binary_kernels(plain)
    if not trained:
        raise ValueError(
            f"`model` ({model.name!r}) has no binary convolution. Give the binary student, or "
            "use `export_float` for a float network."
        )
    check_plain(plain)
    ternary = ternary_inputs(plain)
    if ternary:
        raise ConversionError(
            f"LCE's converter would take the ternary activations of {', '.join(ternary)} for "
            "signs, and the network would compute something else. Use a sign, such as 'ste_sign'."
        )
    deployed, steps = fold_with_report(plain) if fold else (plain, ())
    intended = binary_kernels(deployed)
    lost = lost_kernels(trained, intended)
    if lost:
        raise ConversionError(
            f"Folding {plain.name!r} lost the kernels of {', '.join(lost)}. Convert with "
            "fold=False, and report it: this is a bug."
        )
    int8: tuple[str, ...] = ()
    if calibration_images is not None:
        deployed, int8 = quantize_ends(deployed, calibration_images)
    # `convert_keras_model` would do the same, but on an error it falls back to another route
    # and drops the reason.
    flatbuffer = convert_plain(deployed, functools.partial(_lce, io=io))
    report = audit(flatbuffer, intended, count(model))
    _check_binary(report, intended, deployed)
    _check_int8(flatbuffer, int8, io, report)
    return Conversion(flatbuffer, deployed, steps, report, int8)


def _check_types(ends: str, io: str, images: np.ndarray | None) -> None:
    for name, value in (("ends", ends), ("io", io)):
        if value not in ("float32", "int8"):
            raise ValueError(f"`{name}` must be 'float32' or 'int8'. Received: {value!r}")
    if (ends == "int8") != (images is not None):
        raise ValueError(
            "`calibration_images` must be given with ends='int8', and only with it. Received: "
            f"ends={ends!r}, calibration_images={'None' if images is None else 'an array'}"
        )
    if io == "int8" and ends != "int8":
        raise ValueError(f"io='int8' needs ends='int8'. Received: ends={ends!r}")


def _check_binary(report: AuditReport, intended: Mapping[str, Any], deployed: Any) -> None:
    others = without_binary_kernel(deployed)
    missing = list(report.missing)
    missing += [f"{name} ({kind}: LCE computes it with floats)" for name, kind in others.items()]
    if missing:
        raise ConversionError(
            f"{len(missing)} of {len(intended) + len(others)} convolutions meant to be binary did "
            f"not become LceBconv2d: {'; '.join(missing)}. Give each an input of +-1 right in "
            "front, a kernel of +-1 (no zero, no scale per input channel) and pad_values 1.0, as "
            "a QuantConv2D whose groups have a multiple of 32 channels."
        )


def _check_int8(flatbuffer: bytes, layers: tuple[str, ...], io: str, report: AuditReport) -> None:
    """The converter leaves float what it cannot quantize, and input and output too."""
    count = int8_operators(flatbuffer)
    if count != len(layers):
        raise ConversionError(
            f"{len(layers)} layers were to be int8 ({', '.join(layers)}), but {count} are. "
            "Convert with ends='float32'."
        )
    found = (report.input_type, report.output_type)
    if any(kind != io.upper() for kind in found):
        raise ConversionError(
            f"The flatbuffer's input and output are {' and '.join(found)}, not {io.upper()}: int8 "
            "there needs an int8 layer as the first and as the last. Convert with io='float32'."
        )


def _lce(folder: str, io: str) -> bytes:
    kind = tf.as_dtype(io)
    return lce.convert_saved_model(folder, inference_input_type=kind, inference_output_type=kind)


def convert_plain(plain: Any, converter: Callable[[str], bytes]) -> bytes:
    """Convert a model of plain layers by way of a SavedModel, and run the outcome once.

    Args:
        plain: of fixed size and float32 (`check_plain`).
        converter: path of a SavedModel -> flatbuffer.

    Raises:
        ConversionError: when the converter fails or its flatbuffer does not run.
    """
    named = keras.Model(plain.inputs, plain.outputs, name=_SHORT_NAME)
    # Not Model.save: it warns of metrics that an uncompiled model does not have.
    with tempfile.TemporaryDirectory() as folder, held_stderr(_NOISE):
        with errors_only("tensorflow"):  # in a notebook it says where the assets are
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


def check_plain(plain: Any) -> None:
    """Raise a ValueError unless the model has a fixed size and is float32 throughout."""
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
