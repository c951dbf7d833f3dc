"""The tool's output is read right in every form it has, and refused where it is not whole."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bitat_tf.bench.parse import ToolOutput, parse
from bitat_tf.bench.profile import OutputError, parse_profiles

EXAMPLE = """\
STARTING!
Num threads: [1]
The input model file size (MB): 3.3512
Initialized session in 1.471ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=16 first=41707 curr=31870 min=31722 max=41707 avg=32491.4 std=2395

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=31929 curr=31278 min=31138 max=31929 avg=31420.6 std=260

Inference timings in us: Init: 1471, First inference: 41707, Warmup (avg): 32491.4, Inference (avg): 31420.6
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your discretion.
Memory footprint delta from the start of the tool (MB): init=4.21 overall=46.08
"""  # noqa: E501  the tool's own lines

PROFILE = """\
Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t         AllocateTensors\t    1.356\t    1.356\t100.000%\t100.000%\t     0.000\t        1\tAllocateTensors/0

============================== Top by Computation Time ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t         AllocateTensors\t    1.356\t    1.356\t100.000%\t100.000%\t     0.000\t        1\tAllocateTensors/0

Number of nodes executed: 1
============================== Summary by node type ==============================
\t             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]
\t         AllocateTensors\t        1\t     1.356\t   100.000%\t   100.000%\t     0.000\t        1

Timings (microseconds): count=1 curr=1356
Memory (bytes): count=0
1 nodes observed



Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t   87.754\t   60.957\t 20.660%\t 20.660%\t     0.000\t        1\t[a/Relu6]:0
\t              LceBconv2d\t   53.628\t   49.870\t 79.340%\t100.000%\t     0.000\t        2\t[b;c\td]:1

============================== Top by Computation Time ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t   87.754\t   60.957\t 20.660%\t 20.660%\t     0.000\t        1\t[a/Relu6]:0

Number of nodes executed: 2
============================== Summary by node type ==============================
\t             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]
\t                 CONV_2D\t        1\t    60.957\t    20.660%\t    20.660%\t     0.000\t        1
\t              LceBconv2d\t        1\t    49.870\t    79.340%\t   100.000%\t     0.000\t        2

Timings (microseconds): count=50 first=2989660 curr=2912978 min=2727203 max=3189476 avg=2.9499e+06 std=109770
Memory (bytes): count=0
2 nodes observed


