"""A `RunResult` as Markdown: pure text, made of one function per section."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Any

import yaml

from bitat_tf.records import to_mapping
from bitat_tf.report import comparison, phone
from bitat_tf.report.conversion import audit_remarks
from bitat_tf.report.tables import table
from bitat_tf.results import (
    AuditReport,
    CalibrationResult,
    HostProfile,
    LatencyRecord,
    ModelScore,
    ParityReport,
    RunResult,
    TrainingPoint,
)


def render(result: RunResult, figures: Collection[str] = (), note: str = "") -> str:
    """The report's text.

    Args:
        result: what to report; a part that is None or empty is said to be missing.
        figures: file names of the figures that stand beside the text, of
            `bitat_tf.report.figures`.
        note: Markdown under the title; may be empty.

    Returns:
        Markdown.
    """
    sections = [
        f"# {result.recipe.get('name', 'A run')}: float to 1 bit",
        *([note] if note else []),
        _scores(result.scores, "scores.png" in figures),
        _training(result, "training.png" in figures),
        _calibration(result.calibration, "calibration.png" in figures),
        _comparison_section(result, "comparison.png" in figures),
        _audit(result.audit, "layers.png" in figures),
        _parity(result.parity),
        _latency(result.latency),
        _operators(result.profiles, "operators.png" in figures),
        *map(phone.section, result.android),
        _origin(result),
    ]
    return "\n\n".join(sections) + "\n"


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{100 * share:.2f} %"


def _size(size_bytes: int | None) -> str:
    return "not measured" if size_bytes is None else f"{size_bytes:,} bytes"


def _figure(title: str, name: str, present: bool) -> str:
    return f"\n\n![{title}]({name})" if present else ""


def _scores(scores: Sequence[ModelScore], drawn: bool) -> str:
    title = "## Accuracy and size"
    if not scores:
        return f"{title}\n\nNo model was scored on the test images yet."
    rows = [(s.model, _percent(s.test_accuracy), _size(s.size_bytes)) for s in scores]
    text = f"{title}\n\n{table(('model', 'test accuracy', 'size'), rows)}"
    comparison = _comparison(scores[0], scores[-1]) if len(scores) > 1 else ""
    return text + comparison + _figure("Test accuracy and size", "scores.png", drawn)


def _comparison(first: ModelScore, last: ModelScore) -> str:
    """What the score figure shows, in a sentence."""
    parts = []
    if first.test_accuracy is not None and last.test_accuracy is not None:
        points = 100 * (last.test_accuracy - first.test_accuracy)
        word = "below" if points < 0 else "above"
        parts.append(f"{abs(points):.2f} points {word} the {first.model} model in test accuracy")
    if first.size_bytes and last.size_bytes:
        ratio = first.size_bytes / last.size_bytes
        times = f"{ratio:.1f} times smaller" if ratio >= 1 else f"{1 / ratio:.1f} times larger"
        parts.append(times if parts else f"{times} than the {first.model} model")
    return f"\n\nThe {last.model} model is {' and '.join(parts)}." if parts else ""


def _training(result: RunResult, drawn: bool) -> str:
    title = "## Training"
    named = (("teacher", result.teacher_curve), ("student", result.student_curve))
    text = " ".join(_curve(name, points) for name, points in named)
    if result.student_curve and result.stages:
        entered = ", ".join(
            f"{s.binary_units} of {s.units} binary from step {s.step:,}" for s in result.stages
        )
        text += f"\n\nStages of the student (dashed lines): {entered}."
    return f"{title}\n\n{text}{_figure('Training curves', 'training.png', drawn)}"


def _curve(name: str, points: Sequence[TrainingPoint]) -> str:
    if not points:
        return f"There is no training curve of the {name}."
    last = points[-1]
    text = (
        f"The {name} ends after step {last.step:,} at a training loss of {last.loss:.3f} and "
        f"{_percent(last.accuracy)} training accuracy"
    )
    measured = [p.validation_accuracy for p in points if p.validation_accuracy is not None]
    return text + (
        f"; its last validation accuracy is {_percent(measured[-1])}." if measured else "."
    )


def _calibration(calibration: CalibrationResult | None, drawn: bool) -> str:
    title = "## Calibration"
    if calibration is None or not calibration.layers:
        return f"{title}\n\nThis run has no calibration."
    layers = calibration.layers
    sign, real, binary = (
        fmean(getattr(layer, f"unexplained_{kind}") for layer in layers)
        for kind in ("sign", "real", "binary")
    )
    text = (
        f"{len(layers)} layers from bottom to top on {calibration.images:,} images, "
        f"{calibration.seconds:.1f} s. Plain signs leave {sign:.3f} of the targets' variance "
        f"unexplained on average, the compensated signs {binary:.3f}; with real weights behind "
        f"the same 1-bit activations {real:.3f} would remain, the floor."
    )
    header = ("layer", "K", "N", "sign(W)", "compensated", "floor", "signs changed")
    rows = [
        (
            layer.name,
            f"{layer.inputs:,}",
            f"{layer.outputs:,}",
            f"{layer.unexplained_sign:.3f}",
            f"{layer.unexplained_binary:.3f}",
            f"{layer.unexplained_real:.3f}",
            f"{100 * layer.sign_changes:.1f} %",
        )
        for layer in layers
    ]
    figure = _figure("Unexplained variance per layer", "calibration.png", drawn)
    return f"{title}\n\n{text}{figure}\n\n{table(header, rows)}"


def _audit(audit: AuditReport | None, drawn: bool) -> str:
    title = "## Converted flatbuffer"
    if audit is None:
        return f"{title}\n\nThis run was not converted."
    types = Counter(op.type for op in audit.ops)
    facts = [
        ("size", f"{audit.size_bytes:,} bytes"),
        ("input", f"{_shape(audit.input_shape)} {audit.input_type}"),
        ("output", f"{_shape(audit.output_shape)} {audit.output_type}"),
        ("binary convolutions (LceBconv2d)", f"{audit.binary_convolutions}"),
        ("float convolutions", f"{audit.float_convolutions}"),
        ("1-bit multiply-accumulates", f"{audit.binary_macs:,}"),
        ("other multiply-accumulates", f"{audit.float_macs:,}"),
    ]
    counted = [
        (kind, str(count)) for kind, count in sorted(types.items(), key=lambda c: (-c[1], c))
    ]
    if audit.missing:
        missing = "; ".join(audit.missing)
        verdict = f"**Not every convolution meant to be binary is:** {missing}."
    else:
        verdict = "Every convolution meant to be binary is an LceBconv2d."
    remarks = "".join(f"\n- {remark}" for remark in audit_remarks(audit))
    remarks = f"\n{remarks}" if remarks else ""
    return (
        f"{title}\n\n{verdict}\n\n{table(('flatbuffer', ''), facts)}\n\n"
        f"{table(('operator', 'count'), counted)}"
        f"{remarks}"
        f"{_figure('Where the multiply-accumulates are', 'layers.png', drawn)}"
    )


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _parity(parity: ParityReport | None) -> str:
    title = "## Parity of Keras and the flatbuffer"
    if parity is None:
        return f"{title}\n\nThe flatbuffer was not compared with Keras."
    verdict = "passed" if parity.passed else "**failed**"
    text = (
        f"Criterion: the same class on at least {_percent(parity.min_agreement)} of the images: "
        f"{verdict}, with {_percent(parity.agreement)} of {parity.images:,} images. Quantiles over "
        "the images of the largest difference of an output, relative to the largest Keras output "
        f"({parity.output_scale:.3g}):"
    )
    quantiles = ("median", "p90", "p99", "max")
    values = tuple(f"{getattr(parity, f'error_{name}'):.2e}" for name in quantiles)
    header = ("", "median", "90 %", "99 %", "largest")
    return f"{title}\n\n{text}\n\n{table(header, [('relative error', *values)])}"


def _comparison_section(result: RunResult, drawn: bool) -> str:
    rows = comparison.comparison_rows(result)
    title = "## Float, int8 and binary"
    if not rows:
        return f"{title}\n\nNo latency was measured."
    figure = _figure("Accuracy against latency", "comparison.png", drawn)
    return f"{title}\n\n{comparison.render_comparison(rows)}{figure}"


def _latency(records: Sequence[LatencyRecord]) -> str:
    """How the host's figures were taken; they themselves stand in the comparison."""
    title = "## Latency on the host"
    if not records:
        return f"{title}\n\nNo latency was measured."
    header = ("model", "runtime", "threads", "bound to cores", "runs", "median ms", "10-90 % ms")
    rows = [
        (
            record.model,
            record.runtime,
            str(record.threads),
            record.cores or "none",
            str(record.repeats),
            f"{record.median_ms:.3f}",
            f"{record.p10_ms:.3f} - {record.p90_ms:.3f}",
        )
        for record in records
    ]
    devices = ", ".join(dict.fromkeys(record.device for record in records))
    return f"{title}\n\nDevice: {devices}.\n\n{table(header, rows)}"


