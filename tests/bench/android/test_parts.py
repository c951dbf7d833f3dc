"""The parts that need no phone: quoting, choosing, masks, heat, ELF headers, readers of text."""

import dataclasses
import shlex
import struct
import subprocess
from pathlib import Path

import pytest
from conftest import elf
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_in import PHONE

from bitat_tf.android_results import CoreRecord, HeatRecord
from bitat_tf.bench.android import DeviceError, HeatLimits, Options, cache_directory
from bitat_tf.bench.android.adb import Adb, Attached, choose, parse_devices, quoted
from bitat_tf.bench.android.cores import check_mask, fastest_cores, mask_of
from bitat_tf.bench.android.device import (
    parse_battery,
    parse_cores,
    parse_heat,
    parse_properties,
)
from bitat_tf.bench.android.elf import read_program
from bitat_tf.bench.android.heat import cool_down, decide
from bitat_tf.bench.android.options import Setting
from bitat_tf.bench.android.remote import RemoteDirectory

BATTERY = (PHONE / "dumpsys/battery").read_text()
THERMAL = (PHONE / "dumpsys/thermalservice").read_text().replace("@SKIN@", "37.5")
WORDS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))


@given(WORDS)
def test_quoted_arguments_come_back(arguments):
    assert shlex.split(quoted(arguments)) == arguments


@settings(max_examples=10, deadline=None)  # each starts a shell
@given(WORDS)
def test_a_shell_sees_the_arguments_that_were_quoted(arguments):
    script = f'set -- {quoted(arguments)}\nprintf \'%s\\0\' "$#" "$@"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    counted, *seen = done.stdout.decode(errors="surrogateescape").split("\0")[:-1]
    assert (int(counted), seen) == (len(arguments), arguments)


DEVICES = """\
* daemon started successfully
List of devices attached
emulator-5554\tdevice
HT7A1\tunauthorized
R58\toffline
0123\tno permissions (user in plugdev group; are your udev rules wrong?); see [http://x]
192.168.0.2:5555\trecovery

"""


def test_the_list_of_devices():
    assert [(a.serial, a.state) for a in parse_devices(DEVICES)] == [
        ("emulator-5554", "device"),
        ("HT7A1", "unauthorized"),
        ("R58", "offline"),
        ("0123", "no permissions"),
        ("192.168.0.2:5555", "recovery"),
    ]
    assert parse_devices("List of devices attached\n\n") == ()


@pytest.mark.parametrize(
    ("attached", "serial", "chosen"),
    [
        ({"a": "device"}, None, "a"),
        ({"a": "device", "b": "device"}, "b", "b"),
        ({"a": "offline", "b": "device"}, None, "b"),
    ],
)
def test_a_device_is_chosen(attached, serial, chosen):
    assert choose([Attached(*pair) for pair in attached.items()], serial) == chosen


@pytest.mark.parametrize(
    ("attached", "serial", "message"),
    [
        ({}, None, "No device is attached"),
        ({}, "a", "No device is attached"),
        ({"a": "device"}, "b", r"No device has the serial 'b'. Attached: a \(device\)"),
        ({"a": "device", "b": "device"}, None, "Several devices.*--serial"),
        ({"a": "unauthorized"}, None, "not authorised.*Unlock its screen"),
        ({"a": "offline"}, None, "offline"),
        ({"a": "no permissions"}, "a", "udev"),
        ({"a": "recovery", "b": "offline"}, "a", "'recovery'"),
    ],
)
def test_a_device_that_cannot_be_used_is_named_with_a_remedy(attached, serial, message):
    with pytest.raises(DeviceError, match=message):
        choose([Attached(*pair) for pair in attached.items()], serial)


def test_a_missing_adb_is_named_with_a_remedy():
    with pytest.raises(DeviceError, match=r"no `no-such-adb` command. Install"):
        Adb("no-such-adb")


def cores(*megahertz):
    return [CoreRecord(i, f and 1000 * f) for i, f in enumerate(megahertz)]


@pytest.mark.parametrize(
    ("frequencies", "threads", "mask"),
    [
        ((1800,) * 4 + (2400,) * 3 + (2800,), 1, "80"),
        ((1800,) * 4 + (2400,) * 3 + (2800,), 4, "f0"),
        ((1800,) * 4 + (2400,) * 3 + (2800,), 5, "ff"),
        ((2400,) * 2 + (1800,) * 6, 2, "3"),  # the fast ones need not come last
        ((2000,) * 4, 1, "f"),
        ((1800, 1800, None, 2800), 1, "8"),  # core 2 is offline
        ((1800, 1800), 8, "3"),
        ((None, None), 1, ""),
        ((), 1, ""),
    ],
)
def test_the_fastest_clusters_are_taken_until_each_thread_has_a_core(frequencies, threads, mask):
    assert mask_of(fastest_cores(cores(*frequencies), threads)) == mask


