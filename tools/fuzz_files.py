"""Damaged files by the hundred through `bitat`: each must end in one clear line, soon.

    python tools/fuzz_files.py [--run RUN] [--flatbuffers 1000] [--archives 100] [--seed 0]

Every file goes through `bitat.cli.main`, what the installed command calls, in one process that
has imported everything before; it is replaced only when it crashed or hung, which is what must
not happen. Flatbuffers go through `inspect` and, in turn, `evaluate` and `benchmark`; `.keras`
files through `convert` and, in turn, `inspect` and `evaluate`. An error must be one line
with exit status 1 or 2, come within 10 s, leave no file and not let the process grow by a
gigabyte. Where only a weight was damaged, a flatbuffer is still valid: then the command must
have printed its result. Exit status 1 if any case went otherwise.

Without --run, it is one of the digits demo's networks, untrained. With --out a table is written
there.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import damaged_files
import numpy as np
from command_line import shown_command
from damaged_files import Case

from bitat_tf import convert, machine, run_directory
from bitat_tf.experiment import Run
from bitat_tf.files import write_bytes, write_text
from bitat_tf.recipe_files import load_recipe

LIMIT_SECONDS = 10.0
# A command that succeeds, such as a conversion, may take longer than an error.
_HUNG_SECONDS = 120.0
_LIMIT_MB = 1024.0
NAME = "damaged-files.md"
FLATBUFFERS = ("model.tflite", "teacher.tflite", "teacher-int8.tflite")
ARCHIVES = ("student.keras",)
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Outcome:
    """What one command did.

    Attributes:
        status: exit status; None where the process crashed or was ended because it hung.
        output: standard output.
        error: standard error, native code's included; of a process that ended, why.
        seconds: it took.
        growth_mb: by which the process grew at most (0 where the system does not tell).
    """

    status: int | None
    output: str
    error: str
    seconds: float
    growth_mb: float = 0.0


def fault(outcome: Outcome, left: Sequence[str]) -> str | None:
    """What is wrong with an outcome, given the files that it left behind; None if nothing."""
    if outcome.status is None:
        return outcome.error
    if outcome.growth_mb > _LIMIT_MB:
        return f"the process grew by {outcome.growth_mb:.0f} MB"
    if outcome.status == 0:
        return None if outcome.output.strip() else "no error, and no result"
    lines = [line for line in outcome.error.splitlines() if line.strip()]
    if outcome.status not in (1, 2):
        return f"exit status {outcome.status}: {lines[-1:]}"
    if len(lines) != 1 or not lines[0].startswith("bitat: ") or "--verbose" in lines[0]:
        return f"no clear line, but {lines[:3]}"
    if outcome.seconds > LIMIT_SECONDS:
        return f"an error after {outcome.seconds:.1f} s"
    return f"left {', '.join(left)}" if left else None


def _kib(key: str) -> int:
    """A line of the kernel's account of this process; 0 where there is none."""
    lines = _STATUS.read_text().splitlines() if _STATUS.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(key + ":")), 0)


def _run(arguments: Sequence[str]) -> Outcome:
    """A command within this process, with both streams held at their descriptors."""
    from bitat_tf.cli import main as bitat

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        saved = os.dup(1), os.dup(2)
        if _CLEAR.exists():
            _CLEAR.write_text("5")  # the peak starts anew
        before = _kib("VmRSS")
        for stream, file in ((1, out), (2, err)):
            os.dup2(file.fileno(), stream)
        start = time.perf_counter()
        try:
            status = bitat(arguments)
        finally:
            seconds = time.perf_counter() - start
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, descriptor in zip((1, 2), saved, strict=True):
                os.dup2(descriptor, stream)
                os.close(descriptor)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return Outcome(status, texts[0], texts[1], seconds, (_kib("VmHWM") - before) / 1024)


def serve(connection: Connection, temporary: str) -> None:
    """Run the commands that arrive until the other end is closed. In a process of its own."""
    tempfile.tempdir = temporary
    while True:
        try:
            arguments = connection.recv()
        except EOFError:
            return
        connection.send(_run(arguments))


