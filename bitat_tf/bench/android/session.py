"""A whole benchmark on one phone: look at it, push, measure in turn, clean up.

The rounds are outermost and the models innermost: A B A B ..., so that a phone that grows warmer
slows all of them alike. A model that fails in a setting is left out of it from there on, and
named at the end; a phone that is lost, hangs or is full ends the session.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bitat_tf import runtime
from bitat_tf.android_results import (
    AndroidBenchmark,
    AndroidRecord,
    DeviceRecord,
    FailureRecord,
    OperatorTime,
    RoundRecord,
)
from bitat_tf.bench.android.adb import Adb, choose
from bitat_tf.bench.android.cores import check_mask, fastest_cores, mask_of
from bitat_tf.bench.android.device import read_device, read_heat
from bitat_tf.bench.android.errors import MeasurementError, ToolFailed
from bitat_tf.bench.android.heat import cool_down
from bitat_tf.bench.android.options import Options, Setting
from bitat_tf.bench.android.outcome import operator_times, read_output, round_record
from bitat_tf.bench.android.remote import RemoteDirectory, remote_directory
from bitat_tf.bench.android.tool import Tool, find_tool
from bitat_tf.bench.parse import ToolOutput

Progress = Callable[[AndroidBenchmark, str], None]


def measure(
    flatbuffers: bytes | Mapping[str, bytes],
    options: Options | None = None,
    *,
    on_progress: Progress | None = None,
) -> AndroidBenchmark:
    """Time one or more flatbuffers on a phone, on a batch of 1.

    Args:
        flatbuffers: content of a `.tflite` file, or name -> content of several, which are
            measured in turn. The names stay on this computer.
        options: what to measure and how.
        on_progress: called with all finished measurements and a line of text before each start
            of the tool and at the end; what it got last is what there is after Ctrl-C.

    Returns:
        The phone and a record for each model and setting.

    Raises:
        ValueError: on no flatbuffer, or one that `runtime.verify` refuses.
        DeviceError: when there is no phone, `adb` or benchmark tool that can be used.
        MeasurementError: when it failed on the way; `finished` holds what was measured. Nothing
            is left on the phone, unless the message says so.
    """
    options = options or Options()
    models = {"model": flatbuffers} if isinstance(flatbuffers, bytes) else dict(flatbuffers)
    if not models:
        raise ValueError("`flatbuffers` must hold at least one. Received: none")
    for content in models.values():
        runtime.verify(content)
    adb = Adb(options.adb)
    # adb itself obeys this variable, so whoever set it expects that.
    serial = options.serial or os.environ.get("ANDROID_SERIAL") or None
    adb = adb.with_serial(choose(adb.devices(), serial))
    device = read_device(adb)
    tool = find_tool(options.binary, device)
    if options.cpu_mask is not None:
        check_mask(options.cpu_mask, device.cores)
    session = _Session(adb, device, tool, options, _cells(models, options), on_progress)
    try:
        session.run(models)
    except MeasurementError as err:
        err.finished = session.benchmark
        raise
    return session.benchmark


@dataclass
class _Cell:
    """One model in one setting, and what was measured of it."""

    model: str
    sha256: str
    file: str
    setting: Setting
    rounds: list[RoundRecord] = field(default_factory=list)
    delegated: str = ""
    operators: tuple[OperatorTime, ...] = ()
    memory_peak_mb: float | None = None
    failure: str = ""


def _cells(models: Mapping[str, bytes], options: Options) -> list[_Cell]:
    """All cells in the order of a round: settings, and within each the models."""
    cells = []
    for index, (name, content) in enumerate(models.items()):
        digest = hashlib.sha256(content).hexdigest()
        for setting in options.settings(binary=runtime.uses_lce(content)):
            cells.append(_Cell(name, digest, f"model{index}.tflite", setting))
    # Stable: within a setting the models keep their order. A float model stands beside the first
    # kernel of a binary one.
    first = options.kernels[0]
    order = [(s.threads, s.kernel, s.xnnpack) for s in options.settings(binary=True)]
    return sorted(
        cells,
        key=lambda c: order.index(
            (
                c.setting.threads,
                first if c.setting.kernel == "none" else c.setting.kernel,
                c.setting.xnnpack,
            )
        ),
    )


class _Session:
    def __init__(
        self,
        adb: Adb,
        device: DeviceRecord,
        tool: Tool,
        options: Options,
        cells: list[_Cell],
        on_progress: Progress | None,
    ) -> None:
        self.adb = adb
        self.device = device
        self.tool = tool
        self.options = options
        self.cells = cells
        self.on_progress = on_progress

    @property
    def benchmark(self) -> AndroidBenchmark:
        """Everything measured so far."""
        return AndroidBenchmark(
            self.device,
            self.tool.path.name,
            self.tool.sha256,
            self.tool.abi,
            tuple(self._record(cell) for cell in self.cells if cell.rounds),
            tuple(
                FailureRecord(c.model, str(c.setting), c.failure) for c in self.cells if c.failure
            ),
        )

    def run(self, models: Mapping[str, bytes]) -> None:
        """Push everything, measure every cell in rounds, profile, remove everything."""
        with remote_directory(self.adb) as remote, tempfile.TemporaryDirectory() as folder:
            self._say("copying the tool and the models")
            remote.push_tool(self.tool.path)
            for index, content in enumerate(models.values()):
                name = f"model{index}.tflite"
                (Path(folder) / name).write_bytes(content)
                remote.push_model(Path(folder) / name, name)
            for number in range(self.options.rounds):
                for cell in self._alive():
                    self._say(f"round {number + 1}/{self.options.rounds}: {_name(cell)}")
                    self._attempt(cell, self._round, remote)
            for cell in self._alive() if self.options.profile else ():
                self._say(f"profile: {_name(cell)}")
                self._attempt(cell, self._profile, remote)
        self._say("done")
        failed = [cell for cell in self.cells if cell.failure]
        if failed:
            raise ToolFailed(
                f"{len(failed)} of {len(self.cells)} settings failed: "
                + "; ".join(dict.fromkeys(f"{_name(cell)}: {cell.failure}" for cell in failed))
            )

    def _alive(self) -> list[_Cell]:
        return [cell for cell in self.cells if not cell.failure]

    def _say(self, text: str) -> None:
        if self.on_progress is not None:
            self.on_progress(self.benchmark, text)

    def _attempt(
        self,
        cell: _Cell,
        measure_once: Callable[[_Cell, RemoteDirectory], None],
        remote: RemoteDirectory,
    ) -> None:
        try:
            measure_once(cell, remote)
        except ToolFailed as err:
            cell.failure = str(err)

    def _round(self, cell: _Cell, remote: RemoteDirectory) -> None:
        waited = cool_down(
            lambda: read_heat(self.adb),
            self.options.heat,
            clock=time.monotonic,
            sleep=time.sleep,
        )
        output = self._start(cell, remote, profile=False)
        cell.delegated = output.delegated
        cell.rounds.append(round_record(output, waited))

    def _profile(self, cell: _Cell, remote: RemoteDirectory) -> None:
        output = self._start(cell, remote, profile=True)
        cell.operators = operator_times(output)
        cell.memory_peak_mb = output.memory_peak_mb

    def _start(self, cell: _Cell, remote: RemoteDirectory, *, profile: bool) -> ToolOutput:
        """One start of the tool, and what it told; raises ToolFailed where that is no good."""
        done = remote.run_tool(
            self.options.arguments(cell.setting, cell.file, profile=profile),
            self._mask(cell.setting),
            what=_name(cell),
            timeout_seconds=self.options.timeout_seconds,
        )
        return read_output(done, cell.setting, profile=profile)

    def _mask(self, setting: Setting) -> str:
        cores = self.device.cores
        if self.options.cpu_mask is not None:
            return check_mask(self.options.cpu_mask, cores)
        return mask_of(fastest_cores(cores, setting.threads))

    def _record(self, cell: _Cell) -> AndroidRecord:
        return AndroidRecord(
            cell.model,
            cell.sha256,
            cell.setting.threads,
            cell.setting.kernel,
            cell.setting.xnnpack,
            cell.delegated,
            self._mask(cell.setting),
            tuple(cell.rounds),
            cell.operators,
            cell.memory_peak_mb,
        )


def _name(cell: _Cell) -> str:
    return f"{cell.model} ({cell.setting})"
