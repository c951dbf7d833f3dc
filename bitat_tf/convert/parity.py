"""Keras against the flatbuffer on the same images.

The criterion is a share of images, not a tolerance for all of them. Both compute the same sums
in another order, so they differ by float rounding (errors around 1e-6 of the output's scale);
but where an activation lies that close to the threshold of a sign, the sign flips, and a flip
moves everything behind it by whole units. With random inputs that hit 1-4 of 200 images, and
none of their top-1 classes. Hence top-1 agreement on at least 99.5 %, with the quantiles of the
error beside it: a wrong conversion shows in the median already.
"""

import dataclasses
from typing import Any

import numpy as np

from bitat_tf.convert.export import Conversion, ConversionError
from bitat_tf.convert.layer_parity import check_layers, describe
from bitat_tf.results import ParityReport
from bitat_tf.runtime import Runner

MIN_AGREEMENT = 0.995

# Where int8 stands before a sign. Keras and TFLite round sums that lie between two int8 values
# differently now and then, which is a step of 1/255 of the range and not of 1e-7: on CIFAR-10
# nano they agree on 98.0 to 99.5 % of 2,000 images. A wrong conversion agrees by chance.
MIN_AGREEMENT_INT8 = 0.97
_BATCH = 128

# A layer that differs does so on any image; these take a second on a small network.
LAYER_IMAGES = 16


def check_parity(
    model: Any,
    flatbuffer: bytes,
    images: np.ndarray,
    *,
    min_agreement: float = MIN_AGREEMENT,
) -> ParityReport:
    """Compare a Keras model's outputs with its flatbuffer's.

    Args:
        model: Keras model with one output (batch, classes).
        flatbuffer: what was made of it.
        images: float32, (n, height, width, channels), preprocessed as in training; random
            ones tell less.
        min_agreement: criterion, share of images in (0, 1].

    Returns:
        The report; a failed criterion is in `passed`, not an exception.

    Raises:
        ValueError: on wrong images, on outputs that differ in shape or are all zero, and where
            `runtime.Runner` refuses the flatbuffer.
        FloatingPointError: on outputs that are not finite.
    """
    if not 0 < min_agreement <= 1:
        raise ValueError(f"`min_agreement` must be in (0, 1]. Received: {min_agreement!r}")
    actual = Runner(flatbuffer).predict(images)
    batches = [images[i : i + _BATCH] for i in range(0, len(images), _BATCH)]
    expected = np.concatenate([np.asarray(model(batch, training=False)) for batch in batches])
    _check_outputs(expected, actual)
    scale = float(np.abs(expected).max())
    errors = np.abs(expected - actual).max(axis=1) / scale
    median, p90, p99 = (float(q) for q in np.quantile(errors, (0.5, 0.9, 0.99)))
    return ParityReport(
        images=len(images),
        agreement=float(np.mean(expected.argmax(axis=1) == actual.argmax(axis=1))),
        min_agreement=min_agreement,
        error_median=median,
        error_p90=p90,
        error_p99=p99,
        error_max=float(errors.max()),
        output_scale=scale,
    )


def check_conversion(
    made: Conversion,
    trained: Any,
    images: np.ndarray,
    *,
    min_agreement: float = MIN_AGREEMENT,
    layers: bool = False,
) -> ParityReport:
    """Compare a conversion with the Keras model that it should compute.

    That is the trained one. With int8 ends it is the one whose ends are rounded to int8: rounding
    in front of a sign is no error of the conversion, and what it costs in accuracy is to be
    measured. The criterion then is at most `MIN_AGREEMENT_INT8`.

    Args:
        made: by `convert_model` of the trained model.
        trained: the model that was converted.
        images: float32 (n, height, width, channels), standardised; as in `check_parity`.
        min_agreement: as there.
        layers: compare layer by layer as well (`check_layers`, on the first `LAYER_IMAGES`).
            Where the agreement is too low that is done in any case.

    Returns:
        The report; a failed criterion is in `passed`, not an exception (`require_parity`).

    Raises:
        ValueError, FloatingPointError: as `check_parity` does.
    """
    model, floor = trained, min_agreement
    if made.int8_ends:
        model, floor = made.model, min(min_agreement, MIN_AGREEMENT_INT8)
    report = check_parity(model, made.flatbuffer, images, min_agreement=floor)
    if layers or not report.passed:
        compared = check_layers(made.model, made.flatbuffer, images[:LAYER_IMAGES])
        report = dataclasses.replace(report, layers=compared)
    return report


def require_parity(report: ParityReport) -> None:
    """See that a flatbuffer agrees with Keras; the error names the first layer that differs.

    Args:
        report: of `check_parity` or `check_conversion`.

    Raises:
        ConversionError: when it did not.
    """
    if report.passed:
        return
    reason = (
        f"The flatbuffer agrees with Keras on {report.agreement:.2%} of {report.images} images; "
        f"at least {report.min_agreement:.2%} is asked for."
    )
    if report.layers is not None:
        reason += f" {describe(report.layers)}"
    raise ConversionError(f"{reason} No flatbuffer was written.")


def _check_outputs(expected: np.ndarray, actual: np.ndarray) -> None:
    if expected.ndim != 2 or expected.shape != actual.shape:
        raise ValueError(
            "`model` and `flatbuffer` must both give one row of classes per image. "
            f"Received: {expected.shape} and {actual.shape}"
        )
    for name, outputs in (("model", expected), ("flatbuffer", actual)):
        if not np.isfinite(outputs).all():
            raise FloatingPointError(
                f"`{name}` gives outputs that are not finite for "
                f"{int((~np.isfinite(outputs)).any(axis=1).sum())} of {len(outputs)} images."
            )
    if not np.abs(expected).max() > 0:
        raise ValueError("`model` gives only zeros for these images: there is nothing to compare.")
