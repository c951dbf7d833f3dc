"""One training or calibration of a run: watched, and the training kept on disk and gone on with."""

from collections.abc import Sequence
from typing import Any

from bitat_tf import run_directory, termination, train
from bitat_tf.results import CalibrationResult
from bitat_tf.train import strategy, workers
from bitat_tf.train.evaluate import EVALUATION_BATCH, inference


def carry_out(
    run: Any,
    model: train.Distilled,
    name: str,
    title: str,
    *,
    steps: int,
    batch_size: int,
    optimizer: Any,
    log_steps: int,
    stages: Any = None,
    also: Sequence[train.BeforeStep] = (),
) -> tuple[Any, ...]:
    """Train a model of a run, whose time is put into its figures.

    A run that is resumed goes on from the last state it kept, if there is one.

    Args:
        run: an `experiment.Run`.
        model: what to train, as it is before the first step.
        name: of its files in the run directory.
        title: of the progress display, the logs, and the time.
        steps: optimizer steps in all.
        batch_size: images per step.
        optimizer: of no steps yet.
        log_steps: steps between two points of the curve.
        stages: asked before every step.
        also: asked before every step, after the stages.

    Returns:
        The logged curve.

    Raises:
        train.TrainingError: when the loss is no longer finite, or the data end early.
        OSError: when the disk is full; what was kept before stays.
        termination.Terminated: when SIGTERM came, once the state is kept.
    """
    config = run.recipe.checkpoint
    validation = run.images.validation(EVALUATION_BATCH)
    infer = inference(model.student)
    checkpoint = train.Checkpoint(
        model.student,
        run_directory.checkpoint_path(run.folder, name),
        run_directory.best_path(run.folder, name) if config.best else None,
    )
    monitor = train.Monitor(
        title,
        steps,
        log_steps=log_steps,
        batch_size=batch_size,
        events=events(run, title, model.student),
        console=run.console,
        validate=lambda: train.accuracy(infer, validation),
        checkpoint=checkpoint,
        on_point=None if run.progress is None else run.progress.point,
    )
    parts: dict[str, train.Remembering] = {"monitor": monitor}
    if stages is not None:
        stages.on_stage = monitor.stage
        if isinstance(stages, train.Stages):
            stages.progress, stages.on_calibration = monitor.calibrating, monitor.calibrated
        parts["stages"] = stages
    with monitor, termination.postponed() as requested:
        keeper = train.Keeper(
            run_directory.states_path(run.folder, name),
            model.student,
            optimizer,
            config,
            parts,
            requested=lambda: workers.any_of(requested()),
            say=monitor.say,
        )
        done = 0
        if run.resumed:
            done = _resume(keeper, monitor, stages)
        else:
            keeper.forget()
        train.train(
            model,
            strategy.batches(
                run.strategy, run.images.train(batch_size, first_step=done), batch_size
            ),
            steps,
            optimizer,
            monitor,
            stages=None if stages is None else train.InTurn(stages, *also),
            trainer=run.recipe.student.trainer,
            keeper=keeper,
        )
    run.keep(seconds={**run.result.seconds, title: round(monitor.seconds, 1)})
    return tuple(monitor.points)


def calibrate(run: Any, student: Any, teacher: Any) -> CalibrationResult:
    """Calibrate a run's student in place, shown layer by layer.

    Args:
        run: an `experiment.Run`.
        student: functional model with binary units.
        teacher: its trained float twin.

    Returns:
        A record of every layer's unexplained variance.
    """
    with train.layer_display("calibration", run.console) as shown:

        def layer(name: str, done: int, total: int) -> None:
            shown(name, done, total)
            if run.progress is not None:
                run.progress.layer(name, done, total)

        result = train.calibrate(
            student,
            teacher,
            run.calibration_images(),
            config=run.recipe.calibration,
            progress=layer,
        )
    log = events(run, "calibration", student)
    if log is not None:
        with log:
            log.calibration(result, 0)
    return result


def events(run: Any, title: str, model: Any) -> train.Events | None:
    """The TensorBoard run of a training or a calibration; None where none is wanted.

    Args:
        run: an `experiment.Run`.
        title: of what is done.
        model: that it is done to.
    """
    if not run.recipe.log.tensorboard:
        return None
    return train.Events(run.folder / "logs" / title.replace(" ", "-"), model)


def _resume(keeper: train.Keeper, monitor: train.Monitor, stages: Any) -> int:
    done = keeper.restore()
    if done:
        monitor.resumed(done, stages.entered[-1] if stages is not None else None)
    return done
