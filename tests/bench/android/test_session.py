"""The whole way through the real `adb` client, server and a stand-in for the phone."""

import hashlib
import time

import pytest

from bitat_tf import convert
from bitat_tf.bench import android
from bitat_tf.bench.android import DeviceError, HeatLimits, MeasurementError, Options
from bitat_tf.bench.android.adb import Adb
from bitat_tf.bench.android.errors import DeviceLost, StorageFull, TimedOut, ToolFailed

NASTY = ("a; rm -rf x.tflite", "$(reboot)", "`reboot`", "it's", 'say "hi"', "a\nb", "-n", "*", "")


def quick(tool, **changes):
    """One setting, two rounds."""
    options = {"kernels": ("default",), "xnnpack": (False,), "rounds": 2, "binary": tool}
    return Options(**{**options, **changes})


@pytest.fixture
def model(flatbuffers):
    """The binary model alone, under its nasty name."""
    name, content = next(iter(flatbuffers.items()))
    return {name: content}


def measure_failing(model, options, kind):
    """The error, and the measurements that were finished before it."""
    with pytest.raises(kind) as caught:
        android.measure(model, options)
    return str(caught.value), caught.value.finished


@pytest.mark.parametrize("features", [("shell_v2", "cmd", "stat_v2"), ("cmd",)], ids=["v2", "v1"])
def test_exit_status_output_and_arguments_survive_the_way(attach, features):
    adb = Adb(serial=attach(features=features).serial)
    done = adb.script("echo out; echo wrong >&2; false", what="a test")
    assert done.status == 1
    assert "out\n" in done.stdout
    assert "wrong" in done.stdout + done.stderr
    done = adb.shell("printf", "%s|", *NASTY)
    assert (done.status, done.stdout) == (0, "".join(f"{word}|" for word in NASTY))


def test_two_models_two_thread_counts_and_the_profile(attach, tool, flatbuffers):
    device = attach()
    for folder in (device.root, device.root / "data/local/tmp"):
        (folder / "x.tflite").write_text("dear to somebody")
    said = []
    path = tool("run")
    benchmark = android.measure(
        flatbuffers,
        Options(binary=path, threads=(1, 4), rounds=2, repeats=5, profile=True),
        on_progress=lambda _, text: said.append(text),
    )
    binary, dense = flatbuffers
    rows = [(r.threads, r.kernel, r.xnnpack, r.model) for r in benchmark.records]
    assert rows == [
        (threads, kernel if name == binary else "none", xnnpack, name)
        for threads in (1, 4)
        for kernel in ("default", "indirect")
        for xnnpack in (False, True)
        for name in (binary, dense)
        if name == binary or kernel == "default"
    ]
    operators = {name: len(convert.audit(content).ops) for name, content in flatbuffers.items()}
    for record in benchmark.records:
        assert record.model_sha256 == hashlib.sha256(flatbuffers[record.model]).hexdigest()
        assert record.cpu_mask == {1: "c0", 4: "f0"}[record.threads]
        assert [r.runs for r in record.rounds] == [5, 5]
        assert all(0 < r.min_ms <= r.average_ms <= r.max_ms for r in record.rounds)
        assert record.statistic == "mean"  # this tool printed no median
        assert len(record.operators) == operators[record.model]
        assert record.memory_peak_mb == 48.5
    assert {o.type for r in benchmark.records for o in r.operators} >= {"LceBconv2d", "CONV_2D"}
    # A B A B: the models alternate within each setting, and the rounds are outermost.
    first = [text for text in said if text.startswith("round 1/2")]
    assert [text.split(": ", 1)[1] for text in first] == [
        text.split(": ", 1)[1] for text in said if text.startswith("round 2/2")
    ]
    assert binary in first[0]
    assert dense in first[1]
    assert set(device.masks) == {"c0", "f0"}
    assert benchmark.binary_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert device.left_over == ["x.tflite"]
    assert (device.root / "x.tflite").exists()
    assert not any("reboot" in command or "rm -rf x" in command for command in device.commands)


