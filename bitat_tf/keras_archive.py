"""A `.keras` file looked through before Keras opens it.

It is a zip archive of JSON files and one HDF5 file of weights. Keras believes it: it inflates a
member of any size, jumps about in the weights so that zipfile drops their checksum (a flipped
bit would be loaded as a weight), and makes arrays of whatever size HDF5 declares. So in this
order, each cheap because of those before it: the sizes that the archive declares (zipfile reads
no more than that), the checksum of every member, the sizes of the arrays.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

# Weights as 1-bit networks train them (float32, a few million) are some ten megabytes.
MAX_BYTES = 2 << 30
# Keras stores without compression. Deflated by somebody, JSON shrinks 10 to 30 times, weights
# hardly; a bomb up to 1,032 times.
MAX_EXPANSION = 100

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1  # general purpose bit 0, APPNOTE.TXT 4.4.4


def check(path: Path) -> None:
    """Raise unless a `.keras` file is whole and of the size that it takes on disk.

    A file whose name does not end in `.keras`, or a directory, is none, and is not looked at.

    Raises:
        ValueError: when it is no zip archive, too large, damaged, or declares arrays that it
            does not hold.
        Exception: what zipfile, zlib and h5py raise over a damaged file, which is no closed list.
    """
    path = Path(path)
    if path.suffix != ".keras" or path.is_dir():
        return
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no zip archive, or not a whole one. Save or copy it again.")
    with zipfile.ZipFile(path) as archive:
        _check_sizes(archive.infolist(), path.stat().st_size)
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong. Save or copy it again.")
        _check_arrays(archive)


def _check_sizes(members: Sequence[zipfile.ZipInfo], file_bytes: int) -> None:
    names = [member.filename for member in members]
    for name in (_CONFIG, _WEIGHTS):
        if names.count(name) != 1:
            raise ValueError(f"it must hold one {name}. Received: {names[:5]}")
    if any(m.compress_type not in _COMPRESSIONS or m.flag_bits & _ENCRYPTED for m in members):
        raise ValueError("its members must be stored or deflated, and not encrypted.")
    total = sum(member.file_size for member in members)
    limit = min(MAX_BYTES, MAX_EXPANSION * file_bytes)
    if total > limit:
        raise ValueError(
            f"its {file_bytes:,} bytes would expand to {total:,}; at most {limit:,} are allowed."
        )


def _check_arrays(archive: zipfile.ZipFile) -> None:
    """Keras writes arrays as they are, so together they are smaller than the file."""
    held = archive.getinfo(_WEIGHTS).file_size
    declared = 0

    def add(name: str, node: Any) -> None:
        nonlocal declared
        if isinstance(node, h5py.Dataset):
            declared += node.nbytes

    with archive.open(_WEIGHTS) as file, h5py.File(file, "r") as weights:
        weights.visititems(add)
    if declared > held:
        raise ValueError(f"its weights declare arrays of {declared:,} bytes in a file of {held:,}.")