@given(st.lists(st.one_of(st.none(), st.integers(1, 5)), max_size=12), st.integers(1, 12))
def test_no_core_left_out_is_faster_than_one_taken(frequencies, threads):
    chosen = fastest_cores(cores(*frequencies), threads)
    known = {i for i, f in enumerate(frequencies) if f is not None}
    assert len(chosen) >= min(threads, len(known))
    slowest = min((frequencies[i] for i in chosen), default=0)
    assert all(frequencies[i] < slowest for i in known - set(chosen))


@pytest.mark.parametrize("given_mask", ["f0", "0xF0", "00f0"])
def test_a_users_mask_is_normalised(given_mask):
    assert check_mask(given_mask, cores(*[1] * 8)) == "f0"
    assert check_mask(given_mask, ()) == "f0"


@pytest.mark.parametrize("mask", ["", "0", "0x", "g", "f0; reboot", "-1", "100", "٣"])
def test_a_mask_that_cannot_be_is_refused(mask):
    with pytest.raises(ValueError, match="`cpu_mask` must"):
        check_mask(mask, cores(*[1] * 8))


@pytest.mark.parametrize(
    ("heat", "waited", "decision"),
    [
        (HeatRecord(35.9, "skin", 0), 0, "go"),
        (HeatRecord(36.0, "skin", 0), 0, "wait"),
        (HeatRecord(30.0, "skin", 1), 10, "wait"),  # throttles, whatever the sensor says
        (HeatRecord(50.0, "battery", None), 300, "give_up"),
        (HeatRecord(), 0, "go"),  # a phone that tells nothing
    ],
)
def test_what_to_do_about_heat(heat, waited, decision):
    assert decide(heat, waited, HeatLimits()) == decision


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds


def test_a_hot_phone_is_waited_for_until_it_is_cool():
    clock, values = Clock(), iter([45, 40, 37, 35])
    waited = cool_down(
        lambda: HeatRecord(next(values), "skin", 0), HeatLimits(), clock=clock, sleep=clock.sleep
    )
    assert (waited.heat.celsius, waited.seconds, waited.hot) == (35, 15.0, False)


def test_a_phone_that_stays_hot_is_measured_after_the_limit_and_marked():
    clock = Clock()
    limits = HeatLimits(max_wait_seconds=12, poll_seconds=5)
    waited = cool_down(lambda: HeatRecord(45, "skin", 2), limits, clock=clock, sleep=clock.sleep)
    assert (waited.seconds, waited.hot) == (12.0, True)
    assert cool_down(
        lambda: HeatRecord(45, "skin", 2),
        HeatLimits(max_wait_seconds=0),
        clock=clock,
        sleep=clock.sleep,
    ).hot


@pytest.mark.parametrize(
    "broken", [{"cool_below": 0}, {"max_wait_seconds": -1}, {"poll_seconds": 0}]
)
def test_limits_of_heat_that_cannot_be_are_refused(broken):
    (name,) = broken
    with pytest.raises(ValueError, match=f"`{name}` must"):
        HeatLimits(**broken)


def test_heat_is_the_skins_fresh_one_or_else_the_batterys():
    assert parse_heat(THERMAL, BATTERY) == HeatRecord(37.5, "skin", 0)
    assert parse_heat("Can't find service: thermalservice", BATTERY) == HeatRecord(29.8, "battery")
    assert parse_heat(THERMAL.replace("Status: 0", "Status: 3"), "").status == 3
    absurd = THERMAL.replace("=37.5", "=-274.0")
    assert parse_heat(absurd, BATTERY) == HeatRecord(29.8, "battery", 0)
    assert parse_heat(THERMAL.replace("=37.5", "=NaN"), "") == HeatRecord(None, "", 0)
    assert parse_heat("", "") == HeatRecord()


def test_cores_are_read_by_index_and_offline_ones_have_no_frequency():
    text = "/sys/x/cpu10|2000000|1500000|performance\n/sys/x/cpu2|||\nnoise\n/sys/x/cpufreq|1|1|g\n"
    assert parse_cores(text) == (
        CoreRecord(2),
        CoreRecord(10, 2_000_000, 1_500_000, "performance"),
    )


