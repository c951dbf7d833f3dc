"""What folding changed in a flatbuffer: a table, and the same as Markdown."""

import math
from collections import Counter
from collections.abc import Sequence

from bitat_tf.metadata import Metadata
from bitat_tf.report.tables import table
from bitat_tf.results import AuditReport, FoldStep, LayerParityReport, ParityReport

HEADER = ("", "before", "after")
"""Of `conversion_rows`."""
LAYER_HEADER = ("op", "type", "layer", "largest error", "99 % below", "equal signs", "")
"""Of `layer_rows`."""


def conversion_rows(before: AuditReport, after: AuditReport) -> list[tuple[str, str, str]]:
    """Size, operators in all and by type, and the values that they write, before and after.

    The values that all operators of a type write, for one image, tell more of what it costs
    than their number.

    Args:
        before: audit of the plain conversion.
        after: audit of the folded one.

    Returns:
        Label, before, after: size in KiB (2**10 bytes), counts.
    """
    rows = [
        ("KiB", f"{before.size_bytes / 1024:.1f}", f"{after.size_bytes / 1024:.1f}"),
        ("operators", str(len(before.ops)), str(len(after.ops))),
    ]
    counts = [Counter(op.type for op in report.ops) for report in (before, after)]
    values = [_written(report) for report in (before, after)]
    for kind in sorted(values[0] | values[1], key=lambda kind: -max(v[kind] for v in values)):
        cells = (
            f"{count[kind]} ({written[kind]:,} values)" if count[kind] else "none"
            for count, written in zip(counts, values, strict=True)
        )
        rows.append((kind, *cells))  # type: ignore[arg-type]
    return rows


def render_conversion(
    name: str,
    before: AuditReport,
    after: AuditReport,
    steps: Sequence[FoldStep],
    parity: ParityReport | None,
) -> str:
    """The conversion as Markdown.

    Args:
        name: of the flatbuffer.
        before: what the converter makes of the model as it was trained.
        after: the flatbuffer that was written.
        steps: what each rewrite of the fold changed.
        parity: of the flatbuffer with Keras; None where there were no images.

    Returns:
        Markdown, without figures.
    """
    lines = [
        f"# {name}",
        "",
        f"Input {after.input_type} {after.input_shape}, output {after.output_type} "
        f"{after.output_shape}.",
        "",
        table(HEADER, conversion_rows(before, after)),
        "",
        "## Rewrites",
        "",
    ]
    for step in steps:
        lines.append(f"- `{step.rewrite}`: {', '.join(step.changed) or 'nothing to change'}")
    lines += [] if steps else ["Not folded."]
    lines += ["", "## Parity with Keras", ""]
    if parity is None:
        lines.append("Not checked: no images were given.")
    else:
        lines.append(
            f"The same class on {parity.agreement:.2%} of {parity.images} images (asked for: "
            f"{parity.min_agreement:.2%}); median error {parity.error_median:.1e} of the largest "
            "output."
        )
        if parity.layers is not None:
            lines += ["", "### Layer by layer", "", table(LAYER_HEADER, layer_rows(parity.layers))]
    remarks = audit_remarks(after)
    lines += ["", "## Remarks", "", *(f"- {remark}" for remark in remarks)] if remarks else []
    return "\n".join(lines) + "\n"


def layer_rows(layers: LayerParityReport) -> list[tuple[str, ...]]:
    """A row for each operator that was compared with a Keras layer (`LAYER_HEADER`).

    Args:
        layers: of `check_layers`.

    Returns:
        Cells of each.
    """
    return [
        (
            str(layer.operator),
            layer.type,
            layer.layer,
            f"{layer.error_max:.1e}",
            f"{layer.error_p99:.1e}",
            "" if layer.sign_agreement is None else f"{layer.sign_agreement:.2%}",
            "" if layer.passed else "differs",
        )
        for layer in layers.layers
    ]


def audit_remarks(audit: AuditReport) -> tuple[str, ...]:
    """What of an audit is unexpected: the size with its causes, operators that a phone lacks.

    Args:
        audit: of the flatbuffer.

    Returns:
        Sentences; empty where nothing is.
    """
    remarks = [f"Warning: {warning}" for warning in audit.warnings]
    if audit.size is not None and audit.size.notes:
        remarks.append(
            f"Size: {audit.size_bytes / 1024:.1f} KiB; the parameters alone, binary weights at 1 "
            f"bit, take {audit.size.predicted / 1024:.1f} KiB. The difference:"
        )
        remarks += audit.size.notes
    return tuple(remarks)


def metadata_rows(known: Metadata) -> list[tuple[str, str]]:
    """What a flatbuffer says of itself, as far as it does.

    Args:
        known: as `convert.embedded` reads it.

    Returns:
        Label and value.
    """
    rows = [("written by", f"bitat_tf {known.bitat_version}")]
    if known.dataset:
        rows.append(("data set", known.dataset))
    if known.labels:
        rows.append((f"{len(known.labels)} labels", _shortened(known.labels)))
    if known.preprocessing is not None:
        given = known.preprocessing
        numbers = (_numbers(values) for values in (given.mean, given.std, given.pixel_range))
        mean, std, pixels = numbers
        rows.append(("preprocessing", f"(pixel - {mean}) / {std}, pixels from {pixels}"))
        low, high = given.input_range
        rows.append(("input range", f"{low:.4g} to {high:.4g}"))
        if given.image_size:
            rows.append(
                ("resized to", f"{given.image_size}, of {given.center_share:g} of the shorter side")
            )
    for name, measured in (
        ("test accuracy of Keras", known.keras_accuracy),
        ("same class as Keras", known.agreement),
    ):
        if measured is not None:
            rows.append((name, f"{measured.share:.2%} of {measured.images} images"))
    if known.recipe is not None:
        rows.append(("recipe", str(known.recipe.get("name", ""))))
    return rows


def _numbers(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]"


def _shortened(labels: Sequence[str], shown: int = 10) -> str:
    return ", ".join(labels[:shown]) + (", ..." if len(labels) > shown else "")


def _written(report: AuditReport) -> Counter[str]:
    counter: Counter[str] = Counter()
    for op in report.ops:
        counter[op.type] += math.prod(op.output_shape)
    return counter
