"""The text that `lce_benchmark_model` prints, read strictly.

The tool is TFLite's `benchmark_model` with LCE's operators. What it prints twice must agree,
what it must print once must be there once, and the text must not end within a line: a text cut
off or mixed up is an error, never a wrong number. A profile is `bench.profile`'s.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bitat_tf.bench.profile import NUMBER, OutputError, Profile, parse_profiles

# What the loggers of different builds put before a line.
_PREFIX = re.compile(r"^(?:INFO: |WARN: |WARNING: |[IW] tflite\s*: )")
_ERROR = re.compile(r"^(?:ERROR: |E tflite\s*: )(.*)")

_STATISTICS = re.compile(
    rf"count=(?P<count>[0-9]{{1,19}})"
    rf"(?: curr=(?P<only>{NUMBER})(?P<same> ?\(all same\))?"
    rf"| first=(?P<first>{NUMBER}) curr=(?P<curr>{NUMBER}) min=(?P<min>{NUMBER})"
    rf" max=(?P<max>{NUMBER}) avg=(?P<avg>{NUMBER}) std=(?P<std>{NUMBER}))"
    rf"(?: p5=(?P<p5>{NUMBER}) median=(?P<median>{NUMBER}) p95=(?P<p95>{NUMBER}))?"
)
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: (?P<init>{NUMBER}), First inference: (?P<first>{NUMBER}), "
    rf"Warmup \(avg\): (?P<warmup>{NUMBER}), Inference \(avg\): (?P<inference>{NUMBER})"
)
# The first wording is that of TensorFlow before 2.6.
_FOOTPRINT = re.compile(
    rf"(?:Peak memory footprint|Memory footprint delta from the start of the tool) \(MB\): "
    rf"init=(?P<init>-?{NUMBER}) overall=(?P<overall>-?{NUMBER})"
)
_PEAK = re.compile(
    rf"Overall peak memory footprint \(MB\) via periodic monitoring: (?P<peak>{NUMBER})"
)
_SETTING = re.compile(r"(?P<name>[#\w][^:\[\]]*): \[(?P<value>.*)\]")
_DELEGATION = {
    "will be completely executed by the delegate": "all",
    "will be partially executed by the delegate": "part",
    "will not be executed by the delegate": "none",
}
# Averages are printed with six significant digits; half a unit of the sixth.
_SIX_DIGITS = 5.1e-6


@dataclass(frozen=True)
class Statistics:
    """A `count=` line, in microseconds; the percentiles are None where it has none."""

    count: int
    first_us: float
    min_us: float
    max_us: float
    average_us: float
    std_us: float
    p5_us: float | None = None
    median_us: float | None = None
    p95_us: float | None = None


@dataclass(frozen=True)
class ToolOutput:
    """Everything that one start of the tool told.

    Attributes:
        init_us: loading the model and allocating tensors.
        warmup, inference: the two `count=` lines.
        memory_init_mb, memory_overall_mb, memory_peak_mb: None where not printed.
        delegated: `"all"`, `"part"`, `"none"`, or empty where it says nothing of XNNPACK.
        settings: parameters as the tool echoes them, e.g. `{"Num threads": "1"}`.
        profile: of the regular runs, then those within delegates; empty without profiling.
    """

    init_us: float
    warmup: Statistics
    inference: Statistics
    memory_init_mb: float | None = None
    memory_overall_mb: float | None = None
    memory_peak_mb: float | None = None
    delegated: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    profile: tuple[Profile, ...] = ()


def parse(text: str, *, profile: bool = False) -> ToolOutput:
    """Read what the tool printed to its standard output.

    Args:
        text: with `\\n` or `\\r\\n` at the ends of lines.
        profile: whether the profile of operators was asked for, and must therefore be there.

    Raises:
        OutputError: when the text is not whole, contradicts itself, or tells of an error.
    """
    if not text.endswith("\n"):
        raise OutputError(f"The output ends within a line: {text[-60:]!r}")
    lines = [_PREFIX.sub("", line.rstrip("\r")) for line in text.split("\n")[:-1]]
    _refuse_errors(lines)
    statistics = [_statistics(line) for line in lines if line.startswith("count=")]
    if len(statistics) != 2:
        raise OutputError(
            "The output must hold two lines that start with count=, of the warm-up and of the "
            f"counted runs. Received: {len(statistics)}"
        )
    timings = _once(lines, "Inference timings in us", _TIMINGS, needed=True)
    warmup, inference = statistics
    for what, printed, again, from_integers in (
        ("First inference", timings["first"], warmup.first_us, False),
        ("Warmup (avg)", timings["warmup"], warmup.average_us, warmup.min_us == warmup.max_us),
        (
            "Inference (avg)",
            timings["inference"],
            inference.average_us,
            inference.min_us == inference.max_us,
        ),
    ):
        # The same number in the same digits, but where all runs took the same.
        slack = _SIX_DIGITS * again if from_integers else 0
        if abs(float(printed) - again) > slack:
            raise OutputError(f"The output contradicts itself: {what} is {printed} and {again} us")
    footprint = _once(lines, ("Peak memory footprint", "Memory footprint"), _FOOTPRINT)
    peak = _once(lines, "Overall peak memory footprint", _PEAK)
    return ToolOutput(
        init_us=float(timings["init"]),
        warmup=warmup,
        inference=inference,
        memory_init_mb=float(footprint["init"]) if footprint else None,
        memory_overall_mb=float(footprint["overall"]) if footprint else None,
        memory_peak_mb=float(peak["peak"]) if peak else None,
        delegated=_delegated(lines),
        settings=_settings(lines),
        profile=parse_profiles(lines) if profile else (),
    )


def _refuse_errors(lines: Sequence[str]) -> None:
    for line in lines:
        if match := _ERROR.match(line):
            raise OutputError(f"The tool reports an error: {match[1]}")
        if line.startswith("Unconsumed cmdline flags"):
            raise OutputError(
                f"The tool does not know an option that it was given ({line}); is it older than "
                "LCE 0.16?"
            )


def _statistics(line: str) -> Statistics:
    match = _STATISTICS.fullmatch(line.rstrip())
    if match is None:
        raise OutputError(f"A line of statistics cannot be read: {line!r}")
    count = int(match["count"])
    if match["only"] is not None:
        if count < 1 or (count > 1) != bool(match["same"]):
            raise OutputError(f"A line of statistics contradicts itself: {line!r}")
        value = float(match["only"])
        numbers = {"first": value, "min": value, "max": value, "avg": value, "std": 0.0}
    else:
        numbers = {k: float(match[k]) for k in ("first", "curr", "min", "max", "avg", "std")}
    percentiles = [float(match[k]) for k in ("p5", "median", "p95") if match[k] is not None]
    _check_order(line, count, numbers, percentiles)
    p5, median, p95 = percentiles or (None, None, None)
    return Statistics(
        count,
        numbers["first"],
        numbers["min"],
        numbers["max"],
        numbers["avg"],
        numbers["std"],
        p5,
        median,
        p95,
    )


def _check_order(
    line: str, count: int, numbers: Mapping[str, float], percentiles: Sequence[float]
) -> None:
    low, high = numbers["min"], numbers["max"]
    within = [numbers[name] for name in ("first", "curr") if name in numbers]
    average, slack = numbers["avg"], _SIX_DIGITS * high
    if (
        count < 1
        or not all(low <= value <= high for value in within)
        or not low - slack <= average <= high + slack
        or numbers["std"] > high - low + slack
        or list(percentiles) != sorted(percentiles)
        or not all(low - slack <= value <= high + slack for value in percentiles)
    ):
        raise OutputError(f"A line of statistics contradicts itself: {line!r}")


def _once(
    lines: Sequence[str],
    start: str | tuple[str, ...],
    pattern: re.Pattern[str],
    *,
    needed: bool = False,
) -> Mapping[str, str]:
    """The groups of the one line that starts so; empty where there is none."""
    found = [line for line in lines if line.startswith(start)]
    name = start if isinstance(start, str) else start[0]
    if len(found) > 1 or (needed and not found):
        raise OutputError(f"The output must hold one line {name!r}. Received: {len(found)}")
    if not found:
        return {}
    match = pattern.fullmatch(found[0].rstrip())
    if match is None:
        raise OutputError(f"The line {name!r} cannot be read: {found[0]!r}")
    return match.groupdict()


def _delegated(lines: Sequence[str]) -> str:
    said = {kind for line in lines for text, kind in _DELEGATION.items() if text in line}
    if len(said) > 1:
        raise OutputError(f"The output contradicts itself on the delegate: {sorted(said)}")
    return said.pop() if said else ""


def _settings(lines: Sequence[str]) -> dict[str, str]:
    """Parameters echoed before the first measurement."""
    settings = {}
    for line in lines:
        if line.startswith("count="):
            break
        if match := _SETTING.fullmatch(line):
            settings[match["name"]] = match["value"]
    return settings
