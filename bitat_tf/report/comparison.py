"""Float, int8 and binary side by side: accuracy, size, latency, memory, ratios.

One row for each measured latency, on the host or a phone, of one run or of several. Ratios are
to the float model of the same run, device and number of threads; where a phone's float figures
differ by setting, its fastest.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from bitat_tf.android_results import AndroidBenchmark, AndroidRecord
from bitat_tf.report.tables import table
from bitat_tf.results import LatencyRecord, ModelScore, RunResult

FLOAT = "float"
HOST_WARNING = "**The host's figures say nothing about phones: other processors, other kernels.**"

# Name in the latency records -> name in the scores, where they differ.
_SCORED_AS = {"binary": "converted"}


@dataclass(frozen=True)
class ComparisonRow:
    """One model in one setting.

    Attributes:
        run: whose model it is.
        model: `"float"`, `"int8"` or `"binary"`.
        device: where its latency was measured; the host's begin with `"host"`.
        setting: interpreter and kernels.
        threads: of the interpreter.
        test_accuracy: in [0, 1]; None where not measured.
        size_bytes: of the flatbuffer; None where not known.
        latency_ms: median; on a phone of the rounds' figures.
        low_ms, high_ms: 10 and 90 % quantiles; on a phone the range of the rounds.
        memory_mb: growth of the process; None where not measured.
        times_faster, times_smaller: than the float model; None where there is none.
    """

    run: str
    model: str
    device: str
    setting: str
    threads: int
    test_accuracy: float | None
    size_bytes: int | None
    latency_ms: float
    low_ms: float
    high_ms: float
    memory_mb: float | None
    times_faster: float | None = None
    times_smaller: float | None = None


def comparison_rows(result: RunResult, run: str = "") -> tuple[ComparisonRow, ...]:
    """The rows of one run: float first, then int8, then binary, on each device.

    Args:
        result: of the run.
        run: a name that tells it from others; by default the recipe's.

    Returns:
        A row for each model, setting and device whose latency was measured; empty without.
    """
    run = run or str(result.recipe.get("name", "run"))
    scores = {score.model: score for score in result.scores}
    rows = [_host_row(record, run, scores) for record in result.latency]
    for benchmark in result.android:
        rows += [_phone_row(benchmark, r, run, scores) for r in benchmark.records]
    order = {name: place for place, name in enumerate((FLOAT, "int8", "binary"))}
    devices = {row.device: place for place, row in reversed(list(enumerate(rows)))}
    rows.sort(key=lambda row: (devices[row.device], order.get(row.model, len(order)), row.threads))
    return tuple(_with_ratios(row, rows) for row in rows)


def _score(model: str, scores: Mapping[str, ModelScore]) -> ModelScore:
    return scores.get(_SCORED_AS.get(model, model), ModelScore(model, None, None))


def _host_row(record: LatencyRecord, run: str, scores: Mapping[str, ModelScore]) -> ComparisonRow:
    score = _score(record.model, scores)
    return ComparisonRow(
        run,
        record.model,
        record.device,
        record.runtime,
        record.threads,
        score.test_accuracy,
        score.size_bytes,
        record.median_ms,
        record.p10_ms,
        record.p90_ms,
        record.memory_mb,
    )


def _phone_row(
    benchmark: AndroidBenchmark,
    record: AndroidRecord,
    run: str,
    scores: Mapping[str, ModelScore],
) -> ComparisonRow:
    score = _score(record.model, scores)
    memory = [r.memory_overall_mb for r in record.rounds if r.memory_overall_mb is not None]
    xnnpack = "on" if record.xnnpack else "off"
    return ComparisonRow(
        run,
        record.model,
        benchmark.device.model or benchmark.device.serial,
        f"kernel {record.kernel}, XNNPACK {xnnpack}",
        record.threads,
        score.test_accuracy,
        score.size_bytes,
        record.latency_ms,
        min(record.round_ms),
        max(record.round_ms),
        max(memory) if memory else None,
    )


def _with_ratios(row: ComparisonRow, rows: Iterable[ComparisonRow]) -> ComparisonRow:
    same = (row.run, row.device, row.threads)
    rivals = [r for r in rows if r.model == FLOAT and (r.run, r.device, r.threads) == same]
    if not rivals:
        return row
    fastest = min(rivals, key=lambda rival: rival.latency_ms)
    faster = fastest.latency_ms / row.latency_ms if row.latency_ms > 0 else None
    smaller = None
    if fastest.size_bytes and row.size_bytes:
        smaller = fastest.size_bytes / row.size_bytes
    return ComparisonRow(**{**asdict(row), "times_faster": faster, "times_smaller": smaller})


HEADER = (
    "model",
    "test accuracy",
    "size",
    "times smaller",
    "median ms",
    "10-90 % ms",
    "times faster",
    "memory MB",
)
"""Of `comparison_cells`."""


def cells(row: ComparisonRow) -> tuple[str, ...]:
    """A row as text, in the order of `HEADER`.

    Args:
        row: to show; accuracy in %, size in bytes, latency in milliseconds, memory in MiB.

    Returns:
        A cell for each column.
    """
    return (
        row.model,
        "not measured" if row.test_accuracy is None else f"{100 * row.test_accuracy:.2f} %",
        "not known" if row.size_bytes is None else f"{row.size_bytes:,} bytes",
        _number(row.times_smaller, 1),
        f"{row.latency_ms:.3f}",
        f"{row.low_ms:.3f} - {row.high_ms:.3f}",
        _number(row.times_faster, 2),
        _number(row.memory_mb, 1),
    )


def render_comparison(rows: Sequence[ComparisonRow]) -> str:
    """A table, with the run's name where there are several, and what to read it with."""
    several = len({row.run for row in rows}) > 1
    header = (*(("run",) if several else ()), *HEADER, "threads", "device", "setting")
    lines = [
        (*((row.run,) if several else ()), *cells(row), str(row.threads), row.device, row.setting)
        for row in rows
    ]
    warning = f"{HOST_WARNING}\n\n" if any(row.device.startswith("host") for row in rows) else ""
    return (
        f"{warning}{table(header, lines)}\n\nFaster and smaller are relative to the float model of "
        "the same run, device and number of threads (on a phone, to its fastest setting). Memory "
        "is the growth of the process that ran the model. On a phone the range is that of the "
        "rounds."
    )


def to_csv(rows: Iterable[ComparisonRow]) -> str:
    """The rows with a header line; an empty cell is what was not measured."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(ComparisonRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
