"""What a run goes through, phase by phase.

Each phase reads what the ones before left in the run directory and leaves one file, or figures,
of its own there last; by them a resumed run knows which phases are over. Between two phases
nothing is handed on in memory, so a resumed run does the very same as one that was never
interrupted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bitat_tf import deployment, progress, run_directory, session, train
from bitat_tf._keras import keras
from bitat_tf.graph import binary_units
from bitat_tf.results import CalibrationResult
from bitat_tf.train import rendezvous, strategy


@dataclass(frozen=True)
class Phase:
    """A part of a run that is done wholly or not at all.

    Attributes:
        name: for the user.
        is_over: whether a run has it behind it.
        carry_out: does it.
        together: whether all workers do it, under the run's strategy, or the chief alone.
    """

    name: str
    is_over: Callable[[Any], bool]
    carry_out: Callable[[Any], Any]
    together: bool = False


def carry_out(run: Any, phases: Sequence[Phase]) -> bool:
    """Do the phases that are not over yet, in order.

    Args:
        run: an `experiment.Run`.
        phases: what to do.

    Returns:
        Whether there was any.

    Raises:
        ValueError: when another process is at work in the run directory.
        LostWorker: when another worker ends before its time.
    """
    worked = False
    recorder = progress.Recorder(run.folder, [phase.name for phase in phases])
    with run_directory.locked(run.folder), rendezvous.attended(run.strategy):
        run.progress = recorder
        for phase in phases:
            if worked or not phase.is_over(run):
                worked = True
                recorder.begin(phase.name)
                keras.backend.clear_session()  # names and memory as in a fresh process
                if phase.together:
                    with strategy.scope(run.strategy):
                        rendezvous.meet(phase.name)
                        phase.carry_out(run)
                elif run.chief:
                    phase.carry_out(run)
        with strategy.scope(run.strategy):
            rendezvous.meet("end")
        recorder.end()
        run.progress = None
    return worked


def train_teacher(run: Any) -> Any:
    """Train the float twin, recompute its BatchNorm, and save it."""
    config = run.recipe.teacher
    keras.utils.set_random_seed(run.recipe.seed)
    teacher = run.build_model(binary=False)
    per_epoch = max(1, run.images.train_images // config.batch_size)
    steps = config.epochs * per_epoch
    points = session.carry_out(
        run,
        train.Distilled(teacher, scale=run.recipe.scale),
        "teacher",
        "float teacher",
        steps=steps,
        batch_size=config.batch_size,
        optimizer=train.cosine_adam(config.learning_rate, steps, config.warmup_steps),
        log_steps=per_epoch,
    )
    _recompute_batchnorm(run, teacher, config.batch_size)
    run.keep(teacher_curve=points)
    run_directory.save_model(run.folder, "teacher", teacher)
    return teacher


def calibrate(run: Any, teacher: Any) -> Any:
    """Binarize a student in closed form on the teacher's weights, and save it."""
    keras.utils.set_random_seed(run.recipe.seed)
    student = run.build_model(binary=True)
    result = session.calibrate(run, student, teacher)
    run.say(f"calibration: {result.images} images in {result.seconds:.1f} s")
    run.keep(calibration=result)
    run_directory.save_model(run.folder, "calibrated", student)
    return student


def start_student(run: Any, teacher: Any) -> Any:
    """The student as its method's training starts: as calibrated, or of the teacher's weights."""
    if run.method.calibrated:
        return run.load_model("calibrated")
    keras.utils.set_random_seed(run.recipe.seed)
    student = run.build_model(binary=True)
    train.copy_float_weights(student, teacher)
    return student


