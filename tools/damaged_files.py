"""Damaged `.tflite` and `.keras` files by the hundred, the same for the same seed.

Each kind of damage is a function (random numbers, whole files) -> what writes one damaged file;
the tables at the end say how many of a hundred cases are of which kind. What `fuzz_files` runs.
"""

import functools
import gzip
import io
import json
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from bitat_tf import runtime

Write = Callable[[Path], object]
Damage = Callable[[random.Random, Sequence[bytes]], Write]

_MIB = 1 << 20
_SMALL = 64  # buffers of fewer bytes count as structure
_CONFIG, _WEIGHTS, _METADATA = "config.json", "model.weights.h5", "metadata.json"


@dataclass(frozen=True)
class Case:
    """One damaged file.

    Attributes:
        kind: of damage.
        name: unique, with the suffix that a command goes by.
        write: puts it at a path.
    """

    kind: str
    name: str
    write: Write


def flatbuffers(count: int, seed: int, whole: Sequence[bytes]) -> list[Case]:
    """Damaged flatbuffers, made of these in turn."""
    return _cases(count, seed, ".tflite", _FLATBUFFERS, whole)


def archives(count: int, seed: int, whole: Sequence[bytes]) -> list[Case]:
    """Damaged `.keras` files, made of these in turn."""
    return _cases(count, seed, ".keras", _ARCHIVES, whole)


def _cases(
    count: int,
    seed: int,
    suffix: str,
    shares: Mapping[str, tuple[Damage, int]],
    whole: Sequence[bytes],
) -> list[Case]:
    """Each kind its share of `count`, and at least one."""
    cases = []
    parts = sum(share for _, share in shares.values())
    for kind, (damage, share) in shares.items():
        for index in range(max(1, round(count * share / parts))):
            name = f"{kind.replace(' ', '-')}-{index:03d}{suffix}"
            turn = index % len(whole)
            turned = [*whole[turn:], *whole[:turn]]
            write = functools.partial(_write, damage, f"{seed} {name}", turned)
            cases.append(Case(kind, name, write))
    return cases


def _write(damage: Damage, seed: str, whole: Sequence[bytes], path: Path) -> None:
    damage(random.Random(seed), whole)(path)


def _bytes(content: bytes) -> Write:
    return lambda path: path.write_bytes(content)


# What may happen to any file.


def _truncated(rng: random.Random, whole: Sequence[bytes]) -> Write:
    return _bytes(whole[0][: rng.randrange(1, len(whole[0]))])


def _changed(content: bytes, rng: random.Random, places: Sequence[int]) -> bytes:
    damaged = bytearray(content)
    for place in places:
        damaged[place] ^= rng.randrange(1, 256)
    return bytes(damaged)


def _one_bit(rng: random.Random, whole: Sequence[bytes]) -> Write:
    damaged = bytearray(whole[0])
    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return _bytes(bytes(damaged))


def _some_bytes(rng: random.Random, whole: Sequence[bytes]) -> Write:
    places = [rng.randrange(len(whole[0])) for _ in range(rng.randint(1, 64))]
    return _bytes(_changed(whole[0], rng, places))


def _spliced(rng: random.Random, whole: Sequence[bytes]) -> Write:
    """A part cut out, doubled, emptied, or taken from another file."""
    content, other = whole[0], whole[-1]
    start, size = rng.randrange(len(content)), rng.randint(1, 4096)
    before, part, after = content[:start], content[start : start + size], content[start + size :]
    choices = [b"", part * 2, bytes(len(part)), other[start : start + size], part[::-1]]
    return _bytes(before + rng.choice([made for made in choices if made != part]) + after)


def _empty(rng: random.Random, whole: Sequence[bytes]) -> Write:
    return _bytes(rng.choice([b"", b"\0", b"\n", whole[0][:4], whole[0][:8]]))


