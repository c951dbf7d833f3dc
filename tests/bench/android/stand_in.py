"""A stand-in for a phone, for tests: it speaks ADB's wire protocol on a loopback port.

The real `adb` server connects to it as to a phone on the network. What it is sent it executes
with this computer's shell in a scratch directory; `stand_in_phone` says what is in there.

Protocol: AOSP's `packages/modules/adb/protocol.txt`, `SYNC.TXT` and `shell_protocol.h`.
"""

import itertools
import os
import queue
import re
import signal
import socket
import stat
import struct
import subprocess
import threading
from pathlib import Path

from stand_in_phone import TOOL, furnish

_VERSION = 0x01000001  # from here on checksums are not looked at
_MAX_DATA = 64 * 1024
_HEADER = struct.Struct("<4s5I")
_AUTH_TOKEN, _AUTH_SIGNATURE = 1, 2
_STDOUT, _STDERR, _EXIT = 1, 2, 3


class StandIn:
    """The phone.

    Args:
        root: an empty scratch directory.
        features: of its adbd; without `"shell_v2"` it is as before Android 7.
        authorised: False never accepts this computer's key.
        full: its storage has no room.
        lose_at: the start of the tool during which the connection breaks, from 1; 0 is never.
        comes_back: whether it can be reached again after that.
    """

    def __init__(
        self,
        root,
        *,
        features=("shell_v2", "cmd", "stat_v2"),
        authorised=True,
        full=False,
        lose_at=0,
        comes_back=True,
    ):
        self.root = Path(root)
        self.features = features
        self.authorised = authorised
        self.full = full
        self.lose_at = lose_at
        self.comes_back = comes_back
        self.tool_starts = 0
        self.commands = []
        self.processes = []
        self._connections = []
        furnish(self.root)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.serial = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.vanish()
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @property
    def left_over(self):
        """What is in the directory for temporary files."""
        return sorted(path.name for path in (self.root / "data/local/tmp").iterdir())

    @property
    def masks(self):
        """Masks given to `taskset` so far."""
        return (self.root / "masks").read_text().split()

    def running_tools(self):
        """Process numbers of tools that still run."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with _ignored(OSError):  # it may end meanwhile
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
                where = os.readlink(folder / "cwd")
                if str(TOOL) in command and where.startswith(str(self.root)):
                    found.append(int(folder.name))
        return found

    def environment(self):
        """What a command on the phone sees."""
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        python = {k: v for k, v in os.environ.items() if k.startswith("PYTHON")}
        return {**python, "PATH": path, "ROOT": str(self.root), "HOME": str(self.root)}

    def here(self, text):
        """Android's absolute paths in a command as paths in the scratch directory."""
        return re.sub(r"(?<![\w/.])/(data|sys)/", rf"{self.root}/\1/", text)

    def vanish(self):
        """Break all connections, and accept no other."""
        # Closing alone would not wake the thread that waits in accept.
        with _ignored(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()

    def hang_up(self):
        """Break all connections."""
        for connection in self._connections:
            connection.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            connection = _Connection(self, sock)
            self._connections.append(connection)
            threading.Thread(target=connection.serve, daemon=True).start()


class _Connection:
    """One transport, with its streams."""

    def __init__(self, device, sock):
        self.device = device
        self.sock = sock
        self.streams = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def send(self, command, first, second, data=b""):
        number = struct.unpack("<I", command)[0]
        header = _HEADER.pack(
            command, first, second, len(data), sum(data) & 0xFFFFFFFF, number ^ 0xFFFFFFFF
        )
        with self._lock, _ignored(OSError):
            self.sock.sendall(header + data)

    def close(self):
        with _ignored(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def serve(self):
        with _ignored(OSError, EOFError):
            while True:
                command, first, second, length, _, _ = _HEADER.unpack(self._read(_HEADER.size))
                self._dispatch(command, first, second, self._read(length))
        for stream in list(self.streams.values()):
            stream.closed()

    def _read(self, size):
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _dispatch(self, command, first, second, data):
        if command == b"CNXN":
            if self.device.authorised:
                self._greet()
            else:
                self.send(b"AUTH", _AUTH_TOKEN, 0, bytes(20))
        elif command == b"AUTH" and first == _AUTH_SIGNATURE:
            self.send(b"AUTH", _AUTH_TOKEN, 0, bytes(20))  # and no answer to the public key
        elif command == b"OPEN":
            self._open(first, data.rstrip(b"\0").decode())
        elif second in self.streams:
            stream = self.streams[second]
            if command == b"OKAY":
                stream.ready.release()
            elif command == b"WRTE":
                self.send(b"OKAY", second, first)
                stream.inbox.put(data)
            elif command == b"CLSE":
                self.streams.pop(second).closed()

    def _greet(self):
        banner = "device::ro.product.name=stand_in;ro.product.model=Stand_in;"
        banner += f"ro.product.device=stand_in;features={','.join(self.device.features)}"
        self.send(b"CNXN", _VERSION, _MAX_DATA, banner.encode())

    def _open(self, remote, service):
        local = next(self._numbers)
        kind, _, rest = service.partition(":")
        if kind == "sync":
            work = _sync
        elif kind.split(",")[0] == "shell" and rest:
            self.device.commands.append(rest)

            def work(stream):
                _shell(stream, rest, packets="v2" in kind.split(","))
        else:
            self.send(b"CLSE", 0, remote)
            return
        stream = _Stream(self, local, remote)
        self.streams[local] = stream
        self.send(b"OKAY", local, remote)
        threading.Thread(target=stream.run, args=(work,), daemon=True).start()


class _Stream:
    """A service's byte stream; each piece waits until the other side has taken the one before."""

    def __init__(self, connection, local, remote):
        self.connection = connection
        self.device = connection.device
        self.local = local
        self.remote = remote
        self.ready = threading.Semaphore(1)
        self.inbox = queue.Queue()
        self.process = None
        self._buffer = b""

    def run(self, work):
        with _ignored(EOFError):
            work(self)
        if self.connection.streams.pop(self.local, None):
            self.connection.send(b"CLSE", self.local, self.remote)

    def write(self, data):
        for start in range(0, len(data), _MAX_DATA):
            self.ready.acquire()
            if self.local not in self.connection.streams:
                self.ready.release()
                return
            part = data[start : start + _MAX_DATA]
            self.connection.send(b"WRTE", self.local, self.remote, part)

    def read(self, size):
        while len(self._buffer) < size:
            data = self.inbox.get()
            if data is None:
                raise EOFError
            self._buffer += data
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def closed(self):
        """The other side is gone. Like adbd, tell the shell, which need not tell its children."""
        self.connection.streams.pop(self.local, None)
        self.inbox.put(None)
        self.ready.release()
        if self.process is not None and self.process.poll() is None:
            with _ignored(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGHUP)


def _shell(stream, command, *, packets):
    device = stream.device
    process = subprocess.Popen(
        ["sh", "-c", device.here(command)],
        cwd=device.root,
        env=device.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if packets else subprocess.STDOUT,
        start_new_session=True,
    )
    stream.process = process
    device.processes.append(process)
    if "./lce_benchmark_model" in command:
        device.tool_starts += 1
        if device.tool_starts == device.lose_at:
            threading.Timer(0.5, device.hang_up if device.comes_back else device.vanish).start()
    lock = threading.Lock()

    def pump(pipe, kind):
        while data := os.read(pipe.fileno(), 4096):
            with lock:
                stream.write(_packet(kind, data) if packets else data.replace(b"\n", b"\r\n"))

    pumps = [threading.Thread(target=pump, args=(process.stdout, _STDOUT), daemon=True)]
    if packets:
        pumps.append(threading.Thread(target=pump, args=(process.stderr, _STDERR), daemon=True))
    for thread in pumps:
        thread.start()
    for thread in pumps:
        thread.join()
    status = process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    if packets:
        stream.write(_packet(_EXIT, bytes([status & 0xFF])))
    # CLSE must not overtake the last piece.
    stream.ready.acquire()


def _packet(kind, data):
    return struct.pack("<BI", kind, len(data)) + data


def _sync(stream):
    while True:
        name, length = struct.unpack("<4sI", stream.read(8))
        if name == b"QUIT":
            return
        argument = stream.read(length).decode()
        if name == b"SEND":
            _receive(stream, *argument.rsplit(",", 1))
        elif name == b"RECV":
            _send(stream, argument)
        elif name in (b"STAT", b"STA2", b"LST2"):
            stream.write(_stat(name, stream.device.here(argument)))
        else:
            _fail(stream, f"unknown request {name!r}")
            return


def _stat(name, path):
    try:
        found, error = os.stat(path), 0
    except OSError as err:
        found, error = os.stat_result([0] * 10), err.errno
    if name == b"STAT":
        return struct.pack("<4s3I", name, found.st_mode, found.st_size, int(found.st_mtime))
    numbers = (found.st_dev, found.st_ino, found.st_mode, found.st_nlink, found.st_uid)
    times = (int(found.st_atime), int(found.st_mtime), int(found.st_ctime))
    return struct.pack("<4sIQQIIIIQqqq", name, error, *numbers, found.st_gid, found.st_size, *times)


def _receive(stream, path, mode):
    content = b""
    while True:
        name, number = struct.unpack("<4sI", stream.read(8))
        if name == b"DONE":
            break
        content += stream.read(number)
    if stream.device.full:
        _fail(stream, "write failed: No space left on device")
        return
    target = Path(stream.device.here(path))
    try:
        target.write_bytes(content)
    except OSError as err:
        _fail(stream, f"couldn't create file: {err.strerror}")
        return
    target.chmod(stat.S_IMODE(int(mode)))
    stream.write(struct.pack("<4sI", b"OKAY", 0))


def _send(stream, path):
    try:
        content = Path(stream.device.here(path)).read_bytes()
    except OSError as err:
        _fail(stream, f"open failed: {err.strerror}")
        return
    for start in range(0, len(content), _MAX_DATA):
        part = content[start : start + _MAX_DATA]
        stream.write(struct.pack("<4sI", b"DATA", len(part)) + part)
    stream.write(struct.pack("<4sI", b"DONE", 0))


def _fail(stream, message):
    stream.write(struct.pack("<4sI", b"FAIL", len(message)) + message.encode())


class _ignored:
    """`contextlib.suppress`, named for what it is here: the other side may be gone already."""

    def __init__(self, *kinds):
        self.kinds = kinds

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        return kind is not None and issubclass(kind, self.kinds)