"""  # noqa: E501

WITH_START = PROFILE.replace("[node type]\t", "[node type]\t [start]\t").replace(
    "CONV_2D\t   87", "CONV_2D\t 0.066\t   87"
)
WITH_START = WITH_START.replace("LceBconv2d\t   53", "LceBconv2d\t 61.0\t   53")
WITH_START = WITH_START.replace("AllocateTensors\t    1.3", "AllocateTensors\t 0.0\t    1.3")


def prefixed(text, prefix):
    """Each line as a build with such a logger prints it: the first of several carries the mark."""
    return "".join(prefix + line for line in text.splitlines(keepends=True))


def with_line(start, line, text=EXAMPLE):
    """The text with the one line that starts so replaced; "" removes it."""
    lines = text.splitlines(keepends=True)
    assert sum(one.startswith(start) for one in lines) == 1
    return "".join(line if one.startswith(start) else one for one in lines)


def test_the_example_is_read_whole():
    output = parse(EXAMPLE)
    assert output.init_us == 1471
    assert (output.warmup.count, output.warmup.first_us) == (16, 41707)
    assert output.warmup.average_us == 32491.4
    result = output.inference
    assert (result.count, result.first_us, result.average_us) == (50, 31929, 31420.6)
    assert (result.min_us, result.max_us, result.std_us) == (31138, 31929, 260)
    assert (result.p5_us, result.median_us, result.p95_us) == (None, None, None)
    assert (output.memory_init_mb, output.memory_overall_mb) == (4.21, 46.08)
    assert output.settings == {"Num threads": "1"}
    assert output.memory_peak_mb is None
    assert output.delegated == ""


@pytest.mark.parametrize(
    "prefix", ["INFO: ", "WARN: ", "WARNING: ", "I tflite  : ", "W tflite  : "]
)
def test_loggers_marks_are_taken_off(prefix):
    assert parse(prefixed(EXAMPLE, prefix)) == parse(EXAMPLE)


def test_lines_of_an_old_android_shell_end_with_a_return():
    assert parse(EXAMPLE.replace("\n", "\r\n")) == parse(EXAMPLE)


def test_a_single_run_is_its_own_average():
    text = with_line("count=16", "count=1 curr=3512391\n")
    text = text.replace("First inference: 41707", "First inference: 3512391")
    text = text.replace("Warmup (avg): 32491.4", "Warmup (avg): 3.51239e+06")
    warmup = parse(text).warmup
    assert (warmup.count, warmup.average_us, warmup.min_us) == (1, 3512391, 3512391)
    assert (warmup.first_us, warmup.max_us, warmup.std_us) == (3512391, 3512391, 0)


@pytest.mark.parametrize("space", ["", " "])
def test_runs_that_all_took_the_same(space):
    text = with_line("count=50", f"count=50 curr=100{space}(all same)\n")
    result = parse(text.replace("(avg): 31420.6", "(avg): 100")).inference
    assert (result.count, result.average_us, result.max_us) == (50, 100, 100)


def test_large_averages_are_printed_with_an_exponent():
    line = "count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798"
    text = with_line("count=50", line + "\n").replace("(avg): 31420.6", "(avg): 2.95034e+06")
    assert parse(text).inference.average_us == 2950340


def test_newer_tools_print_percentiles():
    line = "count=50 first=31929 curr=31278 min=31138 max=31929 avg=31420.6 std=260"
    text = with_line("count=50", f"{line} p5=31150 median=31300 p95=31900\n")
    result = parse(text).inference
    assert (result.p5_us, result.median_us, result.p95_us) == (31150, 31300, 31900)


def test_both_wordings_of_memory_and_the_peak():
    text = with_line("Memory footprint", "Peak memory footprint (MB): init=4.92969 overall=138.8\n")
    text += "Overall peak memory footprint (MB) via periodic monitoring: 140.25\n"
    output = parse(text)
    assert (output.memory_init_mb, output.memory_overall_mb) == (4.92969, 138.8)
    assert output.memory_peak_mb == 140.25
    assert parse(with_line("Memory footprint", "")).memory_init_mb is None


@pytest.mark.parametrize(
    ("said", "kind"), [("completely", "all"), ("partially", "part"), ("not", "none")]
)
def test_what_the_delegate_took_over(said, kind):
    line = "Explicitly applied XNNPACK delegate, and the model graph will be "
    line = (line + f"{said} be executed" if said == "not" else line + f"{said} executed").replace(
        "be not be", "not be"
    )
    assert parse(f"{line} by the delegate.\n{EXAMPLE}").delegated == kind


@pytest.mark.parametrize("text", [PROFILE, WITH_START], ids=["newer", "with start"])
def test_the_profile_is_keyed_by_its_header(text):
    (profile,) = parse(EXAMPLE + text, profile=True).profile
    first, second = profile.rows
    assert (first.type, first.name, first.average_ms) == ("CONV_2D", "[a/Relu6]:0", 60.957)
    assert first.share == pytest.approx(0.2066)
    assert (second.type, second.name, second.calls) == ("LceBconv2d", "[b;c\td]:1", 2)
    assert [(kind.type, kind.count) for kind in profile.types] == [
        ("CONV_2D", 1),
        ("LceBconv2d", 1),
    ]
    assert profile.types[1].average_ms == 49.87


def test_a_profile_within_delegates_comes_after_the_graphs():
    inner = PROFILE[PROFILE.index("Operator-wise") :].partition("\n")[2]
    graph, within = parse(EXAMPLE + PROFILE + "Delegate internal: \n" + inner, profile=True).profile
    assert graph == within


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Number of nodes executed: 2", "Number of nodes executed: 3", "says"),
        ("2 nodes observed", "1 nodes observed", "says"),
        ("LceBconv2d\t        1", "LceBconv2d\t        2", "do not agree"),
        ("LceBconv2d\t   53.628", "LceBconv2d\t   nan", None),
        ("20.660%", "-nan%", "cannot be read"),
        ("60.957", "6o.957", "cannot be read"),
        ("\t        2\t[b", "\t       -2\t[b", "cannot be read"),
        ("[avg ms]", "[average]", "other columns"),
        ("Operator-wise", "Whatever", "must hold one line"),
        (
            "Regular Benchmark Runs:\n",
            "Regular Benchmark Runs:\nDropping ProfileBuffer event.\n",
            "small",
        ),
    ],
)
def test_a_profile_that_does_not_agree_with_itself_is_refused(old, new, message):
    assert old in PROFILE
    text = EXAMPLE + PROFILE.replace(old, new)
    if message is None:  # a column that is not read
        parse(text, profile=True)
        return
    with pytest.raises(OutputError, match=message):
        parse(text, profile=True)


def test_a_profile_that_was_asked_for_must_be_there():
    with pytest.raises(OutputError, match="Operator-wise"):
        parse(EXAMPLE, profile=True)
    assert parse(EXAMPLE + PROFILE).profile == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends within a line"),
        ("\n", "Received: 0"),
        (EXAMPLE[:-1], "ends within a line"),
        (with_line("count=16", ""), "Received: 1"),
        (EXAMPLE + "count=50 curr=1 (all same)\n", "Received: 3"),
        (with_line("Inference timings", ""), "Received: 0"),
        (EXAMPLE.replace("avg=31420.6", "avg=31420.9"), "contradicts itself"),
        (EXAMPLE.replace("Inference (avg): 31420.6", "Inference (avg): 3142"), "contradicts"),
        (EXAMPLE.replace("avg=31420.6", "avg=nan"), "cannot be read"),
        (EXAMPLE.replace("std=260", "std=-nan"), "cannot be read"),
        (EXAMPLE.replace("std=260", "std=26000"), "contradicts itself"),
        (EXAMPLE.replace("min=31138", "min=31938"), "contradicts itself"),
        (EXAMPLE.replace("count=50", "count=0"), "contradicts itself"),
        (EXAMPLE.replace("first=31929", "first=99999"), "contradicts itself"),
        (with_line("count=50", "count=50 curr=100\n"), "contradicts itself"),
        (with_line("count=50", "count=0\n"), "cannot be read"),
        (EXAMPLE.replace("overall=46.08", "overall="), "cannot be read"),
        (EXAMPLE.replace("std=260", "std=260 p5=31150 median=31100 p95=31900"), "contradicts"),
        (EXAMPLE.replace("std=260", "std=260 p5=1 median=31200 p95=31900"), "contradicts"),
        (EXAMPLE.replace("std=260", "std=260 p5=31150"), "cannot be read"),
        (EXAMPLE + "ERROR: Benchmarking failed.\n", "reports an error: Benchmarking failed."),
        (EXAMPLE + "E tflite  : no such op\n", "reports an error: no such op"),
        ("WARN: Unconsumed cmdline flags: --use_indirect_bgemm=true\n" + EXAMPLE, "older than"),
    ],
)  # fmt: skip
def test_what_is_not_whole_or_contradicts_itself_is_refused(text, message):
    with pytest.raises(OutputError, match=message):
        parse(text)


@st.composite
def durations(draw):
    """Microseconds of some runs, and whether the tool is a newer one."""
    times = draw(st.lists(st.integers(1, 10**9), min_size=1, max_size=6))
    return times, draw(st.booleans())


def printed(times, percentiles):
    """The `count=` line and the average as C++ prints them."""
    average = f"{sum(times) / len(times):.6g}"
    spread = math.isqrt(int(sum((t - sum(times) / len(times)) ** 2 for t in times) / len(times)))
    if min(times) == max(times):
        line = f"count={len(times)} curr={times[-1]}" + ("(all same)" if len(times) > 1 else "")
        return line, average
    line = f"count={len(times)} first={times[0]} curr={times[-1]} min={min(times)} "
    line += f"max={max(times)} avg={average} std={spread}"
    if percentiles:
        ordered = sorted(times)
        line += f" p5={ordered[0]} median={ordered[len(times) // 2]} p95={ordered[-1]}"
    return line, average


@st.composite
def outputs(draw):
    """A whole output, and the times that it tells."""
    warmup, regular = draw(durations()), draw(durations())
    init = draw(st.integers(0, 10**7))
    (first_line, first), (second_line, second) = printed(*warmup), printed(*regular)
    text = (
        f"STARTING!\nNum threads: [4]\n{first_line}\n\n{second_line}\n\n"
        f"Inference timings in us: Init: {init}, First inference: {warmup[0][0]}, "
        f"Warmup (avg): {first}, Inference (avg): {second}\n"
        f"Memory footprint delta from the start of the tool (MB): init=4.21094 overall=46.0859\n"
    )
    return text, warmup[0], regular[0]


@settings(deadline=None)
@given(outputs(), st.sampled_from(["", "INFO: ", "I tflite  : "]))
def test_any_times_come_back(case, prefix):
    text, warmup, regular = case
    output = parse(prefixed(text, prefix))
    for times, read in ((warmup, output.warmup), (regular, output.inference)):
        assert (read.count, read.first_us) == (len(times), times[0])
        assert (read.min_us, read.max_us) == (min(times), max(times))
        assert read.average_us == pytest.approx(sum(times) / len(times), rel=1e-5)


@settings(deadline=None)
@given(outputs(), st.data())
def test_an_output_cut_anywhere_is_refused_or_tells_the_same(case, data):
    text, *_ = case
    whole = parse(text)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    try:
        rest = parse(cut)
    except OutputError:
        return
    # What is there is right; only memory, which comes last, may be missing.
    assert (rest.init_us, rest.warmup, rest.inference) == (
        whole.init_us,
        whole.warmup,
        whole.inference,
    )
    assert rest.memory_overall_mb in (None, whole.memory_overall_mb)


@settings(deadline=None)
@given(st.data())
def test_a_profile_cut_anywhere_is_refused_or_tells_the_same(data):
    text = EXAMPLE + PROFILE
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    try:
        rest = parse(cut, profile=True)
    except OutputError:
        return
    assert rest == parse(text, profile=True)


@settings(deadline=None)
@given(outputs(), st.data())
def test_lines_lost_doubled_or_swapped_never_change_a_number(case, data):
    text, *_ = case
    whole = parse(text)
    # Two stretches of one mean could change places unseen, but for what they share anyway.
    assume(not math.isclose(whole.warmup.average_us, whole.inference.average_us, rel_tol=1e-3))
    lines = text.splitlines(keepends=True)
    i, j = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    how = data.draw(st.sampled_from(["lose", "double", "swap"]))
    if how == "lose":
        del lines[i]
    elif how == "double":
        lines.insert(j, lines[i])
    else:
        lines[i], lines[j] = lines[j], lines[i]
    try:
        output = parse("".join(lines))
    except OutputError:
        return
    assert (output.warmup, output.inference, output.init_us) == (
        whole.warmup,
        whole.inference,
        whole.init_us,
    )


PIECES = st.sampled_from(
    [*EXAMPLE.splitlines(keepends=True), *PROFILE.splitlines(keepends=True), "\n", "count=", "\t"]
)


@settings(deadline=None)
@given(st.lists(st.one_of(PIECES, st.text(max_size=20)), max_size=40), st.booleans())
def test_any_text_gives_a_record_or_a_clear_error(pieces, profile):
    try:
        output = parse("".join(pieces), profile=profile)
    except OutputError:
        return
    assert isinstance(output, ToolOutput)
    assert 0 <= output.inference.min_us <= output.inference.max_us < math.inf


@settings(deadline=None)
@given(st.data())
def test_one_changed_character_of_a_profile_gives_a_record_or_a_clear_error(data):
    place = data.draw(st.integers(0, len(PROFILE) - 1))
    character = data.draw(st.characters())
    assume(character != PROFILE[place])
    changed = PROFILE[:place] + character + PROFILE[place + 1 :]
    try:
        profiles = parse_profiles(changed.split("\n"))
    except OutputError:
        return
    assert [len(profile.rows) for profile in profiles] == [2]
