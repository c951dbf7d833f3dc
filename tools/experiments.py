"""Many trainings from the same float weights: variants x seeds, one record each.

For each seed one float teacher is trained, and from its weights one student per variant of the
recipe. A finished training is one JSON record; what has a record is not done again, and a
training that was interrupted goes on from its last checkpoint (docs/resume.md), so a tool that
is killed goes on where it was. Records are small, hold every figure that a table shows, and
stand in the repository beside the tables; the run directories, models included, do not.

A directory of records belongs to one recipe: a record made with other settings is refused. A
setting that is younger than a record counts as its default, so whoever changes what a default
does removes the records that it concerns.

The float teachers stand beside the records as well: another machine, on which the same training
would end in other weights, goes on from the very same ones.
"""

import argparse
import dataclasses
import hashlib
import json
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bitat_tf import data, machine, phases, recipe_files, run_directory, train
from bitat_tf.config import Recipe
from bitat_tf.experiment import Run
from bitat_tf.files import write_bytes, write_text
from bitat_tf.loading import load_keras_model
from bitat_tf.recipe_files import apply_overrides, load_recipe
from bitat_tf.records import from_json, from_mapping, to_json, to_mapping
from bitat_tf.results import TrainingPoint

TEACHER = "float"

# Arguments of a backbone that its float twin has nothing to do with.
_STUDENT_ONLY = {"thresholds", "max_block", "activation_quantizer", "kernel_quantizer"}


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to make the student.

    Attributes:
        name: of its records and in tables.
        settings: overrides of the base recipe, `section.key=value`.
    """

    name: str
    settings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Record:
    """One finished training.

    Attributes:
        name: of the variant; `"float"` for the teacher.
        seed: of everything random in it.
        recipe: the resolved recipe, less where the data lie.
        machine: what it ran on.
        test_accuracy, validation_accuracy: in [0, 1], BatchNorm recomputed.
        calibrated_accuracy: on the test split before training; None without calibration.
        teacher_accuracy: on the test split, of the very float weights it started from.
        seconds: wall time of training, with the calibration where there is one.
        curve: logged points of the training.
    """

    name: str
    seed: int
    recipe: dict[str, Any]
    machine: str
    test_accuracy: float
    validation_accuracy: float
    teacher_accuracy: float
    seconds: float
    calibrated_accuracy: float | None = None
    curve: tuple[TrainingPoint, ...] = ()


class Experiments:
    """Trainings that share teachers, data, and a directory of records.

    Args:
        recipe: the base of all variants; the seed is put in.
        records: directory of the records.
        teachers: directory of the trained teachers, which several tools share.
        work: directory of the run directories.
        console: where progress goes; None is silent.
    """

    def __init__(
        self,
        recipe: Recipe,
        records: Path,
        teachers: Path,
        work: Path,
        console: Console | None = None,
    ) -> None:
        self.recipe = recipe
        self.folder = records
        self.teachers = teachers
        self.work = work
        self.console = console
        self._keeps_teachers = True
        self._images: data.ImageData | None = None

    @classmethod
    def from_arguments(
        cls, recipe: Recipe, name: str, arguments: argparse.Namespace
    ) -> "Experiments":
        """As a tool's command line (`arguments_parser`) asks; `name` is the table's."""
        return cls(
            recipe,
            arguments.out / "records" / name,
            arguments.out / "teachers",
            arguments.work,
            None if arguments.quiet else Console(stderr=True),
        )

    def of_float_nets(self, recipe: Recipe) -> "Experiments":
        """The same directories for a recipe of the same data whose float nets teach nobody.

        Their records are kept beside the teachers', the nets themselves are not.
        """
        other = Experiments(recipe, self.folder, self.teachers, self.work, self.console)
        other._keeps_teachers = False
        other._images = self._images
        return other

    def carry_out(self, variants: Sequence[Variant], seeds: Sequence[int]) -> list[Record]:
        """Do every training that has no record yet; the teachers' records first, then the rest.

        Raises:
            ValueError: when a record was made with other settings, before any training.
        """
        todo = [(Variant(TEACHER), seed) for seed in seeds]
        todo += [(variant, seed) for seed in seeds for variant in variants]
        for variant, seed in todo:
            self.recipe_of(variant, seed)
            self.read(variant, seed)
        return [self.record(variant, seed) for variant, seed in todo]

    def record(self, variant: Variant, seed: int) -> Record:
        """The record of one training, which is carried out unless it was before."""
        found = self.read(variant, seed)
        if found is not None:
            return found
        self._say(f"{variant.name}, seed {seed}")
        run = self._teacher(seed) if variant.name == TEACHER else self._student(variant, seed)
        made = self._measure(variant, seed, run)
        path = self._path(variant, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, to_json(made))
        return made

    def read(self, variant: Variant, seed: int) -> Record | None:
        """The record of a finished training.

        Raises:
            ValueError: when it was made with other settings.
        """
        path = self._path(variant, seed)
        if not path.is_file():
            return None
        record = from_json(Record, path.read_text(encoding="utf-8"))
        wanted = self.recipe_of(variant, seed)
        different = differences(record.recipe, wanted, teacher=variant.name == TEACHER)
        if different:
            raise ValueError(
                f"{path} was made with other settings ({', '.join(different)}). Choose another "
                "directory with --out, or remove it."
            )
        return record

    def recipe_of(self, variant: Variant, seed: int) -> Recipe:
        """The recipe of one training."""
        values = apply_overrides(to_mapping(self.recipe), variant.settings)
        return dataclasses.replace(from_mapping(Recipe, values), seed=seed)

    def _teacher(self, seed: int) -> Run:
        """Train it, and keep it unless it teaches nobody; its record is written last."""
        folder = self.work / self._teacher_name(seed)
        run = self._run(folder, self.recipe_of(Variant(TEACHER), seed), "teacher")
        phases.carry_out(run, phases.TRAINING[:1])
        if self._keeps_teachers:
            self.teachers.mkdir(parents=True, exist_ok=True)
            trained = run_directory.model_path(run.folder, "teacher")
            write_bytes(self._kept_teacher(seed), trained.read_bytes())
        return run

    def _student(self, variant: Variant, seed: int) -> Run:
        curve = self.record(Variant(TEACHER), seed).curve
        folder = self.work / self.folder.name / f"{variant.name}-seed{seed}"
        run = self._run(folder, self.recipe_of(variant, seed), "student")
        run.adopt_teacher(load_keras_model(self._kept_teacher(seed)), curve)
        phases.carry_out(run, phases.TRAINING)
        return run

    def _run(self, folder: Path, recipe: Recipe, name: str) -> Run:
        """The run directory of a training that was interrupted, or else an empty one.

        A training that came to its end starts again as well: whoever removes a record wants it
        made anew.
        """
        images = self._images_of(recipe)
        over = run_directory.model_path(folder, name).exists()
        if folder.exists() and (over or not _was_started(folder, recipe)):
            shutil.rmtree(folder)
        return Run.resume(folder, recipe, console=self.console, images=images)

    def _images_of(self, recipe: Recipe) -> data.ImageData:
        """The parts do not depend on the seed; the orders do."""
        if self._images is None:
            self._images = data.load(recipe.data, seed=recipe.seed)
        return dataclasses.replace(self._images, seed=recipe.seed)

    def _measure(self, variant: Variant, seed: int, run: Run) -> Record:
        student = variant.name != TEACHER
        model = run.load_model("student" if student else "teacher")
        test = run.accuracy(model)
        calibration = run.result.calibration
        one_shot = run_directory.model_path(run.folder, "calibrated").exists()
        seconds = sum(run.result.seconds.values()) + (calibration.seconds if calibration else 0.0)
        recipe = to_mapping(run.recipe)
        del recipe["data"]["data_dir"]
        return Record(
            name=variant.name,
            seed=seed,
            recipe=recipe,
            machine=machine.describe(),
            test_accuracy=test,
            validation_accuracy=run.accuracy(model, validation=True),
            teacher_accuracy=self.record(Variant(TEACHER), seed).test_accuracy if student else test,
            seconds=round(seconds, 1),
            calibrated_accuracy=run.accuracy(run.load_model("calibrated")) if one_shot else None,
            curve=run.result.student_curve if student else run.result.teacher_curve,
        )

    def _path(self, variant: Variant, seed: int) -> Path:
        if variant.name == TEACHER:
            return self.teachers / f"{self._teacher_name(seed)}.json"
        return self.folder / f"{variant.name}-seed{seed}.json"

    def _kept_teacher(self, seed: int) -> Path:
        return self.teachers / f"{self._teacher_name(seed)}.keras"

    def _teacher_name(self, seed: int) -> str:
        """After what the teacher is made of, so that several tools share it.

        Only settings that differ from their defaults count: a younger one changes no name.
        """
        recipe = to_mapping(self.recipe_of(Variant(TEACHER), seed))
        default = to_mapping(Recipe(name="default"))
        del recipe["data"]["data_dir"]
        recipe["model"] = _of_twin(recipe["model"])
        parts = {
            f"{section}.{key}": value
            for section in ("data", "model", "teacher")
            for key, value in recipe[section].items()
            if value != default[section][key]
        }
        text = json.dumps(parts, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{Path(recipe['data']['dataset']).name}-{digest}-seed{seed}"

    def _say(self, text: str) -> None:
        if self.console is not None:
            self.console.print(text, highlight=False, soft_wrap=True)


def _was_started(folder: Path, recipe: Recipe) -> bool:
    """Whether a run of this very recipe lies there."""
    if not run_directory.is_run(folder):
        return False
    return not recipe_files.differences(load_recipe(str(folder / "recipe.yaml")), recipe)


def differences(made: Any, recipe: Recipe, *, teacher: bool) -> list[str]:
    """Settings of a record that differ from a recipe's and matter to its figures.

    A teacher has nothing to do with the student's settings, nor a method that does not
    calibrate with the calibration's; where the data lie never matters.

    Args:
        made: the record's recipe.
        recipe: what is wanted now.
        teacher: whether it is a teacher's record.
    """
    wanted = to_mapping(recipe)
    default = to_mapping(Recipe(name="default"))
    sections = ["data", "model", "teacher"]
    if teacher:
        made = {**made, "model": _of_twin(made["model"])}
        wanted["model"] = _of_twin(wanted["model"])
    else:
        sections.append("student")
        if train.method(recipe.student.method).calibrated:
            sections.append("calibration")
    different = [] if made["seed"] == wanted["seed"] else ["seed"]
    for section in sections:
        keys = [key for key in wanted[section] if key != "data_dir"]
        different += [
            f"{section}.{key}"
            for key in keys
            if made[section].get(key, default[section][key]) != wanted[section][key]
        ]
    return different


def _of_twin(model: Any) -> dict[str, Any]:
    """A recipe's `model` section, less what only the student has."""
    arguments = {k: v for k, v in model["arguments"].items() if k not in _STUDENT_ONLY}
    return {**model, "arguments": arguments}


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation; 0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def percent(values: Sequence[float]) -> str:
    """Mean +- spread of shares, in percent; of a single value no spread."""
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} +- {100 * spread(values):.1f}" if len(values) > 1 else mean


def one_shot(records: Sequence[Record]) -> list[str]:
    """What calibration alone gives, where there is one; a paragraph's lines."""
    values = [r.calibrated_accuracy for r in records if r.calibrated_accuracy is not None]
    return [f"Calibrated, before any training step: {percent(values)} %.", ""] if values else []


def about(records: Sequence[Record]) -> str:
    """Seeds, spread and machine, in a sentence or two."""
    seeds = sorted({record.seed for record in records})
    note = "mean +- standard deviation over them" if len(seeds) > 1 else "one of them"
    machines = "; ".join(sorted({record.machine for record in records}))
    return f"Seeds {', '.join(map(str, seeds))}; {note}. Ran on {machines}."


def escaped(cell: str) -> str:
    """A table's cell may say |w|."""
    return cell.replace("|", r"\|")
