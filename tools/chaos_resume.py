"""Kill a training again and again, resume it each time, and compare it with one left alone.

    python tools/chaos_resume.py [--cycles 20] [--seed 0] [--work runs/chaos]

A short digits-demo run (progressive schedule, refreshed transforms, distillation) is carried out
twice: once whole, and once with `bitat train ... --resume` in a loop, its process group killed
by SIGKILL each time at a moment drawn from the seed:

- `begin`: within two seconds after it took the run directory, as it restores or calibrates;
- `write`: at the sight of a temporary file, as a checkpoint or a model is being written;
- `later`: some time after a checkpoint was written.

After every kill all that lies there under its final name must be whole: checkpoints by their
checksums, models by those of the zip archive, records by being read. The next start must go on
after the last step that was kept. In the end teacher, calibrated and trained student must have
the weights of the run that was left alone, bit for bit, and the records its curves. Prints a
table; exit status 1 where anything differs. Takes about 15 minutes on two cores; a second call
takes the run left alone from the first.
"""

import argparse
import contextlib
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitat_tf import progress, report, run_directory
from bitat_tf.loading import load_keras_model
from bitat_tf.recipe_files import load_recipe
from bitat_tf.train import damage, kept

# A demo-size run that changes something at every few steps, with some 50 checkpoints.
SETTINGS = (
    "teacher.epochs=8",
    "calibration.batches=2",
    "student.steps=240",
    "student.log_steps=40",
    "student.progressive_steps=60",
    "student.refresh_steps=50",
    "student.distill_weight=0.5",
    "student.batchnorm_batches=4",
    "checkpoint.steps=8",
)
KINDS = ("begin", "write", "write", "later", "later")
MODELS = ("teacher", "calibrated", "student")

_POLL_SECONDS = 0.002
# A start that takes longer than this has hung.
_PATIENCE_SECONDS = 1800.0
_BEGIN_SECONDS = 2.0
_LATER_SECONDS = 4.0
_TEMPORARY = re.compile(r"^\..+\.keras|_temp$|\.tempstate")


@dataclass(frozen=True)
class Moment:
    """When to kill.

    Attributes:
        kind: one of `KINDS`.
        checkpoints: how many this process shall have written before.
        seconds: to wait then.
    """

    kind: str
    checkpoints: int
    seconds: float

    @classmethod
    def draw(cls, rng: random.Random) -> "Moment":
        """One at random."""
        kind = rng.choice(KINDS)
        longest = {"begin": _BEGIN_SECONDS, "write": 0.0, "later": _LATER_SECONDS}[kind]
        return cls(kind, rng.choice((1, 2)) if kind != "begin" else 0, rng.uniform(0, longest))


@dataclass(frozen=True)
class Cycle:
    """What came of one start.

    Attributes:
        moment: at which it was to be killed.
        resumed: where it said that it went on; empty where it started a phase.
        kept: checkpoint on disk after the kill, `student 48`; empty without one.
        writing: the temporary files that the kill left.
        wrong: what was damaged or not as it must be.
    """

    moment: Moment
    resumed: str
    kept: str
    writing: tuple[str, ...]
    wrong: tuple[str, ...]


def newest(folder: Path) -> str:
    """The last checkpoint of a run that is whole, as `student 48`, or ""."""
    for name in ("student", "teacher"):
        paths = kept(run_directory.states_path(folder, name))
        if paths:
            return f"{name} {paths[-1].rpartition('-')[2]}"
    return ""


def temporaries(folder: Path) -> tuple[str, ...]:
    """Names of what is being written, or was when its writer was killed."""
    found = []
    for directory in (folder, *(run_directory.states_path(folder, m) for m in MODELS)):
        with contextlib.suppress(FileNotFoundError):
            found += [name for name in os.listdir(directory) if _TEMPORARY.search(name)]
    return tuple(sorted(found))


def whole(folder: Path) -> tuple[str, ...]:
    """What is wrong with the files of a run that stand under their final names."""
    wrong = []
    for name in MODELS:
        for path in kept(run_directory.states_path(folder, name)):
            if damage(path):
                wrong.append(f"{Path(path).name} of {name}: {damage(path)}")
    for model in folder.glob("[!.]*.keras"):
        try:
            with zipfile.ZipFile(model) as archive:
                if archive.testzip() is not None:
                    wrong.append(f"{model.name}: a wrong checksum")
        except zipfile.BadZipFile as err:
            wrong.append(f"{model.name}: {err}")
    for name, read in (
        ("recipe.yaml", load_recipe),
        ("report.json", lambda _: report.load(folder)),
        ("progress.json", lambda _: progress.read(folder)),
    ):
        if (folder / name).exists():
            try:
                read(str(folder / name))
            except ValueError as err:
                wrong.append(f"{name}: {err}")
    return tuple(wrong)


