"""A recipe carried out: data, teacher, calibration, training, conversion, figures.

Everything lives in one run directory (`bitat_tf.run_directory` says what is there). Each phase
reads what the one before left there, so `bitat convert` and the others can be run on a
directory at any later time.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bitat_tf import (
    convert,
    data,
    deployment,
    machine,
    models,
    phases,
    report,
    run_directory,
    scoring,
    train,
)
from bitat_tf._keras import tf
from bitat_tf.android_results import AndroidBenchmark
from bitat_tf.config import Recipe
from bitat_tf.graph import binary_units
from bitat_tf.loading import load_keras_model, read_flatbuffer
from bitat_tf.progress import Recorder
from bitat_tf.recipe_files import differences, load_recipe
from bitat_tf.records import to_mapping
from bitat_tf.results import (
    HostProfile,
    LatencyRecord,
    ModelScore,
    ParityReport,
    RunResult,
    TrainingPoint,
)
from bitat_tf.train import workers
from bitat_tf.train.evaluate import EVALUATION_BATCH


class Run:
    """One run directory and what can be done in it.

    Args:
        folder: of the run.
        recipe: what it carries out.
        result: its figures so far.
        console: where progress goes; None is silent.

    Attributes:
        resumed: whether its phases go on from what they kept when they were interrupted.
        strategy: of `tf.distribute`, that it trains under; None is one device.
        progress: where it is told how far it is, while its phases are carried out in order.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, result: RunResult, console: Console | None = None
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.result = result
        self.console = console
        self.resumed = False
        self.strategy: Any = None
        self.progress: Recorder | None = None
        self._images: data.ImageData | None = None

    @classmethod
    def create(
        cls,
        folder: Path,
        recipe: Recipe,
        *,
        overwrite: bool = False,
        console: Any = None,
        images: data.ImageData | None = None,
        command: str = "",
    ) -> "Run":
        """Start a run in a new directory. Nothing is written when the recipe cannot run.

        Args:
            folder: to make.
            recipe: to carry out.
            overwrite: remove the run that is there first.
            console: where progress goes.
            command: the command line, for the record.
            images: the recipe's data where they are loaded already; for several runs.

        Raises:
            ValueError: when the directory holds something already and `overwrite` is off,
                another process is at work in it, or data set or model cannot be had.
            OSError: when the directory cannot be written.
        """
        folder = Path(folder)
        run_directory.check_free(folder, overwrite=overwrite)
        run = cls(folder, recipe, _new_result(recipe, command), console)
        run._images = images
        run._check()
        folder.mkdir(parents=True, exist_ok=True)
        with run_directory.locked(folder):
            run_directory.clear(folder)
            run_directory.start(folder, recipe)
            run.keep()
        return run

    @classmethod
    def resume(
        cls,
        folder: Path,
        recipe: Recipe,
        *,
        console: Any = None,
        images: data.ImageData | None = None,
        command: str = "",
    ) -> "Run":
        """Go on with the run in a directory, or start it where there is none yet.

        Args:
            folder: of the run.
            recipe: that it was started with; where the data lie and what is kept may differ.
            console: where progress goes.
            images: the recipe's data where they are loaded already.
            command: the command line, for the record of a run that starts.

        Raises:
            ValueError: when it was started with another recipe, another process is at work in
                it, or as `create` and `open`.
        """
        folder = Path(folder)
        if folder.is_dir():
            with run_directory.locked(folder):
                run_directory.clear_unfinished(folder)
        if not run_directory.is_run(folder):
            return cls.create(folder, recipe, console=console, images=images, command=command)
        before = load_recipe(str(folder / "recipe.yaml"))
        different = differences(before, recipe)
        if different:
            raise ValueError(
                f"{folder} was started with another recipe: {'; '.join(different)}. Resume with "
                "the same, or start again with --overwrite."
            )
        # Killed before its first figures: it has none yet.
        begun = (folder / "report.json").exists()
        result = report.load(folder) if begun else _new_result(recipe, command)
        run = cls(folder, recipe, result, console)
        run._images = images
        run.resumed = True
        if recipe != before:
            with run_directory.locked(folder):
                run_directory.start(folder, recipe)
                run.keep(recipe=to_mapping(recipe))
        return run

    def _check(self) -> None:
        """Build and load everything once, so that what cannot be had fails before any output."""
        recipe = self.recipe
        student = self.build_model(binary=True)
        if not binary_units(student):
            raise ValueError(
                f"Model {recipe.model.name!r} with {dict(recipe.model.arguments)} has no layer to "
                "binarize."
            )
        self.images.train(recipe.teacher.batch_size)
        self.images.train(recipe.student.batch_size)
        self.calibration_images()

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        overrides: Sequence[str] = (),
        console: Any = None,
        images: data.ImageData | None = None,
    ) -> "Run":
        """Open the directory of an earlier run.

        Args:
            folder: of the run.
            overrides: settings that replace the recipe's.
            console: where progress goes.
            images: the recipe's data where they are loaded already.

        Raises:
            ValueError: when it is none.
        """
        folder = Path(folder)
        if not run_directory.is_run(folder):
            raise ValueError(
                f"{folder} is not a run directory: it holds no recipe.yaml. Make one with "
                "`bitat train`."
            )
        recipe = load_recipe(str(folder / "recipe.yaml"), overrides)
        run = cls(folder, recipe, report.load(folder), console)
        run._images = images
        return run

    @property
    def images(self) -> data.ImageData:
        """The recipe's data set, loaded on first use."""
        if self._images is None:
            self._images = data.load(self.recipe.data, seed=self.recipe.seed)
        return self._images

    @property
    def chief(self) -> bool:
        """Whether this process is the worker whose files are kept."""
        return workers.of(self.strategy).chief

    @property
    def method(self) -> train.Method:
        """How the student is trained."""
        return train.method(self.recipe.student.method)

    def build_model(self, *, binary: bool) -> Any:
        """Build the recipe's backbone for the data set's image shape and classes."""
        height, width, channels = self.images.image_shape
        if height != width:
            raise ValueError(f"Images must be square. Received: {height} x {width}")
        arguments = {
            "classes": self.images.classes,
            "input_size": height,
            "input_channels": channels,
            **self.recipe.model.arguments,
        }
        if binary:
            options = train.option_layers(self.recipe.student)
            arguments = {**self.method.layer_options, **options, **arguments}
        return models.build(self.recipe.model.name, **arguments, binary=binary)

    def load_model(self, name: str) -> Any:
        """One of the run's Keras models, e.g. `"student"`.

        Raises:
            ValueError: when the run has not come so far, or the file is damaged.
        """
        return load_keras_model(run_directory.model_path(self.folder, name))

    def flatbuffer(self, name: str = "model") -> bytes:
        """One of the run's flatbuffers: `"model"`, `"teacher"` or `"teacher-int8"`."""
        return read_flatbuffer(run_directory.flatbuffer_path(self.folder, name))

    def adopt_teacher(self, teacher: Any, curve: Sequence[TrainingPoint]) -> None:
        """Take a teacher that was trained elsewhere, with its curve."""
        run_directory.save_model(self.folder, "teacher", teacher)
        self.keep(teacher_curve=tuple(curve))

    def calibrate(self, teacher: Any) -> Any:
        """Binarize a student in closed form, and save it: `phases.calibrate`."""
        return phases.calibrate(self, teacher)

    def score(self) -> tuple[ModelScore, ...]:
        """Accuracy on the test split of every model the run has by now: `scoring.scores`."""
        self.keep(scores=scoring.scores(self))
        return self.result.scores

    def accuracy(self, model: Any, *, validation: bool = False) -> float:
        """Top-1 accuracy of a Keras model or a `runtime.Runner`: `scoring.accuracy`."""
        return scoring.accuracy(self.images, model, validation=validation)

    def convert(
        self,
        *,
        fold: bool = True,
        ends: convert.Ends = "float32",
        io: convert.Ends = "float32",
        parity_layers: bool = False,
    ) -> tuple[convert.Conversion, ParityReport]:
        """Convert the trained student, and its teacher for comparison: `deployment.convert_run`."""
        return deployment.convert_run(
            self, fold=fold, ends=ends, io=io, parity_layers=parity_layers
        )

    def benchmark(self) -> tuple[LatencyRecord, ...]:
        """Host latency of binary, float and int8, interleaved: `deployment.benchmark`."""
        return deployment.benchmark(self)

    def profile(self) -> tuple[HostProfile, ...]:
        """Host time of every operator of binary, float and int8: `deployment.profile`."""
        return deployment.profile(self)

    def make_twins(self) -> None:
        """Write the teacher's flatbuffers that are not there yet: `deployment.make_twins`."""
        deployment.make_twins(self)

    def flatbuffers(self) -> dict[str, bytes]:
        """`"binary"`, `"float"` and `"int8"`, as far as they are there."""
        return deployment.flatbuffers(self)

    def keep_android(self, benchmark: AndroidBenchmark) -> None:
        """Take a session on a phone into the figures, in place of that phone's last one."""
        others = [b for b in self.result.android if b.device.serial != benchmark.device.serial]
        self.keep(android=(*others, benchmark))

    def report(self) -> Path:
        """Write report.md, report.json and the figures; returns the Markdown's path."""
        return report.write(self.result, self.folder)

    def calibration_images(self) -> Any:
        """The batches that calibration sees."""
        config = self.recipe.calibration
        return self.images.calibration(config.batch_size, config.batches)

    def calibration_array(self) -> Any:
        """The images that calibration sees, as one array."""
        return tf.concat([images for images, _ in self.calibration_images()], axis=0).numpy()

    def test_images(self, count: int) -> Any:
        """The first `count` test images as one array; 0 is all."""
        test = self.images.test(EVALUATION_BATCH).unbatch()
        chosen = test.take(count) if count else test
        return tf.stack([image for image, _ in chosen]).numpy()

    def keep(self, **figures: Any) -> None:
        """Take new figures into the result, and keep them on disk."""
        self.result = dataclasses.replace(self.result, **figures)
        report.save(self.result, self.folder)

    def say(self, text: str) -> None:
        """Show a line of progress."""
        if self.console is not None:
            self.console.print(text, highlight=False, soft_wrap=True)


def _new_result(recipe: Recipe, command: str) -> RunResult:
    """The figures of a run that has none yet."""
    return RunResult(to_mapping(recipe), machine.versions(), machine.describe(), command=command)