def test_what_the_phone_says_of_itself(attach, tool, model):
    device = attach()
    found = android.measure(model, quick(tool(), rounds=1)).device
    assert (found.serial, found.model) == (device.serial, "Nobody Stand-in 6")
    assert (found.soc, found.android, found.sdk) == ("Nobody GS-101", "14", "34")
    assert (found.abi, len(found.abis)) == ("arm64-v8a", 3)
    assert (found.battery_percent, found.power) == (85, "USB")
    assert (found.heat.celsius, found.heat.source, found.heat.status) == (31.0, "skin", 0)
    assert [core.max_khz for core in found.cores] == [1803000] * 4 + [2253000] * 2 + [2802000] * 2
    assert found.cores[7].limit_khz == 1826000
    assert {core.governor for core in found.cores} == {"schedutil"}


def test_a_tool_that_prints_medians_and_an_old_shell(attach, tool, model):
    device = attach(features=("cmd",))
    (record,) = android.measure(model, quick(tool(), cpu_mask="0x30", profile=True)).records
    assert record.statistic == "median"
    assert record.latency_ms == 4.02
    assert record.rounds[0].average_ms == pytest.approx(4.03)
    assert [o.type for o in record.operators] == ["CONV_2D", "LceBconv2d", "LceBconv2d"]
    assert set(device.masks) == {"30"}
    assert device.left_over == []


def test_flatbuffer_alone_needs_no_name(attach, tool, model):
    attach()
    (content,) = model.values()
    (record,) = android.measure(content, quick(tool(), rounds=1)).records
    assert record.model == "model"


def test_the_right_phone_of_several(attach, tool, model, monkeypatch):
    first, second = attach(), attach()
    with pytest.raises(DeviceError, match="Several devices"):
        android.measure(model, quick(tool()))
    benchmark = android.measure(model, quick(tool(), rounds=1, serial=second.serial))
    assert benchmark.device.serial == second.serial
    assert (first.tool_starts, second.tool_starts) == (0, 1)
    monkeypatch.setenv("ANDROID_SERIAL", first.serial)
    assert android.measure(model, quick(tool(), rounds=1)).device.serial == first.serial


def test_a_hot_phone_is_waited_for(attach, tool, model):
    attach()
    heat = HeatLimits(cool_below=36, poll_seconds=0.1)
    (record,) = android.measure(model, quick(tool(heats=True), heat=heat)).records
    first, second = record.rounds
    assert (first.waited_seconds, first.heat.celsius) == (0, 31)
    assert second.heat.celsius == 34  # 46, cooled by 4 with each look
    assert second.waited_seconds >= 0.3
    assert not second.hot


def test_a_phone_that_stays_hot_is_marked(attach, tool, model):
    attach()
    heat = HeatLimits(cool_below=20, max_wait_seconds=0.2, poll_seconds=0.1)
    (record,) = android.measure(model, quick(tool(), heat=heat, rounds=1)).records
    assert record.rounds[0].hot


def test_no_device(adb, tool, model):
    with pytest.raises(DeviceError, match="No device is attached"):
        android.measure(model, quick(tool()))


def test_an_unauthorised_device(attach, tool, model):
    attach(authorised=False)
    with pytest.raises(DeviceError, match="not authorised"):
        android.measure(model, quick(tool()))


def test_an_offline_device(attach, adb, tool, model):
    attach().vanish()
    deadline = time.monotonic() + 10
    while "offline" not in adb("devices") and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(DeviceError, match="offline"):
        android.measure(model, quick(tool()))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ({"machine": 62}, "was built for x86_64; device .* runs arm64-v8a, armeabi-v7a"),
        ({"linker": b"/lib/ld-linux-aarch64.so.1"}, "for Linux .* not for Android"),
    ],
)
def test_a_tool_for_another_system_is_not_pushed(attach, tool, model, program, message):
    device = attach()
    with pytest.raises(DeviceError, match=message):
        android.measure(model, quick(tool(**program)))
    assert device.left_over == []
    assert not any("mkdir" in command for command in device.commands)


