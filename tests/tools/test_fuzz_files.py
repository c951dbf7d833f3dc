"""What `tools/fuzz_files.py` demands of every damaged file, for some tens; all of them are slow."""

import os
import signal

import pytest


@pytest.fixture(scope="module")
def tools(load_tool):
    load_tool("experiments")
    damaged = load_tool("damaged_files")
    return load_tool("fuzz_files"), damaged


@pytest.fixture(scope="module")
def fuzzer(tools, tmp_path_factory):
    tool, _ = tools
    folder = tmp_path_factory.mktemp("fuzz")
    tool.make_run(folder / "run")
    made = tool.Fuzzer(folder / "run", folder)
    made.check_whole_files_pass()
    yield made
    made.caller.close()


def faults(tallies):
    return [text for tally in tallies.values() for text in tally.faults]


def test_damaged_flatbuffers_end_in_one_clear_line(tools, fuzzer):
    tool, damaged = tools
    cases = damaged.flatbuffers(30, 1, fuzzer.whole(tool.FLATBUFFERS))
    tallies = tool.fuzz(fuzzer, cases)
    assert faults(tallies) == []
    assert tallies["truncated"].refused == tallies["truncated"].cases >= 9
    assert sum(tally.ran for tally in tallies.values()) > 0  # damaged weights only


def test_damaged_archives_end_in_one_clear_line(tools, fuzzer):
    tool, damaged = tools
    cases = damaged.archives(20, 1, fuzzer.whole(tool.ARCHIVES))
    tallies = tool.fuzz(fuzzer, cases)
    assert faults(tallies) == []
    assert sum(tally.refused for tally in tallies.values()) >= 15


def test_a_crash_is_counted_and_survived(fuzzer):
    os.kill(fuzzer.caller.process_id, signal.SIGKILL)
    outcome = fuzzer.caller.call(["inspect", "anything"])
    assert (outcome.status, outcome.error) == (None, "crashed with status -9")
    assert fuzzer.caller.deaths == 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_damaged_files(tools, tmp_path):
    tool, _ = tools
    assert tool.main(["--out", str(tmp_path)]) == 0
    text = (tmp_path / tool.NAME).read_text(encoding="utf-8")
    assert "crashed or hung 0 times" in text


@pytest.mark.parametrize(
    ("arguments", "left", "word"),
    [
        ((None, "", "crashed with status -11", 1.0), [], "crashed"),
        ((0, "", "", 1.0), [], "no result"),
        ((2, "", "bitat: not a zip\nTraceback", 1.0), [], "no clear line"),
        ((2, "", "", 1.0), [], "no clear line"),
        ((1, "", "bitat: KeyError: 'a' (run with --verbose for the details)", 1.0), [], "clear"),
        ((2, "", "bitat: damaged", 11.0), [], "after 11.0 s"),
        ((2, "", "bitat: damaged", 1.0), ["out.tflite"], "left out.tflite"),
        ((2, "", "bitat: damaged", 1.0, 5000.0), [], "5000 MB"),
        ((-9, "", "bitat: damaged", 1.0), [], "exit status -9"),
    ],
)
def test_what_goes_wrong_is_seen(tools, arguments, left, word):
    tool, _ = tools
    assert word in tool.fault(tool.Outcome(*arguments), left)


def test_an_error_or_a_result_is_right(tools):
    tool, _ = tools
    assert tool.fault(tool.Outcome(2, "", "bitat: damaged\n", 1.0), []) is None
    assert tool.fault(tool.Outcome(0, "table", "progress\n", 50.0), ["out.tflite"]) is None


def test_cases_are_the_same_for_the_same_seed(tools, tmp_path):
    _, damaged = tools
    written = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        for case in damaged.flatbuffers(20, 7, [bytes(range(256)) * 40] * 2):
            if case.kind not in ("structure", "bomb"):  # these read a real one, or are huge
                case.write(folder / case.name)
        files = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
        written.append(files)
    assert written[0] == written[1]
    assert len(written[0]) >= 15
