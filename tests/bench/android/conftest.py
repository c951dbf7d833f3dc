"""The real `adb`, with a server, a port and keys of its own, and stand-ins for phones."""

import json
import os
import shutil
import socket
import subprocess

import pytest
from stand_in import StandIn
from stand_in_phone import elf
from stand_in_tool import MARK

from bitat_tf._keras import keras
from bitat_tf.convert import export, export_float
from bitat_tf.layers import BitatConv2D, RSign

layers = keras.layers


@pytest.fixture(scope="session")
def adb_environment(tmp_path_factory):
    """An adb server of the tests' own, on a free port; the environment that leads to it."""
    if shutil.which("adb") is None:
        pytest.skip("adb is not installed (Debian: apt-get install adb)")
    home = tmp_path_factory.mktemp("adb")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "ANDROID_ADB_SERVER_PORT": str(port),
        "HOME": str(home),
        "ADB_VENDOR_KEYS": str(home),
        "TMPDIR": str(home),  # its log
    }
    environment = {**os.environ, **settings}
    adb = ["adb", "-P", str(port)]
    try:
        subprocess.run(
            [*adb, "start-server"], env=environment, check=True, capture_output=True, timeout=60
        )
        yield settings
    finally:
        subprocess.run(
            [*adb, "kill-server"], env=environment, check=False, capture_output=True, timeout=60
        )


@pytest.fixture
def adb(adb_environment, monkeypatch):
    """Run the real adb client on the tests' own server; the package finds it too."""
    for name, value in adb_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)

    def run(*arguments, timeout=60):
        done = subprocess.run(
            ["adb", *arguments], capture_output=True, text=True, timeout=timeout, check=False
        )
        return done.stdout

    return run


@pytest.fixture
def attach(adb, tmp_path):
    """Make a stand-in with the given properties, and connect the adb server to it."""
    devices = []

    def make(**properties):
        root = tmp_path / f"phone{len(devices)}"
        root.mkdir()
        device = StandIn(root, **properties)
        devices.append(device)
        adb("connect", device.serial)
        return device

    try:
        yield make
    finally:
        for device in devices:
            adb("disconnect", device.serial)
            device.__exit__()


@pytest.fixture
def tool(tmp_path):
    """Write a benchmark tool that behaves as described; see `stand_in_tool`."""

    def make(kind="print", *, machine=183, linker=b"/system/bin/linker64", **behaviour):
        path = tmp_path / "lce_benchmark_model_android_arm64"
        description = json.dumps({"kind": kind, **behaviour}).encode()
        path.write_bytes(elf(machine, linker=linker, tail=MARK + description))
        return path

    return make


@pytest.fixture(scope="session")
def flatbuffers():
    """A binary model and a float one, with names that a shell would like to get hold of."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 32))
    binary = keras.Model(inputs, BitatConv2D(32, 3)(RSign()(inputs)))
    dense = keras.Model(inputs, layers.Conv2D(4, 3, padding="same")(inputs))
    return {"a; rm -rf x.tflite": export(binary), "$(reboot) 'float'.tflite": export_float(dense)}