class Caller:
    """The process that calls `bitat`; started anew after it crashed or hung.

    Args:
        temporary: directory for its temporary files.

    Attributes:
        deaths: how often it crashed or hung.
    """

    def __init__(self, temporary: Path) -> None:
        self.deaths = 0
        self._temporary = temporary
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        arguments = (other, str(self._temporary))
        self._process = context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        other.close()

    @property
    def process_id(self) -> int | None:
        """Of the process as it is now."""
        return self._process.pid

    def close(self) -> None:
        """End it."""
        self._connection.close()
        self._process.kill()
        self._process.join()

    def call(self, arguments: Sequence[object]) -> Outcome:
        """Run `bitat` with these arguments."""
        start = time.perf_counter()
        why = f"hung for {_HUNG_SECONDS:g} s"
        try:
            self._connection.send([str(argument) for argument in arguments])
            if self._connection.poll(_HUNG_SECONDS):
                outcome: Outcome = self._connection.recv()
                return outcome
            self._process.kill()
        except (EOFError, ConnectionError):
            self._process.join()
            why = f"crashed with status {self._process.exitcode}"
        self._process.join()
        self.deaths += 1
        self._start()
        return Outcome(None, "", why, time.perf_counter() - start)


@dataclass
class Tally:
    """Of one kind of damage."""

    cases: int = 0
    refused: int = 0
    ran: int = 0
    slowest_seconds: float = 0.0
    growth_mb: float = 0.0
    faults: list[str] = field(default_factory=list)


class Fuzzer:
    """Runs cases one after the other.

    Args:
        run: directory of a run: what is damaged, and the data to evaluate on. Only read.
        folder: an empty directory to work in.
    """

    def __init__(self, run: Path, folder: Path) -> None:
        self._run = run
        self._work, self._temporary = folder / "work", folder / "temporary"
        for made in (self._work, self._temporary):
            made.mkdir()
        self.caller = Caller(self._temporary)

    def whole(self, names: Sequence[str]) -> list[bytes]:
        """The files to be damaged."""
        return [(self._run / name).read_bytes() for name in names]

    def check_whole_files_pass(self) -> None:
        """Raise unless every command succeeds on what is not damaged."""
        for name in (*FLATBUFFERS, *ARCHIVES):
            path = self._work / name
            shutil.copy(self._run / name, path)
            for index in range(2):
                for command in self._commands(path, index):
                    outcome = self.caller.call(command)
                    if outcome.status != 0:
                        raise RuntimeError(f"{name} is whole, but {command[0]}: {outcome.error}")
            self._sweep()

    def run_case(self, index: int, case: Case, tally: Tally) -> None:
        """One file through its commands, counted."""
        path = self._work / case.name
        case.write(path)
        before = self._run_state()
        ran = True
        tally.cases += 1
        for command in self._commands(path, index):
            outcome = self.caller.call(command)
            left = [] if outcome.status == 0 else self._left(path)
            if self._run_state() != before:
                left.append(f"changes in {self._run}")
            wrong = fault(outcome, left)
            if wrong is not None:
                tally.faults.append(f"{case.name}, {command[0]}: {wrong}")
            if outcome.status != 0:
                ran = False
                tally.slowest_seconds = max(tally.slowest_seconds, outcome.seconds)
            tally.growth_mb = max(tally.growth_mb, outcome.growth_mb)
        tally.ran += ran
        tally.refused += not ran
        self._sweep()

    def _commands(self, path: Path, index: int) -> list[list[object]]:
        evaluate = ["evaluate", self._run, path]
        inspect = ["inspect", path]
        if path.suffix == ".tflite":
            benchmark = ["benchmark", path, "--warmup", "0", "--repeats", "1"]
            return [inspect, evaluate if index % 2 else benchmark]
        convert = ["convert", path, "--out", self._work / "converted.tflite"]
        return [convert, inspect if index % 2 else evaluate]

    def _left(self, path: Path) -> list[str]:
        found = [*self._work.iterdir(), *self._temporary.iterdir()]
        return [str(entry) for entry in found if entry != path]

    def _run_state(self) -> list[tuple[str, int]]:
        return sorted((str(p), p.stat().st_mtime_ns) for p in self._run.rglob("*"))

    def _sweep(self) -> None:
        for entry in [*self._work.iterdir(), *self._temporary.iterdir()]:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def fuzz(fuzzer: Fuzzer, cases: Sequence[Case], *, progress: bool = False) -> dict[str, Tally]:
    """All cases, by kind of damage."""
    tallies: dict[str, Tally] = {}
    for index, case in enumerate(cases):
        fuzzer.run_case(index, case, tallies.setdefault(case.kind, Tally()))
        if progress and (index + 1) % 25 == 0:
            print(f"{index + 1} of {len(cases)}", file=sys.stderr, flush=True)
    return tallies


