"""One session on a phone as Markdown: the figures, and what they should be read with."""

from collections import Counter
from collections.abc import Sequence

from bitat_tf.android_results import (
    AndroidBenchmark,
    AndroidRecord,
    CoreRecord,
    DeviceRecord,
    HeatRecord,
    OperatorTime,
    RoundRecord,
)
from bitat_tf.report.tables import table

# The name of the float twin in a run, as in the host's table.
_FLOAT = "float"


def section(benchmark: AndroidBenchmark) -> str:
    """A section with the phone, a row for each model and setting, and the operators' times."""
    device = benchmark.device
    parts = [f"## Latency on {device.model or device.serial}", _phone(benchmark)]
    parts += [f"**{warning}**" for warning in _warnings(benchmark)]
    if benchmark.records:
        parts += [_explain(benchmark.records), _figures(benchmark.records)]
    else:
        parts.append("No measurement was finished.")
    if benchmark.failures:
        rows = [(f.model, f.setting, f.reason) for f in benchmark.failures]
        parts.append(f"Not measured to the end:\n\n{table(('model', 'setting', 'reason'), rows)}")
    parts += [_operators(record) for record in benchmark.records if record.operators]
    return "\n\n".join(parts)


def _phone(benchmark: AndroidBenchmark) -> str:
    device = benchmark.device
    charge = "" if device.battery_percent is None else f"{device.battery_percent} %, "
    facts = [
        ("system", f"Android {device.android or 'unknown'} (API {device.sdk or 'unknown'})"),
        ("chip", device.soc or "not told"),
        ("binary interface", f"{device.abi or 'not told'}; tool {benchmark.binary_abi}"),
        ("cores", _cores(device.cores)),
        ("governor", ", ".join(sorted({c.governor for c in device.cores if c.governor})) or "?"),
        ("power", f"{charge}{device.power or 'source not told'}"),
        ("before the first run", _heat(device.heat)),
        ("tool", f"{benchmark.binary}, SHA-256 {benchmark.binary_sha256}"),
    ]
    models = {record.model: record.model_sha256 for record in benchmark.records}
    facts += [(f"SHA-256 of {name}", digest) for name, digest in models.items()]
    return table(("phone", ""), facts)


def _cores(cores: Sequence[CoreRecord]) -> str:
    counted = Counter(core.max_khz for core in cores)
    known = sorted((khz, n) for khz, n in counted.items() if khz is not None)
    text = ", ".join(f"{count} x {khz / 1e6:.2f} GHz" for khz, count in known)
    unknown = counted.get(None, 0)
    return ", ".join(filter(None, (text, f"{unknown} without a frequency" if unknown else "")))


def _heat(heat: HeatRecord) -> str:
    warmth = "temperature not told"
    if heat.celsius is not None:
        warmth = f"{heat.celsius:.1f} degrees Celsius ({heat.source})"
    return warmth if heat.status is None else f"{warmth}, thermal status {heat.status}"


def _warnings(benchmark: AndroidBenchmark) -> list[str]:
    warnings = []
    held = _held_back(benchmark.device)
    if held:
        warnings.append(
            f"The phone held {len(held)} of its cores below their highest frequency when the "
            f"session began (cores {', '.join(map(str, held))}): heat, or a battery saver."
        )
    hot = sum(r.hot for record in benchmark.records for r in record.rounds)
    if hot:
        warnings.append(f"{hot} rounds began on a phone that had not cooled down in time.")
    if "64" in benchmark.device.abi and "64" not in benchmark.binary_abi:
        warnings.append(
            "The tool was built for 32 bits, the phone runs 64: LCE's fast kernels need 64 bits."
        )
    return warnings


def _held_back(device: DeviceRecord) -> list[int]:
    return [
        core.index
        for core in device.cores
        if core.max_khz is not None and core.limit_khz is not None and core.limit_khz < core.max_khz
    ]


def _explain(records: Sequence[AndroidRecord]) -> str:
    kinds = {record.statistic for record in records}
    of = "median" if kinds == {"median"} else "mean"
    reason = "" if kinds == {"median"} else " (the tool printed no median)"
    if len(kinds) == 2:
        of, reason = "figure", " (a median where the tool printed one, else a mean)"
    return (
        f"Milliseconds are the median over the rounds of each round's {of}{reason}; the range is "
        "that of the rounds. Rounds of all rows were interleaved."
    )


def _figures(records: Sequence[AndroidRecord]) -> str:
    compare = any(record.model == _FLOAT for record in records)
    header = (
        "model",
        "threads",
        "kernel",
        "XNNPACK",
        "cores",
        "rounds x runs",
        "each",
        "ms",
        "range ms",
        "first ms",
        "memory MB",
        "warmest",
        *(("fastest float / this",) if compare else ()),
    )
    rows = [
        (
            record.model,
            str(record.threads),
            record.kernel,
            _xnnpack(record),
            record.cpu_mask or "any",
            f"{len(record.rounds)} x {min(r.runs for r in record.rounds)}",
            record.statistic,
            f"{record.latency_ms:.3f}",
            f"{min(record.round_ms):.3f} - {max(record.round_ms):.3f}",
            f"{max(r.first_ms for r in record.rounds):.3f}",
            _memory(record),
            _warmest(record.rounds),
            *((_ratio(record, records),) if compare else ()),
        )
        for record in records
    ]
    return table(header, rows)


def _xnnpack(record: AndroidRecord) -> str:
    if not record.xnnpack:
        return "off"
    return f"on (took {record.delegated})" if record.delegated else "on"


def _memory(record: AndroidRecord) -> str:
    known = [r.memory_overall_mb for r in record.rounds if r.memory_overall_mb is not None]
    return f"{max(known):.1f}" if known else "not told"


def _warmest(rounds: Sequence[RoundRecord]) -> str:
    known = [r.heat.celsius for r in rounds if r.heat.celsius is not None]
    return f"{max(known):.1f} C" if known else "not told"


def _ratio(record: AndroidRecord, records: Sequence[AndroidRecord]) -> str:
    """The float twin's fastest way to run with as many threads, divided by this row."""
    rivals = [r.latency_ms for r in records if (r.model, r.threads) == (_FLOAT, record.threads)]
    if not rivals or record.latency_ms <= 0:
        return "no float figure"
    return f"{min(rivals) / record.latency_ms:.2f}"


def _operators(record: AndroidRecord) -> str:
    peak = "" if record.memory_peak_mb is None else f", peak memory {record.memory_peak_mb:.1f} MB"
    setting = f"{record.threads} threads, kernel {record.kernel}, XNNPACK {_xnnpack(record)}"
    title = f"Operators of {record.model} ({setting}; a run of its own, with the profiler{peak}):"
    return f"{title}\n\n{operator_table(record.operators)}"


def operator_rows(operators: Sequence[OperatorTime]) -> list[tuple[str, str, str, str]]:
    """Type, count, milliseconds and share of each type of operator, the slowest first.

    Args:
        operators: of a profile.

    Returns:
        Cells of each type; the share in %.
    """
    kinds: dict[str, list[float]] = {}
    for operator in operators:
        kinds.setdefault(operator.type, []).append(operator.average_ms)
    total = sum(sum(times) for times in kinds.values())
    return [
        (kind, str(len(times)), f"{sum(times):.3f}", _share(sum(times), total))
        for kind, times in sorted(kinds.items(), key=lambda item: -sum(item[1]))
    ]


def operator_table(operators: Sequence[OperatorTime]) -> str:
    """Time by type of operator; every single one is in the JSON record."""
    return table(("operator", "count", "ms", "share"), operator_rows(operators))


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole > 0 else "not measurable"