def _operators(profiles: Sequence[HostProfile], drawn: bool) -> str:
    title = "## Operators on the host"
    if not profiles:
        return f"{title}\n\nNot measured; `bitat benchmark RUN --profile` does it."
    parts = [title, comparison.HOST_WARNING]
    for profile in profiles:
        share = profile.sum_ms / profile.whole_ms if profile.whole_ms > 0 else 0.0
        parts.append(
            f"{profile.model}: each operator timed alone, {profile.sum_ms:.3f} ms in all, "
            f"{share:.0%} of the whole inference's {profile.whole_ms:.3f} ms:"
        )
        parts.append(phone.operator_table(profile.operators))
    return "\n\n".join(parts) + _figure("Time by operator", "operators.png", drawn)


def _origin(result: RunResult) -> str:
    """Where the figures come from: command, machine, times, versions, recipe."""
    parts = [
        "## Where this comes from",
        f"Command: `{result.command or 'bitat train recipe.yaml'}`; the resolved recipe below "
        "lies beside this report as recipe.yaml.",
        f"Machine: {result.machine}.",
        _mapping_table("Wall time", "phase", "seconds", result.seconds),
        _mapping_table("Versions", "package", "version", result.versions),
        f"Resolved recipe:\n\n```yaml\n{_yaml(result.recipe)}```",
    ]
    return "\n\n".join(parts)


def _mapping_table(title: str, key: str, value: str, values: Mapping[str, Any]) -> str:
    if not values:
        return f"{title}: not recorded."
    rows = [(name, f"{v:.1f}" if isinstance(v, float) else str(v)) for name, v in values.items()]
    return f"{title}:\n\n{table((key, value), rows)}"


def _yaml(recipe: Mapping[str, Any]) -> str:
    return yaml.safe_dump(to_mapping(recipe), sort_keys=False)
