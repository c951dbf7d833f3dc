"""`bitat benchmark --device android` as a user starts it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from bitat_tf import report
from bitat_tf.android_results import AndroidBenchmark
from bitat_tf.cli import main
from bitat_tf.recipe_files import load_recipe
from bitat_tf.records import from_json, to_mapping
from bitat_tf.results import RunResult
from bitat_tf.run_directory import start

ONE_SETTING = ["--kernels", "default", "--xnnpack", "off"]


@pytest.fixture
def files(flatbuffers, tmp_path):
    """The two models as files."""
    paths = []
    for name, content in flatbuffers.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(content)
    return [str(path) for path in paths]


def benchmark(files, tool, *more):
    command = ["benchmark", *files, "--device", "android", "--binary", str(tool), *more]
    return main([*command, *ONE_SETTING])


def read(out):
    return from_json(AndroidBenchmark, (out / "benchmark.json").read_text())


def test_files_are_measured_and_reported(attach, tool, files, tmp_path, capsys):
    device, out = attach(), tmp_path / "figures"
    more = ["--threads", "1", "4", "--rounds", "2", "--profile", "--out", str(out)]
    assert benchmark(files, tool(), *more) == 0
    assert [(r.threads, len(r.rounds)) for r in read(out).records] == [
        (1, 2),
        (1, 2),
        (4, 2),
        (4, 2),
    ]
    text = (out / "benchmark.md").read_text()
    assert text.startswith("# Latency on Nobody Stand-in 6")
    assert text.count("| 4.020 |") == 4
    printed = capsys.readouterr()
    assert printed.out.count("4.020 ") >= 4
    assert "round 2/2" in printed.err
    assert device.left_over == []


def test_a_run_directory_keeps_the_figures_beside_the_hosts(
    attach, tool, flatbuffers, tmp_path, capsys
):
    device, run = attach(), tmp_path / "run"
    recipe = load_recipe("digits-demo")
    start(run, recipe)
    report.save(RunResult(to_mapping(recipe), {}, "a machine"), run)
    for name, content in zip(("model", "teacher"), flatbuffers.values(), strict=True):
        (run / f"{name}.tflite").write_bytes(content)
    for _ in range(2):  # the second session takes the first one's place
        assert benchmark([str(run)], tool(), "--rounds", "1") == 0
    (session,) = report.load(run).android
    assert [record.model for record in session.records] == ["binary", "float"]
    assert session.device.serial == device.serial
    text = (run / "report.md").read_text()
    assert "## Latency on Nobody Stand-in 6" in text
    assert "fastest float / this" in text
    capsys.readouterr()


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [("fail", 1, "settings failed"), ("garbage", 1, "output cannot be used")],
)
def test_a_failure_keeps_what_was_finished(
    attach, tool, files, tmp_path, capsys, kind, status, message
):
    attach()
    out = tmp_path / "figures"
    more = ["--rounds", "2", "--out", str(out)]
    assert benchmark(files, tool(then=kind, after=2), *more) == status
    assert message in capsys.readouterr().err.splitlines()[-1]
    kept = read(out)
    assert [len(record.rounds) for record in kept.records] == [1, 1]
    assert len(kept.failures) == 2
    assert "Not measured to the end" in (out / "benchmark.md").read_text()


def test_what_cannot_start_has_status_2_and_writes_nothing(adb, tool, files, tmp_path, capsys):
    out = tmp_path / "figures"
    assert benchmark(files, tool(), "--out", str(out)) == 2
    assert "No device is attached" in capsys.readouterr().err
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--data-dir", "x"], "--data-dir goes with a run directory"),
        (["--cpu-mask", "f0"], "--cpu-mask goes with --device android"),
        (["--threads", "1", "2"], "Several --threads go with"),
        (["--device", "android", "--rounds", "0"], "`rounds` must be"),
        (["--device", "android", "--cool-below", "nan"], "`cool_below` must be"),
        (["--device", "android", "--threads", "99"], "`threads` must be at most 64"),
    ],
)
def test_arguments_that_do_not_go_together(files, more, message, capsys):
    assert main(["benchmark", *files, *more]) == 2
    assert message in capsys.readouterr().err


def test_ctrl_c_cleans_the_phone_and_keeps_the_figures(attach, tool, files, tmp_path):
    device, out = attach(), tmp_path / "figures"
    command = [sys.executable, "-m", "bitat_tf", "benchmark", *files, "--device", "android"]
    command += ["--binary", str(tool(then="hang", after=2)), "--out", str(out), *ONE_SETTING]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # pytest-xdist's workers ignore Ctrl-C, which their children would inherit
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        while device.tool_starts < 3 and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        for _ in range(2):  # as a terminal does, to all it has started; and users are impatient
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.05)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "bitat: stopped"
    assert device.left_over == []
    assert device.running_tools() == []
    assert [len(record.rounds) for record in read(out).records] == [1, 1]
