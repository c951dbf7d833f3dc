"""Where workers meet: at the start, before each phase and at the end; and one that does not come.

A worker that is lost in between is noticed by TensorFlow: a broken connection ends all exchanges
at once, a silent one within its heartbeats (some ten seconds). Both raise in the others' next
exchange, and end them in one line. Nobody waits for a worker to come back: all are started again,
with `--resume`.

Only the chief's run directory is kept. The others work on copies of it in private directories,
made at the start: what they write there is the same and goes with them. So no file system need
be shared, and a run is resumed from the chief's state alone.
"""

import contextlib
import io
import re
import socket
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bitat_tf._keras import tf
from bitat_tf.train import workers

#: How long the workers wait for each other at the start, in seconds.
START_SECONDS = 300.0

# Of one try to reach another worker, and from one round of them to the next.
_TRY_SECONDS = 2.0
_BETWEEN_TRIES = 0.2

# Connections that nobody accepts: the others ask more than once.
_BACKLOG = 128

# TensorBoard's files: of no use to the others.
_NOT_SENT = "logs"

# Of what TensorFlow raises, what speaks of another worker that is gone, or does something else.
_LOST = re.compile("Collective ops is aborted|[Cc]oordination ?[Ss]ervice|remote target")


class LostWorker(RuntimeError):
    """Another worker has ended, or cannot be reached."""


def wait_for(addresses: Sequence[str], own: str, seconds: float) -> None:
    """Wait until every worker's address answers, before TensorFlow waits for them without an end.

    A worker answers from here, and then by TensorFlow's server at the same port.

    Args:
        addresses: host:port of all workers.
        own: this worker's.
        seconds: to wait at most.

    Raises:
        RuntimeError: when this worker's port is taken.
        LostWorker: when a worker does not come in time.
    """
    until = time.monotonic() + seconds
    others = [address for address in addresses if address != own]
    missing = others
    try:
        # Of IPv4 and IPv6, whichever the others' addresses are.
        both = socket.has_dualstack_ipv6()
        listener = socket.create_server(
            ("", _host_and_port(own)[1]),
            family=socket.AF_INET6 if both else socket.AF_INET,
            backlog=_BACKLOG,
            dualstack_ipv6=both,
        )
    except OSError as err:
        raise RuntimeError(
            f"The port of {own} in TF_CONFIG cannot be used ({err.strerror}): is an earlier worker "
            "still running?"
        ) from err
    with listener:
        while missing:
            missing = [address for address in missing if not _answers(address)]
            if not missing:  # whoever came first may be gone again
                missing = [address for address in others if not _answers(address)]
            if missing and time.monotonic() > until:
                raise LostWorker(
                    f"Of the {len(addresses)} workers in TF_CONFIG these do not answer after "
                    f"{seconds:.0f} s: {', '.join(missing)}. Start every one of them, and see that "
                    "the machines reach each other at these addresses."
                )
            if missing:
                time.sleep(_BETWEEN_TRIES)


def _answers(address: str) -> bool:
    try:
        socket.create_connection(_host_and_port(address), timeout=_TRY_SECONDS).close()
    except OSError:
        return False
    return True


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


@contextlib.contextmanager
def attended(strategy: Any) -> Iterator[None]:
    """Within, the loss of another worker raises `LostWorker`.

    Args:
        strategy: of all of them, or None.

    Raises:
        LostWorker: when TensorFlow says so.
    """
    team = workers.of(strategy)
    try:
        yield
    except tf.errors.OpError as err:
        reason = " ".join(str(err).split())
        if team.count == 1 or not _LOST.search(reason):
            raise
        raise LostWorker(
            f"Worker {team.index} of {team.count} lost another one ({_short(reason)}): see what "
            "the others say. What was kept stays: start all workers again with --resume."
        ) from err


def _short(reason: str) -> str:
    _, _, told = reason.rpartition("Collective ops is aborted by: ")
    return told.partition(" Additional GRPC")[0][:120]


def meet(place: str) -> None:
    """Wait until all workers are there, under the strategy in whose scope this is called.

    Args:
        place: where: what all of them are about to do.

    Raises:
        LostWorker: when another one is elsewhere.
    """
    team = workers.current()
    if team.count == 1:
        return
    said = np.zeros(team.count)
    said[team.index] = zlib.crc32(place.encode())
    (heard,) = workers.total(said)
    if len(set(heard.tolist())) > 1:
        raise LostWorker(
            f"Worker {team.index} of {team.count} is about to do {place!r}, and another one is "
            "not. Start all workers with the same command and version."
        )


@contextlib.contextmanager
def own_copy(folder: Path) -> Iterator[Path]:
    """The run directory that this worker works in, under the strategy in whose scope this is.

    Args:
        folder: of the chief's run, which has begun.

    Yields:
        `folder` on the chief; elsewhere a private directory with a copy, which goes at the end.
    """
    if workers.current().chief:
        workers.of_chief(_packed(folder) if workers.current().count > 1 else b"")
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="bitat-worker-") as private:
        content = workers.of_chief(b"")
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(private, filter="data")
        yield Path(private)


def _packed(folder: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path in sorted(folder.iterdir()):
            if path.name != _NOT_SENT:
                archive.add(path, path.name)
    return content.getvalue()