def test_properties_and_battery():
    properties = parse_properties((PHONE / "getprop.txt").read_text() + "[a]: [b]: [c]]\nnoise")
    assert properties["ro.soc.model"] == "GS-101"
    assert properties["a"] == "b]: [c]"
    assert parse_battery(BATTERY)["USB powered"] == "true"


def test_an_arm_program_for_android_is_recognised():
    program = read_program(elf())
    assert (program.abi, program.linker) == ("arm64-v8a", "/system/bin/linker64")
    assert program.for_android
    assert not read_program(elf(linker=b"/lib/ld-linux-aarch64.so.1")).for_android
    assert read_program(elf(62)).abi == "x86_64"
    assert "machine 21 " in read_program(elf(21)).abi


def test_this_computers_own_programs_are_for_linux():
    program = read_program(Path("/bin/sh").resolve().read_bytes())
    assert not program.for_android


def test_a_32_bit_static_program():
    header = struct.pack("<4s5B7x", b"\x7fELF", 1, 1, 1, 0, 0)
    header += struct.pack("<HHIIIIIHHHHHH", 2, 40, 1, 0, 52, 0, 0, 52, 32, 0, 0, 0, 0)
    program = read_program(header)
    assert (program.abi, program.for_android) == ("armeabi-v7a", True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no ELF header"),
        (b"#!/bin/sh\necho hello", "no ELF header"),
        (b"PK\x03\x04" + bytes(100), "no ELF header"),
        (elf()[:40], "cut off"),
        (elf()[:100], "cut off"),
        (elf()[:130], "cut off"),
        (elf()[:16] + b"\x01\x00" + elf()[18:], "ELF type 1"),  # an object file
    ],
)
def test_what_is_no_program_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        read_program(content)


@given(st.binary(max_size=200).map(lambda rest: elf()[:4] + rest))
def test_any_header_gives_a_program_or_a_clear_error(content):
    try:
        assert read_program(content).abi
    except ValueError as err:
        assert str(err)  # noqa: PT017  either will do


def test_the_tools_command_line_says_everything_explicitly():
    options = Options(repeats=20, warmup=3, timeout_seconds=90)
    setting = Setting(4, "indirect", False)
    assert options.arguments(setting, "model0.tflite", profile=False) == (
        "--graph=model0.tflite",
        "--num_threads=4",
        "--num_runs=20",
        "--warmup_runs=3",
        "--max_secs=30",
        "--use_xnnpack=false",
        "--use_indirect_bgemm=true",
        "--use_reference_bconv=false",
        "--enable_op_profiling=false",
        "--report_peak_memory_footprint=false",
    )
    profiled = options.arguments(Setting(1, "none", True), "m", profile=True)
    assert {"--use_xnnpack=true", "--use_indirect_bgemm=false"} <= set(profiled)
    assert {"--enable_op_profiling=true", "--report_peak_memory_footprint=true"} <= set(profiled)


def test_settings_are_all_combinations_and_float_models_have_no_kernel():
    options = Options(threads=(1, 4))
    assert len(options.settings(binary=True)) == 2 * 2 * 2
    assert {s.kernel for s in options.settings(binary=False)} == {"none"}
    assert len(options.settings(binary=False)) == 2 * 2


@pytest.mark.parametrize(
    "broken",
    [
        {"threads": ()},
        {"threads": (0,)},
        {"threads": (65,)},
        {"threads": (1, 1)},
        {"threads": (True,)},
        {"kernels": ("reference",)},
        {"kernels": ()},
        {"xnnpack": ()},
        {"rounds": 0},
        {"repeats": 0},
        {"warmup": 0},
        {"timeout_seconds": 1},
    ],
)
def test_options_that_cannot_be_are_refused(broken):
    (name,) = broken
    with pytest.raises(ValueError, match=f"`{name}` must"):
        dataclasses.replace(Options(), **broken)


@pytest.mark.parametrize("path", ["/", "/data/local/tmp", "/data/local/tmp/bitat-0/../.."])
def test_only_our_own_directory_can_ever_be_removed(path):
    with pytest.raises(ValueError, match="`path` must be"):
        RemoteDirectory(None, path)


def test_the_cache_directory_follows_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "bitat_tf" / "android"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_directory() == tmp_path / "home" / ".cache" / "bitat_tf" / "android"
