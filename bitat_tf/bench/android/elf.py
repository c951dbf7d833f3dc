"""What a program file was built for, from its ELF header.

A program for another processor, or for Linux instead of Android, fails on the phone with "not
found" or "not executable", which tells nobody why; so it is refused before it is pushed.
Format: the System V ABI's generic chapter, "Object files".
"""

import struct
from dataclasses import dataclass

# e_machine and bits -> Android's name of the binary interface.
_ABIS = {
    (183, 64): "arm64-v8a",
    (40, 32): "armeabi-v7a",
    (62, 64): "x86_64",
    (3, 32): "x86",
    (243, 64): "riscv64",
}
_EXECUTABLE_TYPES = (2, 3)  # ET_EXEC, and ET_DYN for position-independent ones
_PT_INTERP = 3


@dataclass(frozen=True)
class Program:
    """A program file: its binary interface, and the dynamic linker it asks for ("" if none)."""

    abi: str
    linker: str

    @property
    def for_android(self) -> bool:
        """Whether it is linked statically or against Android's linker."""
        return not self.linker or self.linker.startswith(("/system/", "/apex/"))


def read_program(content: bytes) -> Program:
    """Read the ELF header and the program headers.

    Args:
        content: of the whole file.

    Raises:
        ValueError: when it is not an ELF program, or cut off within its headers.
    """
    if content[:4] != b"\x7fELF":
        raise ValueError(f"not a program (no ELF header). It starts with {content[:8]!r}")
    if len(content) < 52 or content[4] not in (1, 2) or content[5] not in (1, 2):
        raise ValueError("its ELF header is cut off or damaged")
    bits = 32 * content[4]
    order = "<" if content[5] == 1 else ">"
    try:
        kind, machine = struct.unpack_from(order + "HH", content, 16)
        linker = _linker(content, order, bits)
    except struct.error as err:
        raise ValueError("its ELF headers are cut off") from err
    if kind not in _EXECUTABLE_TYPES:
        raise ValueError(f"not a program that can be started (ELF type {kind})")
    abi = _ABIS.get((machine, bits), f"machine {machine} ({bits} bits)")
    return Program(abi, linker)


def _linker(content: bytes, order: str, bits: int) -> str:
    """The path in the PT_INTERP program header."""
    if bits == 64:
        (table,) = struct.unpack_from(order + "Q", content, 32)
        size, count = struct.unpack_from(order + "HH", content, 54)
    else:
        (table,) = struct.unpack_from(order + "I", content, 28)
        size, count = struct.unpack_from(order + "HH", content, 42)
    for index in range(count):
        at = table + index * size
        (kind,) = struct.unpack_from(order + "I", content, at)
        if kind != _PT_INTERP:
            continue
        if bits == 64:
            (start,) = struct.unpack_from(order + "Q", content, at + 8)
            (length,) = struct.unpack_from(order + "Q", content, at + 32)
        else:
            (start,) = struct.unpack_from(order + "I", content, at + 4)
            (length,) = struct.unpack_from(order + "I", content, at + 16)
        path = content[start : start + length]
        if len(path) != length:
            raise ValueError("it is cut off before the path of its linker")
        return path.rstrip(b"\0").decode("ascii", errors="replace")
    return ""
