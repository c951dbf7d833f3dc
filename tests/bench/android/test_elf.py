"""Programs are recognised by their ELF headers."""

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_in_phone import elf

from bitat_tf.bench.android.elf import read_program


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


@settings(deadline=None)
@given(st.binary(max_size=200).map(lambda rest: elf()[:4] + rest))
def test_any_header_gives_a_program_or_a_clear_error(content):
    try:
        assert read_program(content).abi
    except ValueError as err:
        assert str(err)  # noqa: PT017  either will do
