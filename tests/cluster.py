"""Processes of a cluster on this machine."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import bitat_tf


def free_ports(count):
    """Ports that nobody listens at now; all are held until the last is found."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def environments(count):
    """What is in the environment of each of so many workers that are to meet."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    return [
        {
            "TF_CONFIG": json.dumps(
                {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            ),
        }
        for index in range(count)
    ]


@contextlib.contextmanager
def started(commands, environments):
    """Python processes with this package, all ended at the end; their errors go to pipes."""
    package = {"PYTHONPATH": str(Path(bitat_tf.__file__).parent.parent)}
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**os.environ, **package, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command, environment in zip(commands, environments, strict=True)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()
