"""A session on a phone as Markdown says what its figures are, and what they were taken with."""

import dataclasses
import json
import re

import pytest

from bitat_tf import report
from bitat_tf.android_results import (
    AndroidBenchmark,
    AndroidRecord,
    CoreRecord,
    DeviceRecord,
    FailureRecord,
    HeatRecord,
    OperatorTime,
    RoundRecord,
)
from bitat_tf.report.phone import section

CORES = (CoreRecord(0, 1_800_000, 1_800_000, "schedutil"), CoreRecord(1, 2_800_000, 2_800_000))
DEVICE = DeviceRecord(
    "ABC", "Maker Phone", "Chip 1", "arm64-v8a", ("arm64-v8a",), "14", "34", CORES, 80, "USB",
    HeatRecord(31.5, "skin", 0),
)  # fmt: skip
ROUND = RoundRecord(
    50, 4.0, 3.0, 6.0, 0.5, None, None, None, 1.0, 9.0, 5.0, 4.2, 46.0,
    HeatRecord(32.0, "skin", 0), 0.0, False,
)  # fmt: skip


def one(model, *averages, **changes):
    rounds = tuple(dataclasses.replace(ROUND, average_ms=ms) for ms in averages)
    record = AndroidRecord(model, "f" * 64, 1, "default", False, "", "2", rounds)
    return dataclasses.replace(record, **changes)


def session(*records, **changes):
    benchmark = AndroidBenchmark(DEVICE, "tool_arm64", "a" * 64, "arm64-v8a", records)
    return dataclasses.replace(benchmark, **changes)


def row(text, model):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {model} |")]
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_figures_are_medians_over_rounds_of_what_the_tool_printed():
    record = one("binary", 5.0, 3.0, 4.0)
    assert (record.statistic, record.latency_ms) == ("mean", 4.0)
    text = section(session(record))
    assert "each round's mean (the tool printed no median)" in text
    cells = row(text, "binary")
    assert cells[5:9] == ["3 x 50", "mean", "4.000", "3.000 - 5.000"]


def test_medians_are_used_only_where_every_round_has_one():
    with_median = dataclasses.replace(ROUND, median_ms=3.5, p5_ms=3.0, p95_ms=5.0)
    both = one("binary", rounds=(with_median, with_median))
    assert (both.statistic, both.latency_ms) == ("median", 3.5)
    mixed = one("binary", rounds=(with_median, ROUND))
    assert (mixed.statistic, mixed.latency_ms) == ("mean", 4.0)
    text = section(session(both, one("other", 4.0)))
    assert "a median where the tool printed one, else a mean" in text


def test_the_rival_is_the_fastest_float_way_with_as_many_threads():
    text = section(
        session(
            one("binary", 2.0),
            one("float", 8.0, kernel="none"),
            one("float", 5.0, kernel="none", xnnpack=True, delegated="all"),
        )
    )
    assert row(text, "binary")[-1] == "2.50"
    assert "on (took all)" in text
    lonely = section(session(one("binary", 2.0, threads=4), one("float", 8.0)))
    assert row(lonely, "binary")[-1] == "no float figure"


def test_what_the_figures_were_taken_with():
    text = section(session(one("binary", 4.0)))
    for fact in ("Android 14 (API 34)", "Chip 1", "1 x 1.80 GHz, 1 x 2.80 GHz", "80 %, USB"):
        assert fact in text
    assert f"tool_arm64, SHA-256 {'a' * 64}" in text
    assert f"| SHA-256 of binary | {'f' * 64} |" in text
    assert "31.5 degrees Celsius (skin), thermal status 0" in text
    assert "**" not in text


def test_what_makes_figures_doubtful_stands_out():
    held = dataclasses.replace(CORES[1], limit_khz=1_500_000)
    hot = dataclasses.replace(ROUND, hot=True)
    text = section(
        session(
            one("binary", rounds=(ROUND, hot)),
            device=dataclasses.replace(DEVICE, cores=(CORES[0], held)),
            binary_abi="armeabi-v7a",
        )
    )
    assert "**The phone held 1 of its cores below" in text
    assert "(cores 1)" in text
    assert "**1 rounds began on a phone that had not cooled down" in text
    assert "**The tool was built for 32 bits" in text


def test_failures_and_operators_are_listed():
    operators = tuple(OperatorTime("ADD", f"a{i}", 1.0, 0.25, 1) for i in range(3))
    operators += (OperatorTime("LceBconv2d", "b", 1.0, 0.25, 1),)
    failure = FailureRecord("float", "threads 1", "status 1 | no\nsuch op")
    record = one("binary", 4.0, operators=operators, memory_peak_mb=48.5)
    text = section(session(record, failures=(failure,)))
    assert "| float | threads 1 | status 1 \\| no such op |" in text
    assert "| ADD | 3 | 3.000 | 75.0 % |" in text
    assert "peak memory 48.5 MB" in text
    assert "No measurement was finished." in section(session(failures=(failure,)))


def test_a_phone_that_tells_nothing_is_reported_as_such():
    silent = DeviceRecord("X", "", "", "", (), "", "", (CoreRecord(0),), None, "", HeatRecord())
    nothing = dataclasses.replace(ROUND, heat=HeatRecord(), memory_overall_mb=None)
    text = section(session(one("m", rounds=(nothing,), cpu_mask=""), device=silent))
    assert text.startswith("## Latency on X\n")
    assert "None" not in text
    for block in re.findall(r"(?:^\|.*\|\n)+", text + "\n", flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_a_result_holds_sessions_and_older_files_have_none(tmp_path, make_result):
    result = dataclasses.replace(make_result(), android=(session(one("binary", 4.0)),))
    text = report.write(result, tmp_path).read_text()
    assert text.index("## Latency on the host") < text.index("## Latency on Maker Phone")
    assert report.load(tmp_path) == result
    path = tmp_path / "report.json"
    values = json.loads(path.read_text())
    del values["android"]
    path.write_text(json.dumps(values))
    assert report.load(tmp_path).android == ()


def test_a_session_of_no_run_has_files_of_its_own(tmp_path):
    path = report.write_phone(session(one("binary", 4.0)), tmp_path)
    assert path.read_text().startswith("# Latency on Maker Phone\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["benchmark.json", "benchmark.md"]
    broken = session(one("binary", float("nan")))
    with pytest.raises(ValueError, match="nan"):
        report.write_phone(broken, tmp_path)
