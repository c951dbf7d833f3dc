"""Quoting for the phone's shell, and the choice of a phone."""

import shlex
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitat_tf.bench.android import DeviceError
from bitat_tf.bench.android.adb import Adb, Attached, choose, parse_devices, quoted

WORDS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))


@settings(deadline=None)
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
