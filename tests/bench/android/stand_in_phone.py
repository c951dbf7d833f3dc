"""What the stand-in consists of: a scratch directory with a phone's files and commands.

`/data` and `/sys` are directories in there, `getprop`, `dumpsys` and `taskset` are scripts that
answer from the text files in `phone/`, and an ARM program is started as `stand_in_tool.py`. That
text was written after Android's formats; it was not recorded on a phone.
"""

import shutil
import struct
import sys
from pathlib import Path

PHONE = Path(__file__).with_name("phone")
TOOL = Path(__file__).with_name("stand_in_tool.py")

_SHIMS = {
    "getprop": 'cat "$ROOT/getprop.txt"',
    # Each look at the thermal service lets the phone cool down a little.
    "dumpsys": """\
if [ ! -f "$ROOT/dumpsys/$1" ]; then echo "Can't find service: $1" >&2; exit 0; fi
skin=$(cat "$ROOT/skin")
sed "s/@SKIN@/$skin.0/" "$ROOT/dumpsys/$1"
if [ "$1" = thermalservice ] && [ "$skin" -gt 34 ]; then echo $((skin - 4)) > "$ROOT/skin"; fi""",
    "taskset": f"""\
echo "$1" >> "$ROOT/masks"
shift
exec {sys.executable} {TOOL} "$@\"""",
}


def elf(machine=183, *, linker=b"/system/bin/linker64", tail=b""):
    """A 64-bit little-endian ELF header with one program header, that of the linker."""
    header = struct.pack("<4s5B7x", b"\x7fELF", 2, 1, 1, 0, 0)
    header += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    path = linker + b"\0"
    return header + struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(path), len(path), 1) + path + tail


def furnish(root):
    """The scratch directory: the phone's files, and scripts for its commands."""
    (root / "data/local/tmp").mkdir(parents=True)
    shutil.copytree(PHONE / "dumpsys", root / "dumpsys")
    shutil.copy(PHONE / "getprop.txt", root)
    (root / "skin").write_text("31\n")
    (root / "masks").write_text("")
    for line in (PHONE / "cores.txt").read_text().splitlines():
        index, most, limit, governor = line.split()
        folder = root / f"sys/devices/system/cpu/cpu{index}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_max_freq").write_text(f"{most}\n")
        (folder / "scaling_max_freq").write_text(f"{limit}\n")
        (folder / "scaling_governor").write_text(f"{governor}\n")
    for name, text in _SHIMS.items():
        script = root / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
