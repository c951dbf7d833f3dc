"""A recipe carried out: data, teacher, calibration, training, conversion, figures.

Everything lives in one run directory (`bitat_tf.run_directory` says what is there). Each phase
reads what the one before left there, so `bitat convert` and the others can be run on a
directory at any later time.
"""

import dataclasses
import time
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
    report,
    run_directory,
    runtime,
    train,
)
from bitat_tf._keras import keras, tf
from bitat_tf.android_results import AndroidBenchmark
from bitat_tf.config import Recipe, load_recipe
from bitat_tf.graph import binary_units
from bitat_tf.loading import load_keras_model, read_flatbuffer
from bitat_tf.records import to_mapping
from bitat_tf.results import (
    CalibrationResult,
    HostProfile,
    LatencyRecord,
    ModelScore,
    ParityReport,
    RunResult,
    TrainingPoint,
)

# Images per batch where only a forward pass is made.
_EVALUATION_BATCH = 500

FLOAT, INT8, CONVERTED = "float", "int8", "converted"
ONE_SHOT, TRAINED = "one-shot calibrated", "trained"


class Run:
    """One run directory and what can be done in it.

    Args:
        folder: of the run.
        recipe: what it carries out.
        result: its figures so far.
        console: where progress goes; None is silent.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, result: RunResult, console: Console | None = None
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.result = result
        self.console = console
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
            ValueError: when the directory holds something already and `overwrite` is off, or
                data set or model cannot be had.
            OSError: when the directory cannot be written.
        """
        folder = Path(folder)
        run_directory.check_free(folder, overwrite=overwrite)
        result = RunResult(
            to_mapping(recipe), machine.versions(), machine.describe(), command=command
        )
        run = cls(folder, recipe, result, console)
        run._images = images
        run._check()
        run_directory.start(folder, recipe)
        run.keep()
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
        self._calibration_images()

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
        if not (folder / "recipe.yaml").is_file():
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

    def train_teacher(self) -> Any:
        """Train the float twin, and save it."""
        config = self.recipe.teacher
        keras.utils.set_random_seed(self.recipe.seed)
        teacher = self.build_model(binary=False)
        per_epoch = max(1, self.images.train_images // config.batch_size)
        steps = config.epochs * per_epoch
        points = self._train(
            train.Distilled(teacher),
            "teacher",
            "float teacher",
            steps,
            config.batch_size,
            train.cosine_adam(config.learning_rate, steps, config.warmup_steps),
            log_steps=per_epoch,
        )
        self._recompute_batchnorm(teacher, config.batch_size)
        run_directory.save_model(self.folder, "teacher", teacher)
        self.keep(teacher_curve=points)
        return teacher

    def adopt_teacher(self, teacher: Any, curve: Sequence[TrainingPoint]) -> None:
        """Take a teacher that was trained elsewhere, with its curve."""
        run_directory.save_model(self.folder, "teacher", teacher)
        self.keep(teacher_curve=tuple(curve))

    def calibrate(self, teacher: Any) -> Any:
        """Binarize a student in closed form on the teacher's weights, and save it."""
        keras.utils.set_random_seed(self.recipe.seed)
        student = self.build_model(binary=True)
        result = train.calibrate(
            student,
            teacher,
            self._calibration_images(),
            config=self.recipe.calibration,
            progress=lambda name, done, total: self._say(f"calibration: {done}/{total} {name}"),
        )
        run_directory.save_model(self.folder, "calibrated", student)
        self._say(f"calibration: {result.images} images in {result.seconds:.1f} s")
        self.keep(calibration=result)
        return student

    def start_student(self, teacher: Any) -> Any:
        """The student as its method's training starts: calibrated, or the teacher's weights."""
        if self.method.calibrated:
            return self.calibrate(teacher)
        keras.utils.set_random_seed(self.recipe.seed)
        student = self.build_model(binary=True)
        train.copy_float_weights(student, teacher)
        return student

    def train_student(self, student: Any, teacher: Any) -> Any:
        """Train the student that `start_student` made as its method says, and save it."""
        config, method = self.recipe.student, self.method
        keras.utils.set_random_seed(self.recipe.seed)
        stages = self._stages(student, teacher)
        weight = config.distill_weight if method.distill_weight is None else method.distill_weight
        decay = None
        also: Sequence[train.BeforeStep] = ()
        if isinstance(stages, train.Annealing):
            decay = stages.weight_decay
        else:
            images, batches = self._calibration_images(), self.recipe.calibration.batches
            also = train.option_steps(student, stages.schedule, config, images, batches)
        points = self._train(
            train.Distilled(
                student,
                teacher,
                weight,
                config.temperature,
                decay,
                config.quantization_loss,
                config.feature_weight,
            ),
            "student",
            "binary student",
            config.steps,
            config.batch_size,
            method.optimizer(config.learning_rate, config.steps),
            log_steps=config.log_steps,
            stages=stages,
            also=also,
        )
        self._recompute_batchnorm(student, config.batch_size)
        run_directory.save_model(self.folder, "student", student)
        self.keep(student_curve=points, stages=tuple(stages.entered))
        if isinstance(stages, train.Stages) and stages.calibrations:
            # A progressive schedule calibrated stage by stage.
            self.keep(calibration=_merged(stages.calibrations))
        return student

    def _stages(self, student: Any, teacher: Any) -> train.Stages | train.Annealing:
        """What both trainers ask before every step."""
        config = self.recipe.student
        if not self.method.calibrated:
            return train.Annealing(student, self.method, config.steps)
        schedule = train.Schedule(
            tuple(unit.name for unit in binary_units(student)),
            config.steps,
            config.progressive_steps,
            config.order,
            self.recipe.seed,
        )
        return train.Stages(
            student,
            schedule,
            teacher=teacher,
            calibration_data=self._calibration_images(),
            config=self.recipe.calibration,
        )

    def score(self) -> tuple[ModelScore, ...]:
        """Accuracy on the test split of every model the run has by now."""
        scores = []
        for label, name in ((FLOAT, "teacher"), (ONE_SHOT, "calibrated"), (TRAINED, "student")):
            if run_directory.model_path(self.folder, name).exists():
                accuracy = self.accuracy(self.load_model(name))
                scores.append(ModelScore(label, accuracy, self._twin_size(name)))
            if name == "teacher":
                scores += self._score_flatbuffer(INT8, run_directory.INT8)
        scores += self._score_flatbuffer(CONVERTED, "model")
        self.keep(scores=tuple(scores))
        return self.result.scores

    def _score_flatbuffer(self, label: str, name: str) -> list[ModelScore]:
        """Its score, where it is there."""
        if not run_directory.flatbuffer_path(self.folder, name).exists():
            return []
        content = self.flatbuffer(name)
        return [ModelScore(label, self.accuracy(runtime.Runner(content)), len(content))]

    def _twin_size(self, name: str) -> int | None:
        """Size of a model's flatbuffer where it has one under its own name (the teacher)."""
        path = run_directory.flatbuffer_path(self.folder, name)
        return path.stat().st_size if path.exists() else None

    def accuracy(self, model: Any, *, validation: bool = False) -> float:
        """Top-1 accuracy of a Keras model or a `runtime.Runner` on the test split.

        Args:
            model: to be measured.
            validation: measure on the validation split instead.

        Raises:
            ValueError: when the model was made for other images or classes.
        """
        self._check_fits(model)
        part = self.images.validation if validation else self.images.test
        if isinstance(model, runtime.Runner):
            return train.accuracy(
                lambda images: model.predict(images.numpy()), part(_EVALUATION_BATCH)
            )
        infer = tf.function(lambda images: model(images, training=False))
        return train.accuracy(infer, part(_EVALUATION_BATCH))

    def _check_fits(self, model: Any) -> None:
        takes = model.input_shape[1:] if isinstance(model, keras.Model) else model.input_shape
        images, classes = self.images.image_shape, self.images.classes
        if takes != images or model.output_shape[-1] != classes:
            raise ValueError(
                f"The model maps images {takes} to {model.output_shape[-1]} classes; the data set "
                f"{self.images.name!r} has images {images} of {classes} classes."
            )

    def convert(
        self,
        *,
        fold: bool = True,
        ends: convert.Ends = "float32",
        io: convert.Ends = "float32",
    ) -> tuple[convert.Conversion, ParityReport]:
        """Convert the trained student, and its teacher for comparison: `deployment.convert_run`."""
        return deployment.convert_run(self, fold=fold, ends=ends, io=io)

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

    def _train(
        self,
        model: Any,
        name: str,
        title: str,
        steps: int,
        batch_size: int,
        optimizer: Any,
        *,
        log_steps: int,
        stages: Any = None,
        also: Sequence[train.BeforeStep] = (),
    ) -> tuple[Any, ...]:
        """Train under a monitor that keeps checkpoints under `name`; the logged curve.

        `also` is asked before every step, after the stages.
        """
        started = time.perf_counter()
        validation = self.images.validation(_EVALUATION_BATCH)
        infer = tf.function(lambda images: model.student(images, training=False))
        with train.Monitor(
            title,
            steps,
            log_steps=log_steps,
            log_dir=self.folder / "logs" / title.replace(" ", "-"),
            console=self.console,
            validate=lambda: train.accuracy(infer, validation),
            checkpoint=train.Checkpoint(
                model.student, run_directory.checkpoint_path(self.folder, name)
            ),
        ) as monitor:
            if stages is not None:
                stages.on_stage = monitor.stage
            train.train(
                model,
                self.images.train(batch_size),
                steps,
                optimizer,
                monitor,
                stages=None if stages is None else train.InTurn(stages, *also),
                trainer=self.recipe.student.trainer,
            )
        self._timed(title, time.perf_counter() - started)
        return tuple(monitor.points)

    def _recompute_batchnorm(self, model: Any, batch_size: int) -> None:
        """On images augmented as in training, whose statistics the weights were trained with."""
        images = self.images.train(batch_size)
        train.recompute_batchnorm(model, images, self.recipe.student.batchnorm_batches)

    def _calibration_images(self) -> Any:
        config = self.recipe.calibration
        return self.images.calibration(config.batch_size, config.batches)

    def calibration_array(self) -> Any:
        """The images that calibration sees, as one array."""
        return tf.concat([images for images, _ in self._calibration_images()], axis=0).numpy()

    def test_images(self, count: int) -> Any:
        """The first `count` test images as one array; 0 is all."""
        test = self.images.test(_EVALUATION_BATCH).unbatch()
        chosen = test.take(count) if count else test
        return tf.stack([image for image, _ in chosen]).numpy()

    def _timed(self, phase: str, seconds: float) -> None:
        self.keep(seconds={**self.result.seconds, phase: round(seconds, 1)})

    def keep(self, **figures: Any) -> None:
        """Take new figures into the result, and keep them on disk."""
        self.result = dataclasses.replace(self.result, **figures)
        report.save(self.result, self.folder)

    def _say(self, text: str) -> None:
        if self.console is not None:
            self.console.print(text, highlight=False, soft_wrap=True)


def _merged(calibrations: Sequence[CalibrationResult]) -> CalibrationResult:
    """Several calibrations of parts of a network as one."""
    return CalibrationResult(
        tuple(layer for result in calibrations for layer in result.layers),
        max(result.images for result in calibrations),
        sum(result.seconds for result in calibrations),
    )