def test_a_missing_tool(attach, tool, model, tmp_path, monkeypatch):
    attach()
    with pytest.raises(DeviceError, match=r"no benchmark tool at /no/such/tool.*releases"):
        android.measure(model, quick("/no/such/tool"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DeviceError, match=f"no benchmark tool at {tmp_path}"):
        android.measure(model, quick(None))
    android.cache_directory().mkdir(parents=True)
    tool().rename(android.cache_directory() / "lce_benchmark_model_android_arm64")
    assert android.measure(model, quick(None, rounds=1)).records


def test_a_file_that_is_no_program(attach, model, tmp_path):
    attach()
    (tmp_path / "tool").write_text("<html>404</html>")
    with pytest.raises(DeviceError, match="cannot be the benchmark tool"):
        android.measure(model, quick(tmp_path / "tool"))


def test_a_damaged_flatbuffer_never_reaches_the_phone(attach, tool, model):
    device = attach()
    (content,) = model.values()
    with pytest.raises(ValueError, match="truncated or corrupt"):
        android.measure(content[:-50], quick(tool()))
    assert device.commands == []


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("crash", r"status 139 \(signal 11\)"),
        ("fail", "status 1: ERROR: Benchmarking failed."),
        ("garbage", "its output cannot be used"),
    ],
)
def test_a_tool_that_fails_half_way_keeps_what_was_finished(attach, tool, model, kind, message):
    device = attach()
    said, finished = measure_failing(model, quick(tool(then=kind, after=1), rounds=3), ToolFailed)
    assert "1 of 1 settings failed" in said
    (failure,) = finished.failures
    assert message.replace("\\", "") in failure.reason
    (record,) = finished.records
    assert len(record.rounds) == 1
    assert device.tool_starts == 2  # not tried again
    assert device.left_over == []


def test_a_tool_that_runs_something_else_than_it_was_told(attach, tool, model):
    attach()
    said, _ = measure_failing(model, quick(tool("stubborn"), threads=(2,)), ToolFailed)
    assert "Num threads: [1] instead of [2]" in said


def test_one_models_failure_does_not_stop_the_others(attach, tool, flatbuffers):
    attach()
    options = quick(tool(then="fail", after=3), rounds=2)  # the fourth start: the second's second
    said, finished = measure_failing(flatbuffers, options, ToolFailed)
    assert [len(record.rounds) for record in finished.records] == [2, 1]
    assert "1 of 2 settings failed" in said


def test_a_hang_ends_the_session_and_the_tool(attach, tool, model):
    device = attach()
    options = quick(tool(then="hang", after=1), timeout_seconds=3)
    said, finished = measure_failing(model, options, TimedOut)
    assert "did not finish" in said
    assert "in 3 s" in said
    assert "could not be removed" not in said
    assert len(finished.records[0].rounds) == 1
    assert device.left_over == []
    assert device.running_tools() == []


def test_a_full_phone(attach, tool, model):
    device = attach(full=True)
    said, finished = measure_failing(model, quick(tool()), StorageFull)
    assert "is full" in said
    assert finished.records == ()
    assert device.left_over == []


def test_a_connection_that_breaks_half_way(attach, tool, model):
    device = attach(lose_at=2)
    said, finished = measure_failing(model, quick(tool(then="hang", after=1)), DeviceLost)
    assert "was lost" in said
    assert "could not be removed" not in said
    assert len(finished.records[0].rounds) == 1
    assert device.left_over == []
    assert device.running_tools() == []


def test_a_phone_that_is_gone_for_good_says_what_is_left_on_it(attach, tool, model, monkeypatch):
    monkeypatch.setattr(android.remote, "_RETURN_SECONDS", 1.0)
    device = attach(lose_at=2, comes_back=False)
    said, finished = measure_failing(model, quick(tool(then="hang", after=1)), DeviceLost)
    (left,) = device.left_over
    assert f"shell rm -rf /data/local/tmp/{left}" in said
    assert len(finished.records[0].rounds) == 1


def test_every_measurement_so_far_is_handed_out(attach, tool, model):
    attach()
    counts = []
    android.measure(
        model,
        quick(tool()),
        on_progress=lambda benchmark, _: counts.append(
            sum(len(record.rounds) for record in benchmark.records)
        ),
    )
    assert counts == [0, 0, 1, 2]


def test_an_error_of_the_callers_own_leaves_nothing_behind(attach, tool, model):
    device = attach()

    def stop(_, text):
        if text.startswith("round 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        android.measure(model, quick(tool()), on_progress=stop)
    assert device.left_over == []


def test_the_stand_in_serves_files_in_both_directions(attach, adb, tmp_path):
    device = attach(features=("shell_v2", "cmd"))  # with the old stat requests
    content = bytes(range(256)) * 700
    (tmp_path / "there").write_bytes(content)
    adb("-s", device.serial, "push", str(tmp_path / "there"), "/data/local/tmp/f")
    adb("-s", device.serial, "pull", "/data/local/tmp/f", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content


def test_errors_are_told_apart():
    assert issubclass(DeviceError, ValueError)  # exit status 2
    assert issubclass(MeasurementError, RuntimeError)  # exit status 1