def train_student(run: Any, student: Any, teacher: Any) -> Any:
    """Train the student that `start_student` made, recompute its BatchNorm, and save it."""
    config, method = run.recipe.student, run.method
    keras.utils.set_random_seed(run.recipe.seed)
    stages = _stages(run, student, teacher)
    weight = config.distill_weight if method.distill_weight is None else method.distill_weight
    decay = None
    also: Sequence[train.BeforeStep] = ()
    if isinstance(stages, train.Annealing):
        decay = stages.weight_decay
    else:
        images, batches = run.calibration_images(), run.recipe.calibration.batches
        also = train.option_steps(student, stages.schedule, config, images, batches)
    points = session.carry_out(
        run,
        train.Distilled(
            student,
            teacher,
            weight,
            config.temperature,
            decay,
            config.quantization_loss,
            config.feature_weight,
            run.recipe.scale,
        ),
        "student",
        "binary student",
        steps=config.steps,
        batch_size=config.batch_size,
        optimizer=method.optimizer(config.learning_rate, config.steps),
        log_steps=config.log_steps,
        stages=stages,
        also=also,
    )
    _recompute_batchnorm(run, student, config.batch_size)
    run.keep(student_curve=points, stages=tuple(stages.entered))
    if isinstance(stages, train.Stages) and stages.calibrations:
        # A progressive schedule calibrated stage by stage.
        run.keep(calibration=_merged(stages.calibrations))
    run_directory.save_model(run.folder, "student", student)
    return student


def _stages(run: Any, student: Any, teacher: Any) -> train.Stages | train.Annealing:
    """What both trainers ask before every step."""
    config = run.recipe.student
    if not run.method.calibrated:
        return train.Annealing(student, run.method, config.steps)
    schedule = train.Schedule(
        tuple(unit.name for unit in binary_units(student)),
        config.steps,
        config.progressive_steps,
        config.order,
        run.recipe.seed,
    )
    return train.Stages(
        student,
        schedule,
        teacher=teacher,
        calibration_data=run.calibration_images(),
        config=run.recipe.calibration,
    )


def _recompute_batchnorm(run: Any, model: Any, batch_size: int) -> None:
    """On images augmented as in training, whose statistics the weights were trained with."""
    images = run.images.train(batch_size)
    train.recompute_batchnorm(model, images, run.recipe.student.batchnorm_batches)


def _merged(calibrations: Sequence[CalibrationResult]) -> CalibrationResult:
    """Several calibrations of parts of a network as one."""
    return CalibrationResult(
        tuple(layer for result in calibrations for layer in result.layers),
        max(result.images for result in calibrations),
        sum(result.seconds for result in calibrations),
    )


def _student_phase(run: Any) -> None:
    teacher = run.load_model("teacher")
    train_student(run, start_student(run, teacher), teacher)


def _saved(name: str) -> Callable[[Any], bool]:
    return lambda run: run_directory.model_path(run.folder, name).exists()


#: From the recipe to a trained student, its accuracy and its report.
TRAINING = (
    Phase("teacher", _saved("teacher"), lambda run: train_teacher(run), together=True),
    Phase(
        "calibration",
        lambda run: not run.method.calibrated or _saved("calibrated")(run),
        lambda run: calibrate(run, run.load_model("teacher")),
        together=True,
    ),
    Phase("student", _saved("student"), _student_phase, together=True),
)
_SCORES = Phase("scores", lambda run: bool(run.result.scores), lambda run: run.score())
_REPORT = Phase("report", lambda run: (run.folder / "report.md").exists(), lambda run: run.report())

#: `bitat train`: a trained student, scored.
TRAIN = (*TRAINING, _SCORES, _REPORT)

#: `bitat demo`: and its flatbuffer, scored, and timed beside its rivals.
DEMO = (
    *TRAINING,
    # The flatbuffer carries the student's accuracy.
    Phase(
        "accuracy",
        lambda run: bool(run.result.scores) or deployment.is_converted(run),
        lambda run: run.score(),
    ),
    Phase("conversion", deployment.is_converted, lambda run: run.convert()),
    _SCORES,
    Phase("latency", lambda run: bool(run.result.latency), lambda run: run.benchmark()),
    _REPORT,
)
