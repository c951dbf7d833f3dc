"""What folding changed in a flatbuffer: a table, and the same as Markdown."""

import math
from collections import Counter
from collections.abc import Sequence

from bitat_tf.report.tables import table
from bitat_tf.results import AuditReport, FoldStep, ParityReport

HEADER = ("", "before", "after")


def conversion_rows(before: AuditReport, after: AuditReport) -> list[tuple[str, str, str]]:
    """Size, operators in all and by type, and the values that they write, before and after.

    The values that all operators of a type write, for one image, tell more of what it costs
    than their number.
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
    return "\n".join(lines) + "\n"


def _written(report: AuditReport) -> Counter[str]:
    counter: Counter[str] = Counter()
    for op in report.ops:
        counter[op.type] += math.prod(op.output_shape)
    return counter