def _foreign(rng: random.Random, whole: Sequence[bytes]) -> Write:
    """Another type of file, or a directory, under this name."""
    archive, tar = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("readme.txt", "nothing here")
    with tarfile.open(fileobj=tar, mode="w") as bundle:
        bundle.addfile(tarfile.TarInfo("nothing"))
    contents = [
        b"\x89PNG\r\n\x1a\n" + rng.randbytes(5000),
        b"\xff\xd8\xff\xe0\0\x10JFIF" + rng.randbytes(5000),
        b"\x7fELF\x02\x01\x01" + rng.randbytes(5000),
        b"%PDF-1.7\n" + rng.randbytes(2000),
        b"#!/bin/sh\necho hello\n",
        json.dumps({"class_name": "Functional", "config": {}}).encode(),
        "Kein Modell, sondern Text.\n".encode("utf-16"),
        pickle.dumps({"weights": [1.0, 2.0]}),
        gzip.compress(whole[0]),
        archive.getvalue(),
        tar.getvalue(),
        _hdf5({"weights": np.ones(16, np.float32)}),
        _npy(np.ones(16, np.float32)),
        rng.randbytes(20000),
        bytes(20000),
        whole[-1][::-1],
    ]
    if rng.random() < 0.05:
        return lambda path: path.mkdir()
    return _bytes(rng.choice(contents))


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _hdf5(arrays: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as written:
        for name, array in arrays.items():
            written[name] = array
    return file.getvalue()


# Flatbuffers.


def _structure(rng: random.Random, whole: Sequence[bytes]) -> Write:
    """Bytes changed that are no weights: offsets, shapes, types, options, operators."""
    content = whole[0]
    weights = np.zeros(len(content), bool)
    for buffer in runtime.read(content).buffers:
        data = b"" if buffer.data is None else bytes(buffer.data)
        start = content.find(data) if len(data) >= _SMALL else -1
        if start >= 0:
            weights[start : start + len(data)] = True
    places = np.flatnonzero(~weights).tolist()
    return _bytes(_changed(content, rng, rng.choices(places, k=rng.choice([1, 1, 2, 4]))))


def _flatbuffer_bomb(rng: random.Random, whole: Sequence[bytes]) -> Write:
    """Small on disk, huge when it is unpacked or read."""
    size = rng.choice([100 << 30, (1 << 30) + 1, 256 << 20])
    head = rng.choice([b"", whole[0][:4096]])
    kind = rng.randrange(3)
    if kind == 0:
        return _bytes(_zip({"model.tflite": bytes(256 * _MIB)}, zipfile.ZIP_DEFLATED))
    if kind == 1:
        return _bytes(gzip.compress(bytes(256 * _MIB), 1))
    return lambda path: _sparse(path, head, size)


def _sparse(path: Path, head: bytes, size: int) -> None:
    """A file that begins like this and goes on with zeros that take no room on disk."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)


# `.keras` files.


def _zip(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _config_damaged(rng: random.Random, whole: Sequence[bytes]) -> Write:
    """The checksum is right: it is the text that is wrong."""
    members = _members(whole[0])
    text = members[_CONFIG]
    damaged = {
        "cut": text[: rng.randrange(len(text))],
        "changed": _changed(text, rng, [rng.randrange(len(text)) for _ in range(3)]),
        "another class": text.replace(b"BatchNormalization", b"BatchNormalisation"),
        "no layers": json.dumps({**json.loads(text), "config": {}}).encode(),
        "a list": b"[1, 2, 3]",
        "deep": b"[" * 100_000 + b"]" * 100_000,
        "negative size": text.replace(b'"filters": ', b'"filters": -'),
        "pickle": pickle.dumps(json.loads(text)),
    }
    return _bytes(_zip({**members, _CONFIG: damaged[rng.choice(sorted(damaged))]}))


def _weights_damaged(rng: random.Random, whole: Sequence[bytes]) -> Write:
    """The checksum is right: it is the HDF5 file that is damaged, outside the numbers."""
    members = _members(whole[0])
    weights = members[_WEIGHTS]
    numbers = np.zeros(len(weights), bool)

    def mark(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset) and node.id.get_offset() is not None:
            start = node.id.get_offset()
            numbers[start : start + node.nbytes] = True

    with h5py.File(io.BytesIO(weights), "r") as file:
        file.visititems(mark)
    places = rng.choices(np.flatnonzero(~numbers).tolist(), k=rng.choice([1, 4, 16, 256]))
    damaged = [_changed(weights, rng, places), weights[: rng.randrange(len(weights))]]
    return _bytes(_zip({**members, _WEIGHTS: rng.choice(damaged)}))


def _other_members(rng: random.Random, whole: Sequence[bytes]) -> Write:
    """A member missing, of another type, of other shapes, or under a path that leads outside."""
    members = _members(whole[0])
    without = {name: content for name, content in members.items() if name != _WEIGHTS}
    objects = _npy(np.array([{"weights": 1}], dtype=object))
    changed = {
        "no weights": without,
        "no config": {name: content for name, content in members.items() if name != _CONFIG},
        "pickle": {**members, _WEIGHTS: pickle.dumps([1.0, 2.0])},
        "pickle in npz": {**without, "model.weights.npz": _zip({"__root__.npy": objects})},
        "other arrays": {**members, _WEIGHTS: _hdf5({"vars/0": np.ones(3, np.float32)})},
        "other model": {**members, _WEIGHTS: _members(whole[-1])[_WEIGHTS]},
        "outside": {f"../../{name}": content for name, content in members.items()},
        "nested": {_CONFIG: whole[0], _METADATA: b"{}", _WEIGHTS: whole[0]},
    }
    return _bytes(_zip(changed[rng.choice(sorted(changed))]))


def _lambda(rng: random.Random, whole: Sequence[bytes]) -> Write:
    """A layer that holds Python bytecode, which Keras must not run."""
    members = _members(whole[0])
    code = {"class_name": "__lambda__", "config": {"value": ["4wEA", None, None]}}
    layer = {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {"name": "code", "function": code, "batch_input_shape": [None, 8, 8, 1]},
    }
    config = {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "model", "layers": [layer]},
    }
    return _bytes(_zip({**members, _CONFIG: json.dumps(config).encode()}))


def _archive_bomb(rng: random.Random, whole: Sequence[bytes]) -> Write:
    """Small on disk, huge when it is unpacked; or it lies about that."""
    members = _members(whole[0])
    deflated = zipfile.ZIP_DEFLATED
    zeros = bytes(256 * _MIB)
    declares = _huge_array()
    kind = rng.randrange(6)
    if kind == 0:
        return _bytes(_zip({**members, _CONFIG: b" " * len(zeros)}, deflated))
    if kind == 1:
        return _bytes(_zip({**members, _WEIGHTS: zeros}, deflated))
    if kind == 2:  # declares 4 GiB
        return _bytes(_redeclared(_zip(members), 0xFFFFFFF0))
    if kind == 3:  # declares 1,000 bytes
        return _bytes(_redeclared(_zip({**members, _WEIGHTS: zeros}, deflated), 1000))
    if kind == 4:
        extra = {f"assets/{index}": b"" for index in range(20_000)}
        return _bytes(_zip({_METADATA: b"{}", **extra}))
    return _bytes(_zip({**members, _WEIGHTS: declares}))


def _huge_array() -> bytes:
    """HDF5 that declares a terabyte and stores none of it."""
    file = io.BytesIO()
    with h5py.File(file, "w") as written:
        written.create_dataset("vars/0", shape=(1 << 38,), dtype="float32")
    return file.getvalue()


def _redeclared(archive: bytes, size: int) -> bytes:
    """The last member's size forged in the central directory."""
    place = archive.rfind(b"PK\x01\x02") + 24  # APPNOTE.TXT 4.3.12: uncompressed size
    return archive[:place] + size.to_bytes(4, "little") + archive[place + 4 :]


# Shares of a hundred.
_FLATBUFFERS: dict[str, tuple[Damage, int]] = {
    "truncated": (_truncated, 30),
    "one bit": (_one_bit, 18),
    "some bytes": (_some_bytes, 15),
    "structure": (_structure, 20),
    "spliced": (_spliced, 8),
    "foreign": (_foreign, 6),
    "empty": (_empty, 2),
    "bomb": (_flatbuffer_bomb, 1),
}
_ARCHIVES: dict[str, tuple[Damage, int]] = {
    "truncated": (_truncated, 22),
    "one bit": (_one_bit, 12),
    "some bytes": (_some_bytes, 10),
    "spliced": (_spliced, 6),
    "foreign": (_foreign, 10),
    "empty": (_empty, 2),
    "config": (_config_damaged, 10),
    "weights": (_weights_damaged, 12),
    "members": (_other_members, 8),
    "bytecode": (_lambda, 1),
    "bomb": (_archive_bomb, 7),
}