def make_run(folder: Path) -> None:
    """A run of the digits demo with untrained networks: damage does not ask what they learnt."""
    run = Run.create(folder, load_recipe("digits-demo"), overwrite=False, command="fuzz_files")
    student, twin = (run.build_model(binary=binary) for binary in (True, False))
    run_directory.save_model(folder, "student", student)
    images = np.random.default_rng(0).normal(size=(8, *student.input_shape[1:]))
    made = {
        "model": convert.export(student),
        "teacher": convert.export_float(twin),
        run_directory.INT8: convert.export_int8(twin, images.astype(np.float32)),
    }
    for name, content in made.items():
        write_bytes(run_directory.flatbuffer_path(folder, name), content)


def page(tables: dict[str, dict[str, Tally]], deaths: int, seconds: float, command: str) -> str:
    """The counts as Markdown."""
    everything = [tally for kinds in tables.values() for tally in kinds.values()]
    faults = [text for tally in everything for text in tally.faults]
    growth = max(tally.growth_mb for tally in everything)
    lines = [
        "# Damaged files",
        "",
        f"Made by `{command}` on {machine.describe()} in {seconds / 60:.0f} minutes. Ran: only "
        "weights or names were damaged, or nothing that counts, and every command gave a result. "
        "Slowest: longest way to an error, in seconds.",
        "",
        "| file | damage | files | refused | ran | slowest | wrong |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, kinds in tables.items():
        for kind, tally in [*kinds.items(), ("all", _sum(list(kinds.values())))]:
            lines.append(
                f"| {name} | {kind} | {tally.cases} | {tally.refused} | {tally.ran} | "
                f"{tally.slowest_seconds:.1f} | {len(tally.faults)} |"
            )
    lines += [
        "",
        f"The calling process crashed or hung {deaths} times, and grew by at most "
        f"{growth:,.0f} MB over one command.",
    ]
    return "\n".join([*lines, *(["", *(f"- {text}" for text in faults)] if faults else [])]) + "\n"


def _sum(tallies: Sequence[Tally]) -> Tally:
    return Tally(
        cases=sum(t.cases for t in tallies),
        refused=sum(t.refused for t in tallies),
        ran=sum(t.ran for t in tallies),
        slowest_seconds=max(t.slowest_seconds for t in tallies),
        faults=[text for t in tallies for text in t.faults],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Damage, run, print; exit status 1 if a case went wrong."""
    parser = argparse.ArgumentParser(description="damaged files through every command")
    parser.add_argument("--run", type=Path, help="a finished run with its twins (default: a demo)")
    parser.add_argument("--flatbuffers", type=int, default=1000, help="how many (%(default)s)")
    parser.add_argument("--archives", type=int, default=100, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help=f"directory for {NAME}")
    given: list[Any] = sys.argv[1:] if argv is None else list(argv)
    arguments = parser.parse_args(given)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = folder / "run"
        if arguments.run is None:
            make_run(run)
        else:
            shutil.copytree(arguments.run, run)
        fuzzer = Fuzzer(run, folder)
        fuzzer.check_whole_files_pass()
        tables = {}
        for kind, make, count, names in (
            (".tflite", damaged_files.flatbuffers, arguments.flatbuffers, FLATBUFFERS),
            (".keras", damaged_files.archives, arguments.archives, ARCHIVES),
        ):
            cases = make(count, arguments.seed, fuzzer.whole(names))
            tables[kind] = fuzz(fuzzer, cases, progress=True)
        fuzzer.caller.close()
    command = shown_command("fuzz_files.py", given, arguments.run)
    text = page(tables, fuzzer.caller.deaths, time.perf_counter() - start, command)
    print(text)
    if arguments.out is not None:
        write_text(arguments.out / NAME, text)
    return 1 if any(tally.faults for kinds in tables.values() for tally in kinds.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