def written(folder: Path) -> tuple[int, ...]:
    """Changes with every checkpoint that a run writes, and costs next to nothing to ask."""
    found = []
    for name in MODELS:
        with contextlib.suppress(FileNotFoundError):
            state = os.stat(run_directory.states_path(folder, name) / "checkpoint")
            found += [state.st_ino, state.st_mtime_ns]
    return tuple(found)


def wait_for(moment: Moment, folder: Path, process: subprocess.Popen[bytes]) -> bool:
    """Wait until a process is to be killed; False when it ended before."""
    last, count, begun = written(folder), 0, False
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            return False
        begun = begun or (folder.is_dir() and run_directory.is_locked(folder) is True)
        found = written(folder)
        if found != last:
            last, count = found, count + 1
        # The manager writes its file before it removes what is too old, and after.
        if begun and count >= 2 * moment.checkpoints:
            if moment.kind != "write":
                time.sleep(moment.seconds)
                return process.poll() is None
            if temporaries(folder):
                return True
        time.sleep(_POLL_SECONDS)
    raise TimeoutError(f"The training has done nothing for {_PATIENCE_SECONDS:.0f} s.")


def cycle(command: Sequence[str], folder: Path, moment: Moment, log: Path) -> Cycle | None:
    """Start the training, kill it, look at what is left; None when it ended before."""
    before = newest(folder)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            in_time = wait_for(moment, folder, process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = log.read_text(errors="replace")
    if not in_time:
        if process.returncode != 0:
            raise RuntimeError(f"`{shlex.join(command)}` failed: {text.strip()[-300:]}")
        return None
    going_on = re.findall(r"(teacher|student): goes on after step (\d+)", text)
    resumed = " ".join(going_on[0]) if going_on else ""
    wrong = list(whole(folder))
    if "damaged" in text:
        wrong.append("a checkpoint was called damaged")
    if resumed and resumed != before:
        wrong.append(f"went on after {resumed} where {before or 'nothing'} was kept")
    return Cycle(moment, resumed, newest(folder), temporaries(folder), tuple(wrong))


def differences(one: Path, other: Path) -> list[str]:
    """Names of weights and records in which two runs are not the same, bit for bit."""
    found = []
    for name in MODELS:
        first, second = (load_keras_model(folder / f"{name}.keras") for folder in (one, other))
        for a, b in zip(first.weights, second.weights, strict=True):
            if a.numpy().tobytes() != b.numpy().tobytes():
                found.append(f"{name}: {a.name}")
    first, second = report.load(one), report.load(other)
    for field in ("teacher_curve", "student_curve", "stages", "scores"):
        if getattr(first, field) != getattr(second, field):
            found.append(f"report.json: {field}")
    return found


def table(cycles: Sequence[Cycle]) -> str:
    """Markdown."""
    head = "| kill | moment | went on after | kept then | being written | wrong |"
    lines = [head, "| ---: | --- | --- | --- | --- | --- |"]
    for number, c in enumerate(cycles, 1):
        moment = f"{c.moment.kind}, {c.moment.checkpoints} checkpoints + {c.moment.seconds:.1f} s"
        writing = ", ".join(c.writing)
        wrong = "; ".join(c.wrong) or "nothing"
        lines.append(f"| {number} | {moment} | {c.resumed} | {c.kept} | {writing} | {wrong} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run both; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--work", type=Path, default=Path("runs/chaos"))
    parser.add_argument("--recipe", default="digits-demo")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the trainings")
    arguments = parser.parse_args(argv)
    arguments.work.mkdir(parents=True, exist_ok=True)
    settings = [part for setting in (*SETTINGS, *arguments.set) for part in ("--set", setting)]
    train = [arguments.python, "-m", "bitat_tf", "train", arguments.recipe, *settings, "--out"]
    alone, killed = arguments.work / "alone", arguments.work / "killed"
    shutil.rmtree(killed, ignore_errors=True)

    started = time.monotonic()
    # That of an earlier call will do.
    subprocess.run([*train, str(alone), "--resume"], check=True, capture_output=True)
    print(f"Left alone: {time.monotonic() - started:.0f} s", flush=True)
    rng, cycles = random.Random(arguments.seed), list[Cycle]()
    resume = [*train, str(killed), "--resume"]
    while len(cycles) < arguments.cycles:
        log = arguments.work / f"{len(cycles) + 1}.log"
        done = cycle(resume, killed, Moment.draw(rng), log)
        if done is None:
            break
        cycles.append(done)
        print(table([done]).splitlines()[-1], flush=True)
    subprocess.run(resume, check=True, capture_output=True)
    different = differences(alone, killed)
    damaged = sum(bool(c.wrong) for c in cycles)
    print(f"\n{table(cycles)}\n")
    print(f"{len(cycles)} kills in {time.monotonic() - started:.0f} s, {damaged} with damage.")
    print(f"Different from the run left alone: {', '.join(different) or 'nothing'}.")
    if len(cycles) < arguments.cycles:
        print(f"The run was over before {arguments.cycles} kills: give it more steps.")
    return 1 if different or damaged or len(cycles) < arguments.cycles else 0


if __name__ == "__main__":
    sys.exit(main())
